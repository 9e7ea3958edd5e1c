"""Claims about the platform, and the run that finds out which of them are true.

A claim is about behaviour. Its probe says passed, failed or skipped; whatever it raises is a failure, in words. A check
whose needs are not ready is skipped with that reason, since what it would see proves nothing. Checks run side by side
on the engine's schedule; those that would disturb each other are kept apart by `after` and `exclusive`.
"""

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from tasks.lib.box import Box
from tasks.lib.component import Outcome, Say, Status
from tasks.lib.engine import Planned
from tasks.lib.errors import BadInput, BoxError, NotReady
from tasks.lib.events import Emit, Event, Kind
from tasks.lib.graph import Graph
from tasks.lib.kube import wait
from tasks.lib.schedule import Schedule

GRACE_S = 60.0
"""Seconds beyond its time limit after which a check that does not end is given up."""


class Verdict(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a probe found: a sentence, what it goes by (only of a failure), and what was measured (seconds, counts)."""

    verdict: Verdict
    says: str = ""
    evidence: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)


def passed(says: str = "", **measured: float) -> Result:
    """The claim is true."""
    return Result(verdict=Verdict.PASSED, says=says, measured=measured)


def failed(says: str, evidence: str = "") -> Result:
    """The claim is false, or what should show it is out of reach."""
    return Result(verdict=Verdict.FAILED, says=says, evidence=evidence)


def skipped(why: str) -> Result:
    """The check cannot be made here."""
    return Result(verdict=Verdict.SKIPPED, says=why)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a probe gets: the platform, what was found of its components, and how long it has."""

    box: Box
    say: Say
    looks: Mapping[str, Planned]
    deadline: float

    @property
    def left_s(self) -> float:
        """Seconds until the check's time is up."""
        return max(0.0, self.deadline - time.monotonic())

    def observe(self, obstacle: Callable[[], str], within_s: float) -> str:
        """Ask until nothing stands in the way any more. Return the last obstacle when the time is up, else nothing.

        Raises NotReady when the run is to stop.
        """
        until = time.monotonic() + min(within_s, self.left_s)
        while (found := obstacle()) and time.monotonic() < until:
            self.say(found)
            if self.box.cancel.wait(wait.POLL_S):
                raise NotReady("stopped", facts={"waited for": found})
        return found


Probe = Callable[[Scene], Result]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A sentence that is true or false, and how to find out.

    `subject` tells apart checks of one id (a model, a tenant). `needs` are components or stages that have to be ready,
    or ids of checks that have to have passed; `looks` are components whose state the probe reads from the scene.
    `after` are ids of checks that have to be over first, however they came out; `exclusive` runs alone.
    """

    id: str
    claim: str
    probe: Probe
    stage: str
    subject: str = ""
    needs: tuple[str, ...] = ()
    looks: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    exclusive: bool = False
    fix: str = ""
    timeout_s: float = 60

    @property
    def name(self) -> str:
        """Unique: the id and the subject."""
        return f"{self.id} {self.subject}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A check, what came of it, and how long it took."""

    check: Check
    result: Result
    elapsed_s: float = 0.0


def unmade(check_id: str, stage: str, claim: str, why: str) -> Check:
    """Return the check that stands for claims nothing here can show: always skipped."""
    return Check(id=check_id, stage=stage, claim=claim, probe=lambda _: skipped(why))


def select(checks: Sequence[Check], only: Iterable[str]) -> list[Check]:
    """Return the checks of these stages or ids, and the checks they need; all of them when none is named.

    Raises BadInput listing what is not known.
    """
    wanted = set(only)
    known = dict.fromkeys([*(each.stage for each in checks), *(each.id for each in checks)])
    if unknown := sorted(wanted - set(known)):
        raise BadInput(f"unknown checks: {', '.join(unknown)}", facts={"known": ", ".join(known)})
    ids = {each.id for each in checks}
    chosen, before = {each.id for each in checks if not wanted or wanted & {each.stage, each.id}}, set[str]()
    while chosen != before:
        before = set(chosen)
        chosen |= {need for each in checks if each.id in before for need in each.needs if need in ids}
    return [each for each in checks if each.id in chosen]


def targets(checks: Iterable[Check], stages: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the components that have to be looked at for these checks."""
    checks = list(checks)
    ids = {each.id for each in checks}
    found = [need for each in checks for need in (*each.needs, *each.looks) if need not in ids]
    return list(dict.fromkeys(name for need in found for name in stages.get(need, (need,))))


def run(
    checks: Sequence[Check],
    *,
    box: Box,
    looks: Mapping[str, Planned],
    stages: Mapping[str, Sequence[str]],
    emit: Emit,
    jobs: int,
) -> list[Finding]:
    """Make the checks, several at a time, and return what came of each, in their order.

    `looks` holds what was found of each component, `stages` the components of each stage. Raises Interrupted, and
    nothing that a probe raised.
    """
    results: dict[str, Result] = {}

    def step(node: _Node, say: Say) -> Outcome:
        check = node.check
        lacking = _lacking(check, checks, results, looks, stages)
        scene = Scene(box=box, say=say, looks=looks, deadline=time.monotonic() + check.timeout_s)
        results[check.name] = skipped(lacking) if lacking else _bounded(check, scene, emit)
        return _Checked.of(results[check.name])

    graph = Graph([_Node(check=each, needs=_before(each, checks)) for each in checks])
    schedule = _Schedule(
        graph, set(graph.names), step, jobs=jobs, emit=emit, fail_fast=False, cancel=box.cancel
    )  # fmt: skip
    outcomes = schedule.execute()
    return [
        Finding(check=each, result=_result(outcomes[each.name]), elapsed_s=outcomes[each.name].elapsed_s)
        for each in checks
    ]


@dataclass(frozen=True, kw_only=True)
class _Node:
    """A check as the schedule knows it: its needs are the checks that come before it."""

    check: Check
    needs: tuple[str, ...]
    left_out: str = ""

    @property
    def name(self) -> str:
        return self.check.name

    @property
    def stage(self) -> str:
        return self.check.stage

    @property
    def exclusive(self) -> bool:
        return self.check.exclusive


N = TypeVar("N", bound=_Node)


class _Schedule(Schedule[N]):
    """The engine's schedule, in which what failed keeps nothing from being tried: a check decides that for itself."""

    def _causes(self, name: str) -> tuple[str, ...]:  # noqa: ARG002 (the one thing that is different)
        return ()


@dataclass(frozen=True, kw_only=True)
class _Checked(Outcome):
    """A result as boards and logs know it."""

    result: Result

    @classmethod
    def of(cls, result: Result) -> "_Checked":
        words = {Verdict.PASSED: Status.UNCHANGED, Verdict.FAILED: Status.FAILED, Verdict.SKIPPED: Status.LEFT_OUT}
        return cls(status=words[result.verdict], reason=result.says, result=result)

    def __str__(self) -> str:
        return f"{self.result.verdict}: {self.result.says}".removesuffix(": ")


def _before(check: Check, checks: Iterable[Check]) -> tuple[str, ...]:
    return tuple(each.name for each in checks if each.id in {*check.needs, *check.after} and each.name != check.name)


def _result(outcome: Outcome) -> Result:
    if isinstance(outcome, _Checked):
        return outcome.result
    return failed(outcome.reason or "the check did not run")


def _lacking(
    check: Check,
    checks: Iterable[Check],
    results: Mapping[str, Result],
    looks: Mapping[str, Planned],
    stages: Mapping[str, Sequence[str]],
) -> str:
    """Return which need keeps a check from being made, and why; empty when none does."""
    for need in check.needs:
        first = [results[each.name] for each in checks if each.id == need]
        if first:
            if bad := [each for each in first if each.verdict is not Verdict.PASSED]:
                word = "failed" if bad[0].verdict is Verdict.FAILED else f"was skipped: {bad[0].says}"
                return f"needs {need}, which {word}"
            continue
        for name in stages.get(need, (need,)):
            if why := _not_ready(looks.get(name)):
                return f"needs {name}, which is {why}"
    return ""


def _not_ready(look: Planned | None) -> str:
    if look is None:
        return "not known here"
    if look.action == "left out":
        return look.reason or "not in this version"
    return "" if look.action == "skip" else f"not ready: {look.reason or look.action}"


def _bounded(check: Check, scene: Scene, emit: Emit) -> Result:
    """Run a probe in a thread of its own. Its waits end by themselves; one that hangs all the same is given up."""
    found: list[Result] = []
    thread = threading.Thread(
        target=lambda: found.append(_probed(check, scene, emit)), name=f"check-{check.name}", daemon=True
    )
    begun = time.monotonic()
    thread.start()
    thread.join(check.timeout_s + GRACE_S)
    if found:
        return found[0]
    return failed(f"the check did not end within {time.monotonic() - begun:.0f} s")


def _probed(check: Check, scene: Scene, emit: Emit) -> Result:
    try:
        return check.probe(scene)
    except BoxError as error:
        emit(Event(kind=Kind.DETAIL, component=check.name, text=f"error: {error}"))
        return failed(error.what, evidence=str(error).partition("\n")[2])
    except BaseException as error:  # noqa: BLE001 (whatever a probe does, the user gets a sentence and the log the rest)
        emit(Event(kind=Kind.DETAIL, component=check.name, text=traceback.format_exc()))
        return failed(f"unexpected {type(error).__name__}: {error}")
