"""What is wanted, made ready to apply, and how it compares with what is there.

The quick comparison. After each apply the inventory records, for every object, a digest of what we sent, its uid, and
a digest of our own entry in `metadata.managedFields`. Later, an object with the same three needs no apply. That is
sound because the API server itself keeps the entry: whoever changes or removes a field that we own takes it out of
our entry (structured-merge-diff, `Updater.update`), a scale through the subresource included, and any write under
our own name that changes something moves the entry's time. Fields of others do not touch it, and an apply would not
touch them either. Records of what is about to be written are removed first, so that a killed run leaves none behind
that lie. What it does not see is a mutating webhook that would answer differently today. Secrets are compared in
full each time: nothing derived from them is stored.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.lib import names
from tasks.lib.errors import BadInput
from tasks.lib.kube import kinds
from tasks.lib.kube.api import Cluster, Key, Obj, Ref

_NEVER_EQUAL = frozenset({"creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"})
_MOST_PATHS = 6


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was true of an object right after we applied it."""

    desired: str
    uid: str
    owned: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """One object to apply. `once`: made when it is not there, and never touched after."""

    ref: Ref
    obj: Obj
    once: bool
    desired: str

    @property
    def label(self) -> str:
        """The component that the object says it belongs to."""
        return str(self.obj["metadata"]["labels"][names.COMPONENT_LABEL])

    @property
    def kind(self) -> tuple[str, str]:
        """Group and kind."""
        return (self.ref.group, self.ref.kind)


def prepare(kube: Cluster, objects: Iterable[Obj], create_only: Iterable[Obj], component: str) -> list[Item]:
    """Return the objects labelled as the component's (unless they carry the label already) and in their right place.

    Raises BadInput for an object that is there twice, or that needs a namespace and names none.
    """
    given = [(obj, False) for obj in objects] + [(obj, True) for obj in create_only]
    scopes = _scopes(kube, [obj for obj, _ in given])
    items: dict[Key, Item] = {}
    for each, once in given:
        obj = _placed(each, component, scopes[each["apiVersion"], each["kind"]])
        ref = Ref.of(obj)
        if ref.key in items:
            raise BadInput(f"{component}: {ref} is there twice")
        items[ref.key] = Item(ref=ref, obj=obj, once=once, desired=_desired(obj, once=once))
    return list(items.values())


def _scopes(kube: Cluster, objects: Sequence[Obj]) -> dict[tuple[str, str], bool | None]:
    """Say which kinds belong in a namespace: the definitions among the objects know, and the cluster. None: nobody."""
    found: dict[tuple[str, str], bool | None] = {}
    for obj in objects:
        if (obj["apiVersion"].rpartition("/")[0], obj["kind"]) == kinds.DEFINITION:
            spec = obj["spec"]
            for version in spec["versions"]:
                key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                found[key] = spec["scope"] == "Namespaced"
    for key in {(obj["apiVersion"], obj["kind"]) for obj in objects} - set(found):
        resource = kube.resource(*key)
        found[key] = resource.namespaced if resource else None
    return found


def _placed(obj: Obj, component: str, namespaced: bool | None) -> Obj:  # noqa: FBT001 (three-valued)
    meta = dict(obj["metadata"])
    meta["labels"] = {names.COMPONENT_LABEL: component, **(meta.get("labels") or {})}
    if namespaced is False:
        meta.pop("namespace", None)
    if namespaced and not meta.get("namespace"):
        raise BadInput(f"{component}: {obj['kind']} {meta['name']} names no namespace")
    return {**obj, "metadata": meta}


def _desired(obj: Obj, *, once: bool) -> str:
    secret = (obj["apiVersion"].rpartition("/")[0], obj["kind"]) == kinds.SECRET
    return "" if once or secret else _digest(obj)


def _digest(value: Any) -> str:  # noqa: ANN401 (JSON)
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


def total(items: Iterable[Item]) -> str:
    """Return one digest for all that is wanted, whatever the order. Secrets and what is made once count by name."""
    return _digest(sorted([*item.ref.key, item.ref.api_version, item.desired] for item in items))


def owned(obj: Obj) -> str:
    """Return a digest of what the API server says we own of an object; empty when we own nothing."""
    for entry in obj["metadata"].get("managedFields") or []:
        ours = entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == "Apply"
        if ours and not entry.get("subresource"):
            return _digest([entry.get("apiVersion"), entry.get("time"), entry.get("fieldsV1")])
    return ""


def record(item: Item, live: Obj) -> Record | None:
    """Return what to remember of an object just applied."""
    mine = owned(live)
    if not item.desired or not mine:
        return None
    return Record(desired=item.desired, uid=live["metadata"].get("uid", ""), owned=mine)


def settled(item: Item, head: Obj | None, known: Record | None) -> bool:
    """Whether an apply would change nothing, judging by the metadata of what is there."""
    if head is None or head["metadata"].get("deletionTimestamp"):
        return False
    if item.once:
        return True
    if known is None or not item.desired or item.kind == ("batch", "Job"):  # a Job that failed is made anew
        return False
    return known == Record(desired=item.desired, uid=head["metadata"].get("uid", ""), owned=owned(head))


def paths(before: Obj, after: Obj) -> tuple[str, ...]:
    """Name the fields that differ, those aside that the API server moves by itself."""
    found = list(_differences(_comparable(before), _comparable(after), ""))
    return (*found[:_MOST_PATHS], f"and {len(found) - _MOST_PATHS} more") if len(found) > _MOST_PATHS else tuple(found)


def _comparable(obj: Obj) -> Obj:
    meta = {key: value for key, value in obj["metadata"].items() if key not in _NEVER_EQUAL}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": meta}


def _differences(before: Any, after: Any, where: str) -> Iterator[str]:  # noqa: ANN401 (JSON)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            step = f"{where}.{key}" if "." not in key and "/" not in key else f'{where}["{key}"]'
            yield from _differences(before.get(key), after.get(key), step)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            name = one.get("name") if isinstance(one, Mapping) else None
            yield from _differences(one, other, f"{where}[{name or index}]")
    elif before != after:
        yield where.lstrip(".")
