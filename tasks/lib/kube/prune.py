"""Deletes what is no longer wanted: ours only, in reverse order, never volumes, nothing that others still use."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from tasks.lib import names
from tasks.lib.kube import kinds, parallel, wait
from tasks.lib.kube.api import ApiError, Cluster, Obj, Ref

_CONFLICT = 409
_COLLECT_S = 30.0
"""Seconds for the cluster to collect what our deleted objects have made, before the rest counts as someone's."""

_POLL_S = 0.5
_MOST_NAMED = 3
_DEEPEST = 12


@dataclass(kw_only=True)
class Swept:
    """What was deleted (or would be) and what was kept, with the reason. `lost` carry our label no more."""

    deleted: list[Ref] = field(default_factory=list)
    kept: dict[Ref, str] = field(default_factory=dict)
    lost: dict[Ref, str] = field(default_factory=dict)

    @property
    def reasons(self) -> list[str]:
        """What stays, and why, in words."""
        return [f"{ref}: {reason}" for ref, reason in {**self.kept, **self.lost}.items()]


def foresee(kube: Cluster, component: str, refs: Iterable[Ref]) -> Swept:
    """Return what `sweep` would do. Changes nothing."""
    swept = Swept()
    guard = _Guard(kube, component, volumes=False)
    for ref, head, reason, ours in parallel.each(lambda ref: _judge(kube, component, ref, volumes=False), list(refs)):
        if head is None:
            continue
        why = reason or guard.users(ref)
        if why:
            (swept.kept if ours else swept.lost)[ref] = why
        else:
            swept.deleted.append(ref)
    return swept


def sweep(
    kube: Cluster,
    component: str,
    refs: Iterable[Ref],
    *,
    protect: frozenset[str] = frozenset(),
    volumes: bool = False,
    force: bool = False,
    timeout_s: float,
    say: Callable[[str], None],
    cancel: threading.Event,
) -> Swept:
    """Delete the objects, wave by wave in reverse, and wait for each wave to be gone.

    `protect` are uids that must not be touched (the same object under another name of its kind). `volumes` deletes
    volumes too, `force` what others use. Raises NotReady when something does not go within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    swept = Swept()
    by_wave: dict[int, list[Ref]] = {}
    for ref in refs:
        by_wave.setdefault(kinds.wave(ref), []).append(ref)
    for number in sorted(by_wave, reverse=True):
        victims = _victims(kube, component, by_wave[number], swept, volumes=volumes)
        chosen = {ref: uid for ref, uid in victims.items() if uid not in protect}
        if not force:
            guard = _Guard(kube, component, volumes=volumes)
            for ref, why in _in_use(guard, chosen, cancel, min(deadline, time.monotonic() + _COLLECT_S), say):
                swept.kept[ref] = why
                del chosen[ref]
        parallel.each(partial(_delete, kube, swept), list(chosen.items()))
        wait.until_gone(kube, chosen, deadline - time.monotonic(), say, cancel)
        swept.deleted += sorted(set(chosen) - set(swept.kept), key=lambda ref: ref.key)
    return swept


def _victims(kube: Cluster, component: str, refs: list[Ref], swept: Swept, *, volumes: bool) -> dict[Ref, str]:
    """Return what may go, with its uid; note the rest."""
    chosen: dict[Ref, str] = {}
    for ref, head, reason, ours in parallel.each(lambda ref: _judge(kube, component, ref, volumes=volumes), refs):
        if reason:
            (swept.kept if ours else swept.lost)[ref] = reason
        elif head is not None:
            chosen[ref] = head["metadata"]["uid"]
    return chosen


def _judge(kube: Cluster, component: str, ref: Ref, *, volumes: bool) -> tuple[Ref, Obj | None, str, bool]:
    """Return the object's metadata, why it stays (empty: it goes), and whether it is ours."""
    head = kube.get(ref, heads=True)
    if head is None:
        return ref, None, "", True
    meta = head["metadata"]
    label = (meta.get("labels") or {}).get(names.COMPONENT_LABEL)
    if label != component:
        return ref, head, f"carries our label no more, left as it is ({label or 'no label'})", False
    if (ref.group, ref.kind) in kinds.VOLUMES and not volumes:
        return ref, head, "volumes are never deleted", True
    if (meta.get("annotations") or {}).get(names.KEEP_ANNOTATION) == "true":
        return ref, head, "marked to be kept", True
    return ref, head, "", True


