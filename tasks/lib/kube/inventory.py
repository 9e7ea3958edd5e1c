"""What each component has put into the cluster, kept in the cluster: ConfigMap `inventory-<component>`.

It is widened before anything is applied and set exactly after, so that a run killed at any point loses track of
nothing. Its digest is that of what was applied last; while an apply is under way it is empty.
"""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from tasks.lib import names
from tasks.lib.component import Changes
from tasks.lib.errors import NotAvailable, Refused
from tasks.lib.kube import parallel, prune
from tasks.lib.kube.api import Cluster, Key, Obj, Ref, Resource
from tasks.lib.kube.desired import Item, Record, total

REMOVE_S = 180.0
"""Seconds for all that a component has to go away."""

_NOT_FOUND, _CONFLICT = 404, 409
_PLATFORM = "run"
"""The owner of the platform's namespace: no component, since all of them keep their inventory there."""

_MADE_BY_OTHERS = frozenset({"Endpoints", "EndpointSlice"})
"""Kinds that controllers make and label as the Service is labelled; they go when it goes."""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What a component has in the cluster. A record is missing for what was not applied to its end."""

    component: str
    digest: str = ""
    entries: Mapping[Key, tuple[Ref, Record | None]] = field(default_factory=dict)

    @property
    def refs(self) -> list[Ref]:
        """Every object, in a stable order."""
        return sorted((ref for ref, _ in self.entries.values()), key=lambda ref: ref.key)

    def record(self, ref: Ref) -> Record | None:
        """What is remembered of an object."""
        return self.entries.get(ref.key, (ref, None))[1]

    def beside(self, items: Iterable[Item]) -> list[Ref]:
        """Return what is in the inventory and no longer wanted."""
        wanted = {item.ref.key for item in items}
        return [ref for ref in self.refs if ref.key not in wanted]

    def widened(self, items: Iterable[Item], settled: Iterable[Key]) -> "Inventory":
        """Return the inventory for the time of an apply: all that was and all that will be.

        Only what is settled, and so will not be written, keeps its record.
        """
        stay = set(settled)
        before = {key: (ref, known if key in stay else None) for key, (ref, known) in self.entries.items()}
        coming = {item.ref.key: (item.ref, self.record(item.ref) if item.ref.key in stay else None) for item in items}
        return replace(self, digest="", entries={**before, **coming})

    def exact(self, items: Iterable[Item], records: Mapping[Key, Record | None], kept: Iterable[Ref]) -> "Inventory":
        """Return the inventory after an apply: what is wanted, and what we had to leave."""
        items = list(items)
        entries = {ref.key: (ref, None) for ref in kept} | {
            item.ref.key: (item.ref, records.get(item.ref.key, self.record(item.ref))) for item in items
        }
        return replace(self, digest=total(items), entries=entries)


def name(component: str) -> str:
    """Return the name of a component's inventory."""
    return f"inventory-{component}"


def _ref(component: str) -> Ref:
    return Ref("v1", "ConfigMap", names.PLATFORM_NAMESPACE, name(component))


def components(kube: Cluster) -> list[str]:
    """Return the names of the components that have an inventory."""
    maps = kube.list("v1", "ConfigMap", names.PLATFORM_NAMESPACE, names.COMPONENT_LABEL, heads=True)
    found = [str(each["metadata"]["name"]) for each in maps]
    return [each.removeprefix(name("")) for each in found if each.startswith(name(""))]


def load(kube: Cluster, component: str) -> Inventory:
    """Return what a component has; an empty inventory when it has none.

    One that cannot be read (edited by hand) is made again from the labels in the cluster.
    """
    found = kube.get(_ref(component))
    if found is None:
        return Inventory(component=component)
    try:
        return _parse(component, found.get("data") or {})
    except (ValueError, KeyError, TypeError):
        return _from_labels(kube, component)


def _parse(component: str, data: Mapping[str, str]) -> Inventory:
    entries: dict[Key, tuple[Ref, Record | None]] = {}
    for line in data["objects"].splitlines():
        entry = json.loads(line)
        api_version, kind, namespace, called = entry["ref"]
        known = entry.get("applied")
        ref = Ref(api_version, kind, namespace or None, called)
        entries[ref.key] = (ref, Record(**known) if known else None)
    return Inventory(component=component, digest=data["digest"], entries=entries)


def _from_labels(kube: Cluster, component: str) -> Inventory:
    found = everything(kube, selector=f"{names.COMPONENT_LABEL}={component}")
    mine = [ref for ref in found if ref.kind not in _MADE_BY_OTHERS and ref != _ref(component)]
    return Inventory(component=component, entries={ref.key: (ref, None) for ref in mine})


