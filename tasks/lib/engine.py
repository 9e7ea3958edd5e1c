"""Runs the graph: look, act, and the reason for whatever was not done.

What was asked for is acted on (it is idempotent, "0 changes" is the normal answer); what that needs is looked at, and
acted on only if it is not ready. How components share the machine is in schedule.py.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tasks.lib.component import Changes, Look, Outcome, Say, State, Status
from tasks.lib.errors import BoxError, ClusterGone, NotReady, Refused, Unexpected
from tasks.lib.events import Emit
from tasks.lib.graph import Graph, N
from tasks.lib.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a run would do with one component: skip, apply, repair, blocked or left out."""

    name: str
    action: str
    reason: str = ""
    changes: list[str] = field(default_factory=list)


def run(
    graph: Graph[N],
    targets: Iterable[str],
    *,
    look: Callable[[N], Look],
    act: Callable[[N, Say], Changes],
    jobs: int,
    emit: Emit,
    force: bool = False,
    fail_fast: bool = False,
    cancel: threading.Event | None = None,
) -> dict[str, Outcome]:
    """Bring up the targets and what they need; return an outcome for each, in declared order.

    `force` acts on what is needed as well, ready or not. `fail_fast` starts nothing more after a failure. Setting
    `cancel` stops the run; an interrupt sets it. Raises Interrupted, never what a component raised.
    """
    asked = set(targets)

    def step(node: N, say: Say) -> Outcome:
        if node.name not in asked and not force:
            found = look(node)
            if found.state is State.READY:
                return Outcome(status=Status.SKIPPED, reason=found.reason or "ready")
            say(": ".join(filter(None, (str(found.state), found.reason))))
        changes = act(node, say)
        return Outcome(status=Status.CHANGED if changes.count else Status.UNCHANGED, changes=changes)

    schedule = Schedule(graph, asked, step, jobs=jobs, emit=emit, fail_fast=fail_fast, cancel=cancel)
    return schedule.execute()


def plan(
    graph: Graph[N],
    targets: Iterable[str],
    *,
    look: Callable[[N], Look],
    jobs: int,
    emit: Emit,
    cancel: threading.Event | None = None,
) -> list[Planned]:
    """Look at the targets and what they need, and say what `run` would do. Changes nothing."""
    found: dict[str, Planned] = {}

    def step(node: N, _: Say) -> Outcome:
        needs = [found[need] for need in graph.needs(node.name)]
        found[node.name] = _planned(node, needs, look)
        return Outcome(status=Status.SKIPPED, reason=found[node.name].action)

    outcomes = Schedule(graph, set(targets), step, jobs=jobs, emit=emit, fail_fast=False, cancel=cancel).execute()
    for name, outcome in outcomes.items():
        if outcome.status is Status.LEFT_OUT:
            found[name] = Planned(name=name, action="left out", reason=outcome.reason)
        elif name not in found:
            found[name] = Planned(name=name, action="blocked", reason=outcome.reason)
    return [found[name] for name in outcomes]


def _planned(node: N, needs: list[Planned], look: Callable[[N], Look]) -> Planned:
    stuck = [need.name for need in needs if need.action == "blocked"]
    if stuck:
        return Planned(name=node.name, action="blocked", reason=f"needs {' and '.join(stuck)}")
    try:
        seen = look(node)
    except (ClusterGone, NotReady, Refused) as error:
        coming = [need.name for need in needs if need.action != "skip"]
        if not coming:
            return Planned(name=node.name, action="blocked", reason=error.what)
        return Planned(name=node.name, action="apply", reason=f"can be looked at after {' and '.join(coming)}")
    except BoxError as error:
        return Planned(name=node.name, action="blocked", reason=error.what)
    action = {State.READY: "skip", State.UNHEALTHY: "repair"}.get(seen.state, "apply")
    return Planned(name=node.name, action=action, reason=seen.reason or str(seen.state), changes=list(seen.changes))


def critical_path(graph: Graph[N], outcomes: Mapping[str, Outcome]) -> tuple[float, tuple[str, ...]]:
    """Return the longest chain of measured durations along the needs: its seconds and its components."""
    best: dict[str, tuple[float, tuple[str, ...]]] = {}
    for name in graph.order(name for name, outcome in outcomes.items() if outcome.elapsed_s):
        before = max((best[need] for need in graph.needs(name) if need in best), default=(0.0, ()))
        best[name] = (before[0] + outcomes[name].elapsed_s, (*before[1], name))
    return max(best.values(), default=(0.0, ()))


def failure(outcomes: Mapping[str, Outcome]) -> BoxError | None:
    """Return the one error that stands for a run: None when nothing failed.

    A single failure is that component's own error, with what was not done because of it. Its exit status is kept.
    """
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.status is Status.FAILED}
    if not failed:
        return None
    errors = {name: _boxed(name, outcome) for name, outcome in failed.items()}
    first = next(iter(errors.values()))
    if len(errors) > 1:
        facts = {name: error.what for name, error in errors.items()}
        code = first.code
        first = BoxError(f"{len(errors)} of {len(outcomes)} components failed", facts=facts, hint=first.hint)
        first.code = code
    skipped = [name for name, outcome in outcomes.items() if outcome.status is Status.BLOCKED]
    if skipped:
        first.facts["skipped"] = f"{', '.join(skipped)} ({outcomes[skipped[0]].reason})"
    return first


def _boxed(name: str, outcome: Outcome) -> BoxError:
    if isinstance(outcome.error, BoxError):
        return outcome.error
    return Unexpected(f"{name}: {outcome.reason}", hint="this is a fault of the pipeline; the log has the traceback")