def _delete(kube: Cluster, swept: Swept, victim: tuple[Ref, str]) -> None:
    ref, uid = victim
    propagation = "Foreground" if (ref.group, ref.kind) in kinds.WORKLOADS else "Background"
    try:
        kube.delete(ref, propagation, uid)
    except ApiError as error:
        if error.status != _CONFLICT:
            raise
        swept.kept[ref] = "was made anew by someone meanwhile"


def _in_use(
    guard: "_Guard",
    chosen: Mapping[Ref, str],
    cancel: threading.Event,
    deadline: float,
    say: Callable[[str], None],
) -> Iterator[tuple[Ref, str]]:
    """Return what others use. What our deleted objects made is given time to be collected."""
    for ref in list(chosen):
        while (pending := guard.collecting(ref)) and time.monotonic() < deadline and not cancel.is_set():
            say(f"{ref}: {pending}")
            cancel.wait(_POLL_S)
        why = guard.users(ref)
        if why:
            yield ref, why


class _Guard:
    """Finds what a definition or a namespace would take with it that is not the component's."""

    def __init__(self, kube: Cluster, component: str, *, volumes: bool) -> None:
        self._kube, self._component, self._volumes = kube, component, volumes

    def users(self, ref: Ref) -> str:
        """Return why it stays: the objects that are someone else's. Empty when there are none."""
        found = [each for each in self._inside(ref) if self._theirs(each)]
        if not found:
            return ""
        named = ", ".join(str(Ref.of(each)) for each in found[:_MOST_NAMED])
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        return f"in use by what is not {self._component}'s: {named}{more}"

    def collecting(self, ref: Ref) -> str:
        """Return what is still going away by itself."""
        if (ref.group, ref.kind) != kinds.DEFINITION:
            return ""
        found = [each for each in self._inside(ref) if not self._theirs(each)]
        return f"{len(found)} objects are being collected" if found else ""

    def _inside(self, ref: Ref) -> list[Obj]:
        kind = (ref.group, ref.kind)
        if kind == kinds.DEFINITION:
            definition = self._kube.get(ref)
            if definition is None:
                return []
            spec = definition["spec"]
            served = next((each["name"] for each in spec["versions"] if each["served"]), "")
            return self._not_ours(f"{spec['group']}/{served}", spec["names"]["kind"], None)
        if kind == kinds.NAMESPACE:
            asked = [("v1" if not group else f"{group}/v1", kind) for group, kind in sorted(kinds.WORKLOADS)]
            found = [each for version, kind in asked for each in self._not_ours(version, kind, ref.name)]
            return found + ([] if self._volumes else self._kube.list("v1", kinds.CLAIM[1], ref.name, heads=True))
        return []

    def _not_ours(self, api_version: str, kind: str, namespace: str | None) -> list[Obj]:
        return self._kube.list(api_version, kind, namespace, f"{names.COMPONENT_LABEL}!={self._component}", heads=True)

    def _theirs(self, head: Obj, depth: int = 0) -> bool:
        """Whether someone else made it: a claim of any kind, or nothing of ours at the root of its owners."""
        meta = head["metadata"]
        if head["kind"] == kinds.CLAIM[1]:
            return True
        label = (meta.get("labels") or {}).get(names.COMPONENT_LABEL)
        if label == self._component or meta.get("deletionTimestamp"):
            return False
        if label:
            return True
        owners = meta.get("ownerReferences") or []
        if not owners:
            return True
        refs = [Ref(each["apiVersion"], each["kind"], meta.get("namespace"), each["name"]) for each in owners]
        alive = [owner for owner in (self._kube.get(ref, heads=True) for ref in refs) if owner]
        return depth >= _DEEPEST or any(self._theirs(owner, depth + 1) for owner in alive)
