"""Makes checks: side by side on the engine's schedule, and whatever a probe raises becomes a failure in words.

A check whose needs are not ready is skipped with that reason, since what it would see proves nothing. Checks that would
disturb each other are kept apart by `after` and `exclusive`.
"""

import threading
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tasks.lib.box import Box
from tasks.lib.checks import Check, Finding, Result, Scene, Verdict, failed, skipped
from tasks.lib.component import Outcome, Say, Status
from tasks.lib.engine import Planned
from tasks.lib.errors import BoxError
from tasks.lib.events import Emit, Event, Kind
from tasks.lib.graph import Graph
from tasks.lib.schedule import Schedule

GRACE_S = 60.0
"""Seconds beyond its time limit after which a check that does not end is given up."""


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
