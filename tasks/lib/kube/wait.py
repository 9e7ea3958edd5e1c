"""Waiting, bounded: for objects to be Current, for objects to be gone, for a behaviour to be observed.

Every wait says what it waits for, ends at once when told to stop or when no waiting can help, and fails with everything
that is known: each object, its state, the pods behind it, the newest warning.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from tasks.lib.errors import NotReady
from tasks.lib.kube import explain, kinds, parallel, status
from tasks.lib.kube.api import Cluster, Key, Ref
from tasks.lib.kube.status import State, Status

__all__ = ["State", "Status", "states", "until", "until_current", "until_gone"]

POLL_S = 0.5
"""Seconds between two looks; more when a look takes long."""

_SLOWEST_S = 5.0
_TROUBLE_S = 4.0
"""Seconds between two looks at the pods behind an obstacle."""

_LONG_S = 10.0
_MOST_NAMED = 10


def states(kube: Cluster, refs: Iterable[Ref], jobs: int = parallel.JOBS) -> dict[Ref, Status]:
    """Return how far each object has come, by one list for each kind and namespace.

    Definitions are read one by one: a list would bring all of the cluster's, megabytes.
    """
    groups: dict[tuple[str, str, str | None], list[Ref]] = {}
    for ref in refs:
        single = ref.name if (ref.group, ref.kind) == kinds.DEFINITION else ref.namespace
        groups.setdefault((ref.api_version, ref.kind, single), []).append(ref)
    found: dict[Ref, Status] = {}
    for part in parallel.each(lambda group: _group_states(kube, group), list(groups.values()), jobs):
        found |= part
    return found


def _group_states(kube: Cluster, refs: list[Ref]) -> dict[Ref, Status]:
    first = refs[0]
    resource = kube.resource(first.api_version, first.kind)
    if resource is None:
        return dict.fromkeys(refs, status.UNKNOWN)
    heads = (first.group, first.kind) in kinds.EXISTENCE
    if len(refs) == 1:
        one = kube.get(first, heads=heads)
        objects = [one] if one else []
    else:
        objects = kube.list(first.api_version, first.kind, first.namespace, heads=heads)
    there: Mapping[Key, Status] = {Ref.of(each).key: status.compute(each) for each in objects}
    keys = {ref: ref.key if resource.namespaced else ref.key._replace(namespace="") for ref in refs}
    return {ref: there.get(key, status.MISSING) for ref, key in keys.items()}


def until_current(
    kube: Cluster,
    refs: Iterable[Ref],
    timeout_s: float,
    on_obstacle: Callable[[str], None] = lambda _: None,
    cancel: threading.Event | None = None,
    what: str = "",
) -> None:
    """Wait until every object is Current.

    `on_obstacle` is told what stands in the way ("istiod: 0 of 1 available"). `what` names the whole in the error.
    Raises NotReady, with every object that is not Current and why: after `timeout_s`, at once when one has failed for
    good, and when `cancel` is set.
    """
    cancel = cancel or threading.Event()
    deadline = time.monotonic() + timeout_s
    waiting = list(refs)
    trouble = _Trouble(kube)
    while True:
        begun = time.monotonic()
        found = states(kube, waiting)
        lacking = {ref: each for ref, each in found.items() if each.state is not State.CURRENT}
        if not lacking:
            return
        waiting = list(lacking)
        _check(kube, lacking, deadline, timeout_s, cancel, what)
        on_obstacle(_obstacle(lacking) + trouble.of(next(iter(lacking))))
        took = time.monotonic() - begun
        cancel.wait(max(0.0, min(max(POLL_S, 3 * took), _SLOWEST_S, deadline - time.monotonic())))


def _check(
    kube: Cluster,
    lacking: Mapping[Ref, Status],
    deadline: float,
    timeout_s: float,
    cancel: threading.Event,
    what: str,
) -> None:
    if cancel.is_set():
        raise NotReady(f"{what or _obstacle(lacking)}: stopped", facts={"waited for": _obstacle(lacking)})
    failed = {ref: each for ref, each in lacking.items() if each.state is State.FAILED}
    if failed:
        raise _not_ready(kube, failed, f"{what or _count(failed)} failed")
    if time.monotonic() >= deadline:
        raise _not_ready(kube, lacking, f"{what or _count(lacking)} did not become ready in {_seconds(timeout_s)}")


def _not_ready(kube: Cluster, lacking: Mapping[Ref, Status], headline: str) -> NotReady:
    facts: dict[str, object] = {}
    for ref, each in list(lacking.items())[:_MOST_NAMED]:
        facts[str(ref)] = "\n".join([f"{each.state}: {each}", *explain.explain(kube, ref)])
    if len(lacking) > _MOST_NAMED:
        facts["and"] = f"{len(lacking) - _MOST_NAMED} more"
    first = next(iter(lacking))
    place = f"-n {first.namespace} " if first.namespace else ""
    return NotReady(headline, facts=facts, hint=f"kubectl {place}describe {first.kind.lower()} {first.name}")


def _seconds(given: float) -> str:
    return f"{round(max(0.0, given), 0 if given >= _LONG_S else 2):g} s"


def _count(lacking: Mapping[Ref, Status]) -> str:
    return str(next(iter(lacking))) if len(lacking) == 1 else f"{len(lacking)} objects"


def _obstacle(lacking: Mapping[Ref, Status]) -> str:
    ref, first = next(iter(lacking.items()))
    more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
    return f"{ref.name}: {first}{more}"


class _Trouble:
    """What the pods behind an obstacle say, looked at only now and then."""

    def __init__(self, kube: Cluster) -> None:
        self._kube = kube
        self._next = time.monotonic() + _TROUBLE_S
        self._ref: Ref | None = None
        self._text = ""

    def of(self, ref: Ref) -> str:
        """Return the trouble to append to an obstacle."""
        if ref != self._ref:
            self._ref, self._text = ref, ""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _TROUBLE_S
            why = explain.pod_trouble(self._kube, ref)
            self._text = f"; {why}" if why else ""
        return self._text


def until_gone(
    kube: Cluster,
    uids: Mapping[Ref, str],
    timeout_s: float,
    on_obstacle: Callable[[str], None] = lambda _: None,
    cancel: threading.Event | None = None,
) -> None:
    """Wait until none of the objects is there any more; another one of the same name does not count.

    Raises NotReady naming what holds those that do not go.
    """
    cancel = cancel or threading.Event()
    deadline = time.monotonic() + timeout_s
    waiting = dict(uids)

    def still(ref: Ref) -> bool:
        head = kube.get(ref, heads=True)
        return head is not None and head["metadata"].get("uid") == waiting[ref]

    while waiting:
        there = parallel.each(still, list(waiting))
        waiting = {ref: uid for (ref, uid), stays in zip(waiting.items(), there, strict=True) if stays}
        if not waiting:
            return
        if cancel.is_set() or time.monotonic() >= deadline:
            raise _not_gone(
                kube, list(waiting), "stopped" if cancel.is_set() else f"not gone after {_seconds(timeout_s)}"
            )
        first = next(iter(waiting))
        more = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
        on_obstacle(f"{first}: is being deleted{more}")
        cancel.wait(max(0.0, min(POLL_S, deadline - time.monotonic())))


def _not_gone(kube: Cluster, refs: Sequence[Ref], why: str) -> NotReady:
    facts = {str(ref): _holders(kube, ref) for ref in refs[:_MOST_NAMED]}
    if len(refs) > _MOST_NAMED:
        facts["and"] = f"{len(refs) - _MOST_NAMED} more"
    count = str(refs[0]) if len(refs) == 1 else f"{len(refs)} objects"
    return NotReady(f"{count}: {why}", facts=facts, hint="the same command again once the holder is back or gone")


def _holders(kube: Cluster, ref: Ref) -> str:
    heads = (ref.group, ref.kind) not in {kinds.NAMESPACE, kinds.DEFINITION}
    found = kube.get(ref, heads=heads)
    if found is None:
        return "gone by now"
    finalizers = ", ".join(found["metadata"].get("finalizers") or []) or "nothing names itself"
    conditions = (found.get("status") or {}).get("conditions") or []
    inside = [
        str(each["message"])
        for each in conditions
        if each.get("status") == "True" and each.get("message") and str(each["type"]).startswith(("Namespace", "Term"))
    ]
    return "\n".join([f"held by {finalizers}", *inside])


def until(
    probe: Callable[[], str | None],
    timeout_s: float,
    on_obstacle: Callable[[str], None] = lambda _: None,
    cancel: threading.Event | None = None,
    what: str = "",
) -> None:
    """Ask `probe` again and again until it returns None; what it returns else is the obstacle, in words.

    Raises NotReady with the last obstacle after `timeout_s`, or when `cancel` is set. What `probe` raises ends it.
    """
    cancel = cancel or threading.Event()
    deadline = time.monotonic() + timeout_s
    while (obstacle := probe()) is not None:
        if cancel.is_set():
            raise NotReady(f"{what or obstacle}: stopped", facts={"waited for": obstacle})
        if time.monotonic() >= deadline:
            headline = (
                f"not so after {_seconds(timeout_s)}: {what}" if what else f"{obstacle}, for {_seconds(timeout_s)}"
            )
            raise NotReady(headline, facts={"obstacle": obstacle})
        on_obstacle(obstacle)
        cancel.wait(max(0.0, min(POLL_S, deadline - time.monotonic())))
