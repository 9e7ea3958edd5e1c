"""Objects that a check makes for a while: probe pods, policies, a namespace; and what it takes away for a while.

Each is labelled, and written into an inventory of its own before it is made. So whatever becomes of a run, nothing it
made stays: the next `verify` removes what carries the label before it does anything else, and `up` and `down` remove
what is in an inventory that no component has (converge.orphans).
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from tasks.lib import names
from tasks.lib.errors import BoxError
from tasks.lib.kube import inventory, wait
from tasks.lib.kube.api import Cluster, Obj, Ref
from tasks.lib.kube.inventory import Inventory

LABEL = f"{names.DOMAIN}/verify"
PREFIX = "verify-"

_BORROWED = Ref("v1", "ConfigMap", names.PLATFORM_NAMESPACE, "verify-borrowed")

GONE_S = 120.0
"""Seconds for what was deleted to be gone."""

_KINDS = (
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "Gateway"),
    ("cert-manager.io/v1", "Certificate"),
    ("v1", "Service"),
    ("v1", "Pod"),
    ("v1", "Secret"),
    ("v1", "Namespace"),
)
"""What checks make, in the order in which it is deleted: an allowance must not outlive what it was made for.

Other kinds are made in namespaces of ours alone, and go with them.
"""


class Scratch:
    """The objects of one check, gone again when the `with` block is left. `owner` names the check."""

    def __init__(self, kube: Cluster, owner: str, cancel: threading.Event) -> None:
        self._kube, self._cancel = kube, cancel
        self.component = f"{PREFIX}{owner}"
        self._made: dict[Ref, str] = {}

    def add(self, obj: Obj) -> Ref:
        """Make an object. Raises Refused when it is not admitted."""
        self._note([obj])
        return self._write(obj, self._kube.create)

    def put(self, *objects: Obj) -> None:
        """Make objects, or change those of ours that are there. Raises Refused when one is not admitted."""
        self._note(objects)
        for each in objects:
            self._write(each, self._kube.apply)

    def _note(self, objects: Iterable[Obj]) -> None:
        """Write down what is about to be made: from here on it may be there, whatever we hear of it."""
        coming = {ref: "" for ref in map(Ref.of, objects) if ref not in self._made}
        if coming:
            self._made |= coming
            entries = {each.key: (each, None) for each in self._made}
            inventory.save(self._kube, Inventory(component=self.component, entries=entries))

    def _write(self, obj: Obj, write: Callable[[Obj], Obj]) -> Ref:
        labels = {**(obj["metadata"].get("labels") or {}), LABEL: "true", names.COMPONENT_LABEL: self.component}
        labelled = {**obj, "metadata": {**obj["metadata"], "labels": labels}}
        ref = Ref.of(labelled)
        self._made[ref] = write(labelled)["metadata"]["uid"]
        return ref

    def take_away(self, ref: Ref) -> None:
        """Delete an object."""
        self._kube.delete(ref)
        self._made.pop(ref, None)

    def borrow(self, original: Obj, changed: Obj | None) -> None:
        """Change an object of the platform, or delete it (None), until `give_back`. It is written down before.

        `original` is what its component applies. Whatever becomes of this run, the next one puts it back.
        """
        self._kube.apply(_note_of(original))
        if changed is None:
            self._kube.delete(Ref.of(original))
        else:
            self._kube.apply(changed)

    def give_back(self, original: Obj) -> None:
        """Put back what was borrowed."""
        self._kube.apply(original)
        self._kube.delete(_BORROWED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(BoxError) if error else contextlib.nullcontext():  # the first error is the one to tell
            self.close()

    def close(self) -> None:
        """Remove everything, and wait until it is gone."""
        if not self._made:
            return
        made = _to_delete(self._made)
        made |= _secrets(self._kube, made)
        _delete(self._kube, made)
        there = {ref: uid for ref, uid in made.items() if uid}
        wait.until_gone(self._kube, there, GONE_S, cancel=self._cancel)
        self._kube.delete(_inventory(self.component))


def sweep(kube: Cluster, say: Callable[[str], None], cancel: threading.Event, owner: str = "") -> list[str]:
    """Remove what an earlier run left behind, and return its names; with `owner` only what that one made.

    What was borrowed is put back. Raises NotReady when something does not go.
    """
    if not owner:
        _put_back(kube, say)
    left: dict[Ref, str] = {}
    selector = f"{LABEL},{names.COMPONENT_LABEL}={PREFIX}{owner}" if owner else LABEL
    for api_version, kind in _KINDS:
        found = kube.list(api_version, kind, selector=selector, heads=True)
        left |= {Ref.of(each): each["metadata"]["uid"] for each in found}
    left |= _secrets(kube, left)
    _delete(kube, left)
    wait.until_gone(kube, left, GONE_S, say, cancel)
    maps = kube.list("v1", "ConfigMap", names.PLATFORM_NAMESPACE, names.COMPONENT_LABEL, heads=True)
    for each in maps:
        name = each["metadata"]["name"]
        if name == inventory.name(f"{PREFIX}{owner}") or (not owner and name.startswith(inventory.name(PREFIX))):
            kube.delete(Ref.of(each))
    return [str(ref) for ref in left]


def _to_delete(made: Mapping[Ref, str]) -> dict[Ref, str]:
    """Leave out what goes with a namespace of ours, but for what has to go before it."""
    spaces = {ref.name for ref in made if ref.kind == "Namespace"}
    kinds = {kind for _, kind in _KINDS}
    return {ref: uid for ref, uid in made.items() if ref.kind in kinds or ref.namespace not in spaces}


def _secrets(kube: Cluster, refs: Iterable[Ref]) -> dict[Ref, str]:
    """Return the Secrets of certificates: they have the same name, and would go a moment after them."""
    wanted = [Ref("v1", "Secret", each.namespace, each.name) for each in refs if each.kind == "Certificate"]
    return {ref: found["metadata"]["uid"] for ref in wanted if (found := kube.get(ref, heads=True))}


def _delete(kube: Cluster, refs: Mapping[Ref, str] | Iterable[Ref]) -> None:
    """Ask for the deletion of everything, and go on after a failure: the first one is raised at the end."""
    failed: list[BoxError] = []
    order = [kind for _, kind in _KINDS]
    for ref in sorted(refs, key=lambda each: order.index(each.kind) if each.kind in order else 0):
        try:
            kube.delete(ref)
            if ref.kind == "Namespace":  # nobody waits for the answers for which Knative gives a pod its time
                kube.end_pods(ref.name)
        except BoxError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _put_back(kube: Cluster, say: Callable[[str], None]) -> None:
    if (note := kube.get(_BORROWED)) is not None:
        original = json.loads(note["data"]["original"])
        kube.apply(original)
        kube.delete(_BORROWED)
        say(f"put back {Ref.of(original)}, which an earlier verify had changed")


def _note_of(original: Obj) -> Obj:
    meta = {"name": _BORROWED.name, "namespace": _BORROWED.namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"original": json.dumps(original)}}


def _inventory(component: str) -> Ref:
    return Ref("v1", "ConfigMap", names.PLATFORM_NAMESPACE, inventory.name(component))
