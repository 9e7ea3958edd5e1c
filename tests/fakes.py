"""Stand-ins for the outside world, good enough for unit tests and strict about the rest.

FakeKube is a cluster in a dict. What it does as the real API server does: server-side apply by fields with owners
(maps and lists of named things merge, other lists are whole), resourceVersions that only move when something changes,
uids, generations, finalizers, namespaces and definitions that have to be there, cascading deletion.
"""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tasks.lib import names
from tasks.lib.kube.api import ApiError, Key, NotServed, Obj, Ref, Resource
from tasks.lib.kube.client import Kube
from tests import fields_of
from tests.fields_of import Path

_BUILT_IN = {
    "v1": "Namespace! ConfigMap Secret ServiceAccount Service Pod Event PersistentVolume! PersistentVolumeClaim "
    "ResourceQuota LimitRange Endpoints",
    "apps/v1": "Deployment StatefulSet DaemonSet ReplicaSet",
    "batch/v1": "Job CronJob",
    "rbac.authorization.k8s.io/v1": "Role RoleBinding ClusterRole! ClusterRoleBinding!",
    "networking.k8s.io/v1": "NetworkPolicy",
    "admissionregistration.k8s.io/v1": "ValidatingWebhookConfiguration! MutatingWebhookConfiguration!",
    "apiextensions.k8s.io/v1": "CustomResourceDefinition!",
}
"""Kinds that are always there; those with ! belong to no namespace."""

_VERBS = frozenset({"get", "list", "create", "patch", "delete"})
_DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")


