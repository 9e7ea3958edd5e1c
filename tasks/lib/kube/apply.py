"""Applies a component's objects: server-side, in waves, and only those that are not yet what they should be.

An object that cannot be taken yet (its webhook does not answer, its kind or namespace is still coming, or it is still
going away) is put off and tried again after the rest, so that the Deployment that a webhook needs is not kept waiting
by an object that needs the webhook.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.lib import names
from tasks.lib.component import Changes
from tasks.lib.errors import NotReady, Refused
from tasks.lib.kube import desired, foreign, inventory, kinds, parallel, prune, status, wait
from tasks.lib.kube.api import ApiError, Cluster, Key, Obj, Ref, not_yet
from tasks.lib.kube.desired import Item, Record
from tasks.lib.kube.inventory import Inventory

PATIENCE_S = 90.0
"""Seconds for objects that cannot be taken yet."""

PRUNE_S = 120.0
_AGAIN_S, _SLOWEST_S = 0.2, 2.0
_CONFLICT, _INVALID = 409, 422
_IMMUTABLE = ("field is immutable", "cannot change roleRef")

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an apply would do. `paths` names the fields of each object that would be configured."""

    changes: Changes
    paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether an apply would change nothing."""
        return self.changes.count == 0

    @property
    def lines(self) -> list[str]:
        """One line for each object that would change."""
        return [
            *(f"create {ref}" for ref in self.changes.created),
            *(f"change {ref}: {', '.join(self.paths.get(ref, ()))}".rstrip(": ") for ref in self.changes.configured),
            *(f"delete {ref}" for ref in self.changes.deleted),
            *(f"keep {reason}" for reason in self.changes.kept),
        ]


def plan(
    kube: Cluster,
    objects: Iterable[Obj],
    component: str,
    *,
    create_only: Iterable[Obj] = (),
    jobs: int = parallel.JOBS,
) -> Plan:
    """Return what `apply_all` would do. Changes nothing; asks only about what the records cannot answer for.

    Raises NotOurs as that does.
    """
    items = desired.prepare(kube, objects, create_only, component)
    before = inventory.load(kube, component)
    foreign.refuse(kube, items, before, jobs)
    fine = _settled(kube, items, before)
    todo = [item for item in items if item.ref.key not in fine]
    seen = {
        item.ref.key: result
        for item, result in zip(todo, parallel.each(lambda item: _foresee(kube, item), todo, jobs), strict=True)
    }
    going = prune.foresee(kube, component, before.beside(items))
    outcomes = {item.ref: seen.get(item.ref.key, ("unchanged", ()))[0] for item in items}
    changes = _changes(outcomes, going)
    return Plan(changes=changes, paths={str(item.ref): seen[item.ref.key][1] for item in todo})


def _foresee(kube: Cluster, item: Item) -> tuple[str, tuple[str, ...]]:
    live = kube.get(item.ref, heads=item.once)
    if live is None or live["metadata"].get("deletionTimestamp"):
        return "created", ()
    if item.once:
        return "unchanged", ()
    if _spent(live):
        return "configured", ("made anew, because it failed",)
    try:
        after = kube.apply(item.obj, dry_run=True)
    except Refused as error:
        if _immutable(item, error):
            return "configured", ("made anew, because what changes cannot be changed",)
        if not_yet(error):
            return "configured", (f"cannot be compared now: {error.what}",)
        raise
    changed = desired.paths(live, after)
    return ("configured" if changed else "unchanged"), changed


def apply_all(
    kube: Cluster,
    objects: Iterable[Obj],
    component: str,
    *,
    create_only: Iterable[Obj] = (),
    say: Say = lambda _: None,
    cancel: threading.Event | None = None,
    patience_s: float = PATIENCE_S,
    jobs: int = parallel.JOBS,
) -> Changes:
    """Make the cluster hold these objects for this component, and none that it held before and are not among them.

    `create_only` objects are made when they are not there and never touched after. Safe to repeat, and to kill: the
    inventory knows everything at any point. Raises NotOurs, before anything is done, for what is there and somebody
    else's, Refused with each object that was refused and why, NotReady when told to stop or when something does not
    become established, or gone, in time.
    """
    cancel = cancel or threading.Event()
    items = desired.prepare(kube, objects, create_only, component)
    before = inventory.load(kube, component)
    foreign.refuse(kube, items, before, jobs)
    fine = _settled(kube, items, before)
    stale = before.beside(items)
    if len(fine) == len(items) and not stale and before.digest == desired.total(items):
        return Changes(unchanged=[str(item.ref) for item in items])
    inventory.save(kube, before.widened(items, fine))
    run = _Run(kube=kube, component=component, say=say, cancel=cancel, patience_s=patience_s, jobs=jobs)
    run.apply([item for item in items if item.ref.key not in fine])
    swept = prune.sweep(kube, component, stale, protect=frozenset(run.uids), timeout_s=PRUNE_S, say=say, cancel=cancel)
    inventory.save(kube, before.exact(items, run.records, swept.kept))
    return _changes({item.ref: run.outcomes.get(item.ref.key, "unchanged") for item in items}, swept)


def _settled(kube: Cluster, items: Sequence[Item], before: Inventory) -> frozenset[Key]:
    """Return what needs no apply, by one list of metadata for each kind."""
    asked: dict[tuple[str, str, str], list[Item]] = {}
    for item in items:
        if before.record(item.ref) or (item.once and item.ref.key in before.entries):
            asked.setdefault((item.ref.api_version, item.ref.kind, item.label), []).append(item)

    def read(group: tuple[str, str, str]) -> list[Key]:
        api_version, kind, label = group
        heads = kube.list(api_version, kind, selector=f"{names.COMPONENT_LABEL}={label}", heads=True)
        there = {Ref.of(head).key: head for head in heads}
        return [
            item.ref.key
            for item in asked[group]
            if desired.settled(item, there.get(item.ref.key), before.record(item.ref))
        ]

    return frozenset(key for keys in parallel.each(read, list(asked)) for key in keys)


def _changes(outcomes: Mapping[Ref, str], swept: prune.Swept) -> Changes:
    by_word = {
        word: [str(ref) for ref, outcome in outcomes.items() if outcome == word]
        for word in ("created", "configured", "unchanged")
    }
    return Changes(**by_word, deleted=[str(ref) for ref in swept.deleted], kept=swept.reasons)


@dataclass(kw_only=True)
class _Run:
    """One apply: what came of each object, and what was put off."""

    kube: Cluster
    component: str
    say: Say
    cancel: threading.Event
    patience_s: float
    jobs: int
    outcomes: dict[Key, str] = field(default_factory=dict)
    records: dict[Key, Record | None] = field(default_factory=dict)
    uids: set[str] = field(default_factory=set)
    put_off: dict[Key, tuple[Item, Refused]] = field(default_factory=dict)
    refused: dict[Key, tuple[Item, Refused]] = field(default_factory=dict)
    replaced: set[Key] = field(default_factory=set)

    def apply(self, items: Sequence[Item]) -> None:
        """Apply in waves; between the first and the second, wait for the definitions to be established."""
        for number in range(kinds.WAVES):
            self._wave([item for item in items if kinds.wave(item.ref) == number])
            if number == 0:
                self._establish([item.ref for item in items if item.kind == kinds.DEFINITION])
        deadline, pause = time.monotonic() + self.patience_s, _AGAIN_S
        while self.put_off:
            late = sorted((item for item, _ in self.put_off.values()), key=lambda item: kinds.wave(item.ref))
            item, error = self.put_off[late[0].ref.key]
            if time.monotonic() >= deadline or self.cancel.is_set():
                raise self._failure(self.put_off)
            self.say(f"{item.ref.name}: {error.what}")
            self.cancel.wait(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 1.5, _SLOWEST_S)
            self._wave(late)

    def _wave(self, items: Sequence[Item]) -> None:
        parallel.each(self._try, items, self.jobs)
        if self.refused:
            raise self._failure(self.refused)

    def _try(self, item: Item) -> None:
        if self.cancel.is_set():
            raise NotReady(f"{self.component}: stopped before {item.ref}")
        try:
            self._one(item)
        except Refused as error:
            (self.put_off if not_yet(error) else self.refused)[item.ref.key] = (item, error)
        else:
            self.put_off.pop(item.ref.key, None)

    def _one(self, item: Item) -> None:
        if leaving := self.put_off.get(Key("", "Namespace", "", item.ref.namespace or "")):
            raise leaving[1]
        before = self.kube.get(item.ref, heads=item.once)
        if before and before["metadata"].get("deletionTimestamp"):
            raise _going(item.ref)
        if before and _spent(before):
            self._replace(item, before)
        if item.once:
            self._make(item, before)
            return
        try:
            after = self.kube.apply(item.obj)
        except ApiError as error:
            if before and _immutable(item, error):
                self._replace(item, before)
            raise
        self.records[item.ref.key] = desired.record(item, after)
        self._note(item, before, after)

    def _make(self, item: Item, before: Obj | None) -> None:
        self.records[item.ref.key] = None
        try:
            after = before or self.kube.create(item.obj)
        except ApiError as error:
            if error.status != _CONFLICT or not_yet(error):
                raise
            after = before = item.obj  # someone made it between our two requests
        self._note(item, before, after)

    def _note(self, item: Item, before: Obj | None, after: Obj) -> None:
        self.uids.add(after["metadata"].get("uid", ""))
        if before is None:
            word = "configured" if item.ref.key in self.replaced else "created"
        else:
            same = before["metadata"].get("resourceVersion") == after["metadata"].get("resourceVersion")
            word = "unchanged" if same or not desired.paths(before, after) else "configured"
        self.outcomes[item.ref.key] = word

    def _replace(self, item: Item, before: Obj) -> None:
        """Delete what cannot be changed; it is made anew when it is gone."""
        self.kube.delete(item.ref, "Foreground", before["metadata"]["uid"])
        self.replaced.add(item.ref.key)
        raise _going(item.ref)

    def _establish(self, refs: Sequence[Ref]) -> None:
        taken = [ref for ref in refs if ref.key in self.outcomes]
        if taken:
            what = f"{self.component}: definitions"
            wait.until_current(self.kube, taken, self.patience_s, self.say, self.cancel, what)

    def _failure(self, failed: Mapping[Key, tuple[Item, Refused]]) -> Refused:
        _, first = next(iter(failed.values()))
        if len(failed) == 1:
            return first
        facts = {str(item.ref): error.what for item, error in failed.values()}
        return Refused(
            f"{self.component}: {len(failed)} objects were refused", status=first.status, facts=facts, hint=first.hint
        )


def _going(ref: Ref) -> ApiError:
    message = f"{ref} is being deleted"
    return ApiError(message, status=_CONFLICT, reason="Terminating", message=message)


def _spent(live: Obj) -> bool:
    """Whether a Job has failed for good: applying it again would leave it as it is."""
    return live["kind"] == "Job" and "spec" in live and status.compute(live).state is status.State.FAILED


def _immutable(item: Item, error: Refused) -> bool:
    if error.status != _INVALID or item.kind not in kinds.REPLACEABLE:
        return False
    return any(words in str(error) for words in _IMMUTABLE)