def save(kube: Cluster, inventory: Inventory) -> None:
    """Write an inventory; make the platform's namespace when it is missing."""
    obj = _object(inventory)
    try:
        kube.apply(obj)
    except Refused as error:
        if error.status != _NOT_FOUND:
            raise
        _make_namespace(kube)
        kube.apply(obj)


def _object(inventory: Inventory) -> Obj:
    lines = []
    for ref in inventory.refs:
        known = inventory.record(ref)
        entry = {"ref": [ref.api_version, ref.kind, ref.namespace or "", ref.name]}
        lines.append(json.dumps({**entry, **({"applied": vars(known)} if known else {})}, separators=(",", ":")))
    ref, labels = _ref(inventory.component), {names.COMPONENT_LABEL: inventory.component}
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace, "labels": labels},
        "data": {"digest": inventory.digest, "objects": "\n".join(lines)},
    }


def _make_namespace(kube: Cluster) -> None:
    meta = {"name": names.PLATFORM_NAMESPACE, "labels": {names.COMPONENT_LABEL: _PLATFORM}}
    try:
        kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    except Refused as error:
        if error.status != _CONFLICT:
            raise


def remove(
    kube: Cluster,
    component: str,
    *,
    volumes: bool = False,
    force: bool = False,
    timeout_s: float = REMOVE_S,
    say: Callable[[str], None] = lambda _: None,
    cancel: threading.Event | None = None,
) -> Changes:
    """Delete all that a component has, in reverse order, wait for it to be gone, then delete its inventory.

    What must stay (volumes unless `volumes`, objects marked keep, definitions and namespaces that others use unless
    `force`) is returned as kept with the reason, and stays in the inventory. Raises NotReady naming who holds what
    will not go.
    """
    cancel = cancel or threading.Event()
    before = load(kube, component)
    if not before.entries:  # an inventory that was lost; its objects still carry the label
        before = _from_labels(kube, component)
    swept = prune.sweep(
        kube, component, before.refs, volumes=volumes, force=force, timeout_s=timeout_s, say=say, cancel=cancel
    )
    if swept.kept:
        save(kube, before.exact((), {}, swept.kept))
    else:
        kube.delete(_ref(component))
    return Changes(deleted=[str(ref) for ref in swept.deleted], kept=swept.reasons)


def remove_namespace(
    kube: Cluster,
    *,
    timeout_s: float = REMOVE_S,
    say: Callable[[str], None] = lambda _: None,
    cancel: threading.Event | None = None,
) -> Changes:
    """Delete the platform's namespace, once no component has an inventory there and nobody else works in it.

    The lease of the run lies in it: release that first, or its renewal makes the namespace anew.
    """
    ref = Ref("v1", "Namespace", None, names.PLATFORM_NAMESPACE)
    maps = kube.list("v1", "ConfigMap", names.PLATFORM_NAMESPACE, names.COMPONENT_LABEL, heads=True)
    if maps:
        held = ", ".join(sorted(each["metadata"]["labels"][names.COMPONENT_LABEL] for each in maps))
        return Changes(kept=[f"{ref}: has what is left of {held}"])
    swept = prune.sweep(kube, _PLATFORM, [ref], timeout_s=timeout_s, say=say, cancel=cancel or threading.Event())
    return Changes(deleted=[str(each) for each in swept.deleted], kept=swept.reasons)


def leftovers(kube: Cluster) -> list[Ref]:
    """Return everything, of all API groups, that still carries our label."""
    return everything(kube, selector=names.COMPONENT_LABEL)


def everything(
    kube: Cluster,
    namespace: str | None = None,
    selector: str = "",
    *,
    on_unread: Callable[[str], None] | None = None,
    jobs: int = parallel.JOBS,
) -> list[Ref]:
    """Return every object that can be listed and deleted, of all API groups, sorted. Events do not count.

    An API group that cannot be asked (a broken APIService) is told to `on_unread`; without it NotAvailable is raised,
    since a list with a hole proves nothing.
    """
    resources, failed = kube.resources()
    for group, cause in failed.items():
        if on_unread is None:
            raise NotAvailable(
                f"the objects of {group} cannot be listed",
                facts={"cause": cause},
                hint="kubectl get apiservices   shows which one does not answer",
            )
        on_unread(f"{group}: {cause}")

    def read(resource: Resource) -> list[Ref]:
        found = kube.list(resource.api_version, resource.kind, namespace, selector, heads=True)
        return [Ref.of(each) for each in found]

    counted = [
        each
        for each in resources
        if {"list", "delete"} <= each.verbs and each.kind != "Event" and (each.namespaced or namespace is None)
    ]
    return sorted({ref for refs in parallel.each(read, counted, jobs) for ref in refs}, key=lambda ref: ref.key)