class FakeKube(Kube):
    """A cluster in a dict.

    `calls` lists the requests as (verb, what). `before` is called with each one first: it may raise, or change the
    cluster as someone else would. `answers` are what `raw` returns (or raises) by path; any other path fails the test.
    """

    def __init__(self, *objects: Obj) -> None:  # (not that of Kube: there is no connection)
        self.store: dict[Key, Obj] = {}
        self.owners: dict[Key, dict[str, set[Path]]] = {}
        self.calls: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda _verb, _what: None
        self.answers: dict[str, object] = {}
        self.establishes = True
        self._lock = threading.RLock()
        self._clock = 0
        for obj in objects:
            self.create(obj)
        self.calls.clear()

    # what others do to the cluster

    def edit(self, ref: Ref, path: str, value: object, manager: str = "kubectl-edit") -> None:
        """Change one field by hand ("spec.replicas"); None removes it. Others who own it lose it."""
        with self._lock:
            steps = tuple(path.split("."))
            obj = copy.deepcopy(self.store[ref.key])
            fields_of.put(obj, steps, value)
            self._write(ref, obj, manager, {steps} if value is not None else set(), taken=fields_of.under(steps))

    def report(self, ref: Ref, **status: object) -> None:
        """Set the status as the object's controller does."""
        with self._lock:
            obj = self.store[ref.key]
            obj["status"] = {**obj.get("status", {}), **status}
            self._bump(obj)

    def release(self, ref: Ref) -> None:
        """Take the finalizers off an object."""
        with self._lock:
            obj = self.store[ref.key]
            obj["metadata"].pop("finalizers", None)
            if obj["metadata"].get("deletionTimestamp"):
                self._drop(ref.key)

    def count(self, verb: str) -> int:
        """Return how many requests of a kind were made."""
        return sum(1 for each, _ in self.calls if each == verb)

    # what Kube does

    @property
    def server(self) -> str:
        return "https://fake.example"

    @property
    def context(self) -> str:
        return "fake"

    def version(self) -> str:
        return "v0.0.0-fake"

    def get(self, ref: Ref, *, heads: bool = False) -> Obj | None:
        with self._request("get", str(ref)):
            resource = self.resource(ref.api_version, ref.kind)
            found = self.store.get(_key(ref, resource)) if resource else None
            return _shown(found, heads=heads) if found else None

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        selector: str = "",
        *,
        fields: str = "",
        heads: bool = False,
    ) -> list[Obj]:
        with self._request("list", kind):
            group = api_version.rpartition("/")[0]
            resource = self.resource(api_version, kind)
            inside = namespace if resource and resource.namespaced else None
            return [
                _shown(obj, heads=heads)
                for key, obj in sorted(self.store.items())
                if (key.group, key.kind) == (group, kind)
                and inside in {None, "", key.namespace}
                and fields_of.matches(obj["metadata"].get("labels") or {}, selector)
                and all(fields_of.equals(obj, *each.split("=")) for each in filter(None, fields.split(",")))
            ]

    def apply(self, obj: Obj, *, dry_run: bool = False, force: bool = True, patience_s: float = 0.0) -> Obj:
        ref = Ref.of(obj)
        with self._request("dry-run" if dry_run else "apply", str(ref)):
            self._admit(ref)
            live = self.store.get(ref.key)
            wanted = dict(fields_of.leaves(obj))
            owners = self.owners.get(ref.key, {})
            mine = owners.get(names.FIELD_MANAGER, set())
            merged: Obj = copy.deepcopy(live) if live else {"metadata": {}}
            theirs = set().union(*(paths for who, paths in owners.items() if who != names.FIELD_MANAGER))
            for path in mine - set(wanted) - theirs:
                fields_of.put(merged, path, None)
            for path, value in wanted.items():
                fields_of.put(merged, path, copy.deepcopy(value))
            changed = {path for path in wanted if live is None or fields_of.at(live, path) != wanted[path]}
            if changed & theirs and not force:
                raise ApiError(f"{ref}: conflict", status=409, reason="Conflict", causes=["FieldManagerConflict"])
            if dry_run:
                return _shown(merged)
            same = live is not None and merged == live and mine == set(wanted)
            if not same:
                merged.update(apiVersion=obj["apiVersion"], kind=obj["kind"])
                self._write(ref, merged, names.FIELD_MANAGER, set(wanted), taken=lambda path: path in changed)
            return _shown(self.store[ref.key])

    def create(self, obj: Obj) -> Obj:
        ref = Ref.of(obj)
        with self._request("create", str(ref)):
            self._admit(ref)
            if ref.key in self.store:
                raise ApiError(f"{ref}: already exists", status=409, reason="AlreadyExists")
            self._write(
                ref, copy.deepcopy(obj), "creator", {path for path, _ in fields_of.leaves(obj)}, taken=lambda _: False
            )
            return _shown(self.store[ref.key])

    def delete(self, ref: Ref, propagation: str = "Background", uid: str | None = None) -> bool:
        with self._request("delete", str(ref)):
            obj = self.store.get(ref.key)
            if obj is None:
                return False
            if uid and obj["metadata"]["uid"] != uid:
                raise ApiError(f"{ref}: uid", status=409, reason="Conflict")
            self._doom(ref.key)
            return True

    def served(self, api_version: str, kind: str) -> bool:
        return self.resource(api_version, kind) is not None

    def resource(self, api_version: str, kind: str) -> Resource | None:
        return next((each for each in self._kinds() if (each.api_version, each.kind) == (api_version, kind)), None)

    def resources(self) -> tuple[Sequence[Resource], Mapping[str, str]]:
        return [*self._kinds()], {}

    def end_pods(self, namespace: str) -> None:
        with self._request("end-pods", namespace):
            for key in [key for key in self.store if (key.kind, key.namespace) == ("Pod", namespace)]:
                self.delete(Ref("v1", "Pod", namespace, key.name))

    def raw(self, method: str, path: str, body: Obj | None = None, **_: object) -> Any:
        with self._request(method, path):
            assert path in self.answers, f"the test does not expect {method} {path}"
            answer = self.answers[path]
            if isinstance(answer, Exception):
                raise answer
            return answer

    # inside

    def _request(self, verb: str, what: str) -> threading.RLock:
        self.before(verb, what)
        self.calls.append((verb, what))
        return self._lock

    def _kinds(self) -> Iterator[Resource]:
        for api_version, known in _BUILT_IN.items():
            for kind in known.split():
                yield _resource(api_version, kind.rstrip("!"), namespaced=not kind.endswith("!"))
        for obj in list(self.store.values()):
            conditions = (obj.get("status") or {}).get("conditions") or []
            if obj["kind"] == _DEFINITION[1] and any(each["type"] == "Established" for each in conditions):
                spec = obj["spec"]
                for version in spec["versions"]:
                    scoped = spec["scope"] == "Namespaced"
                    yield _resource(f"{spec['group']}/{version['name']}", spec["names"]["kind"], namespaced=scoped)

    def _admit(self, ref: Ref) -> None:
        resource = self.resource(ref.api_version, ref.kind)
        if resource is None:
            raise NotServed(ref.api_version, ref.kind)
        if not resource.namespaced:
            assert ref.namespace is None, f"{ref} belongs to no namespace"
            return
        home = self.store.get(Key("", "Namespace", "", ref.namespace or ""))
        if home is None:
            message = f'namespaces "{ref.namespace}" not found'
            raise ApiError(f"{ref}: {message}", status=404, reason="NotFound", message=message)
        if home["metadata"].get("deletionTimestamp") and ref.key not in self.store:
            message = f"namespace {ref.namespace} is being terminated"
            raise ApiError(f"{ref}: {message}", status=403, message=message, causes=["NamespaceTerminating"])

    def _write(self, ref: Ref, obj: Obj, manager: str, mine: set[Path], *, taken: Callable[[Path], bool]) -> None:
        live, owners = self.store.get(ref.key), self.owners.setdefault(ref.key, {})
        for who in owners:
            owners[who] = {path for path in owners[who] if who == manager or not taken(path)}
        owners[manager] = mine | (owners.get(manager, set()) if manager != names.FIELD_MANAGER else set())
        meta = obj["metadata"]
        meta.setdefault("uid", f"uid-{self._tick()}")
        if live is None or _body(live) != _body(obj):
            meta["generation"] = meta.get("generation", 0) + 1
        times = {each["manager"]: each["time"] for each in meta.get("managedFields") or []}
        meta["managedFields"] = [_entry(who, paths, times, manager, self._clock) for who, paths in owners.items()]
        self._bump(obj)
        self.store[ref.key] = obj
        if (ref.group, ref.kind) == _DEFINITION and self.establishes and live is None:
            obj["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
        if ref.kind == "Namespace" and live is None:
            obj["status"] = {"phase": "Active"}

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    def _bump(self, obj: Obj) -> None:
        obj["metadata"]["resourceVersion"] = str(self._tick())

    def _doom(self, key: Key) -> None:
        obj = self.store.get(key)
        if obj is None:
            return
        obj["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z"
        inside = [other for other in self.store if self._contains(key, obj, other)]
        for other in inside:
            self._doom(other)
        if key not in self.store:  # the last thing in a namespace took the namespace with it
            return
        if not obj["metadata"].get("finalizers") and not any(other in self.store for other in inside):
            self._drop(key)

    def _contains(self, key: Key, obj: Obj, other: Key) -> bool:
        if key.kind == "Namespace":
            return other.namespace == key.name
        return (key.group, key.kind) == _DEFINITION and (other.group, other.kind) == (
            obj["spec"]["group"],
            obj["spec"]["names"]["kind"],
        )

    def _drop(self, key: Key) -> None:
        uid = self.store.pop(key)["metadata"]["uid"]
        self.owners.pop(key, None)
        for other, obj in list(self.store.items()):
            if any(owner.get("uid") == uid for owner in obj["metadata"].get("ownerReferences") or []):
                self._doom(other)
        home = self.store.get(Key("", "Namespace", "", key.namespace))
        if home and home["metadata"].get("deletionTimestamp"):
            self._doom(Key("", "Namespace", "", key.namespace))


def _resource(api_version: str, kind: str, *, namespaced: bool) -> Resource:
    plural = f"{kind.lower()}s"
    return Resource(api_version=api_version, kind=kind, plural=plural, namespaced=namespaced, verbs=_VERBS)


def _key(ref: Ref, resource: Resource) -> Key:
    return ref.key if resource.namespaced else ref.key._replace(namespace="")


def _shown(obj: Obj, *, heads: bool = False) -> Obj:
    wanted = {"apiVersion", "kind", "metadata"} if heads else set(obj)
    return copy.deepcopy({key: value for key, value in obj.items() if key in wanted})


def _body(obj: Obj) -> Obj:
    return {key: value for key, value in obj.items() if key not in {"metadata", "status"}}


def _entry(who: str, paths: set[Path], times: Mapping[str, str], writer: str, now: int) -> Obj:
    return {
        "manager": who,
        "operation": "Apply" if who == names.FIELD_MANAGER else "Update",
        "time": str(now) if who == writer else times.get(who, str(now)),
        "fieldsV1": {"/".join(path): {} for path in sorted(paths)},
    }
