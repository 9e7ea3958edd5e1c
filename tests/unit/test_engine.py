"""The engine: order, cascade, concurrency, the rule of what is acted on, and what an interrupt leaves."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tasks.lib import engine, schedule
from tasks.lib.component import Changes, Look, Outcome, Say, State, Status
from tasks.lib.errors import BadInput, ClusterGone, NotAvailable, NotOurs, NotReady
from tasks.lib.events import Event, Kind
from tasks.lib.graph import Graph

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class C:
    name: str
    needs: tuple[str, ...] = ()
    exclusive: bool = False
    left_out: str = ""
    stage: str = "all"


class Stage:
    """A world in which components do what they are told, and everything that happens is written down."""

    def __init__(self, *components: C) -> None:
        self.graph = Graph(components)
        self.states: dict[str, State] = {}
        self.raises: dict[str, BaseException] = {}
        self.does: dict[str, Callable[[Say], object]] = {}
        self.changes: dict[str, Changes] = {}
        self.looked: list[str] = []
        self.acted: list[str] = []
        self.events: list[Event] = []
        self.running = 0
        self.peak = 0
        self.beside: dict[str, int] = {}
        self.pause_s = 0.0
        self._lock = threading.Lock()

    def look(self, node: C) -> Look:
        self.looked.append(node.name)
        if node.name in self.raises:
            raise self.raises[node.name]
        return Look(state=self.states.get(node.name, State.ABSENT), changes=[f"Thing {node.name}"])

    def act(self, node: C, say: Say) -> Changes:
        with self._lock:
            self.acted.append(node.name)
            self.running += 1
            self.peak = max(self.peak, self.running)
        try:
            does = self.does.get(node.name)
            does(say) if does else time.sleep(self.pause_s)
            with self._lock:
                self.beside[node.name] = self.running - 1
            if node.name in self.raises:
                raise self.raises[node.name]
        finally:
            with self._lock:
                self.running -= 1
        return self.changes.get(node.name, Changes(created=[node.name]))

    def run(self, *targets: str, jobs: int = 4, **options: Any) -> dict[str, Outcome]:
        return engine.run(
            self.graph, targets, look=self.look, act=self.act, jobs=jobs, emit=self.events.append, **options
        )

    def plan(self, *targets: str) -> dict[str, engine.Planned]:
        found = engine.plan(self.graph, targets, look=self.look, jobs=4, emit=self.events.append)
        return {each.name: each for each in found}


def statuses(outcomes: dict[str, Outcome]) -> dict[str, str]:
    return {name: outcome.status.value for name, outcome in outcomes.items()}


def test_a_component_starts_only_when_its_needs_are_ok() -> None:
    world = Stage(C("d", ("b", "c")), C("b", ("a",)), C("c", ("a",)), C("a"))
    outcomes = world.run("d")
    assert world.acted[0] == "a"
    assert world.acted[-1] == "d"
    assert list(outcomes) == ["d", "b", "c", "a"]  # declared order, not the order in which they ended


def test_a_failure_blocks_only_what_needs_it() -> None:
    world = Stage(
        C("certs"), C("mesh", ("certs",)), C("serving", ("mesh",)), C("models", ("serving",)), C("obs", ("certs",))
    )
    world.raises["mesh"] = NotReady("istiod never became ready")
    outcomes = world.run("models", "obs")
    assert statuses(outcomes) == {
        "certs": "changed", "mesh": "failed", "serving": "blocked", "models": "blocked", "obs": "changed",
    }  # fmt: skip
    assert outcomes["mesh"].reason == "istiod never became ready"
    assert outcomes["serving"].reason == "needs mesh, which failed"
    assert outcomes["models"].reason == "needs mesh, which failed"
    assert not {"serving", "models"} & {*world.acted, *world.looked}


def test_two_failures_are_both_named_to_what_needs_them() -> None:
    world = Stage(C("a"), C("b"), C("c", ("a", "b")))
    gate = threading.Barrier(2)
    world.does = {name: lambda _: gate.wait(60) for name in "ab"}
    world.raises = {"a": NotReady("a"), "b": NotReady("b")}
    assert world.run("c")["c"].reason == "needs a and b, which failed"


def test_targets_are_always_acted_on_and_needs_only_when_not_ready() -> None:
    world = Stage(C("a"), C("b", ("a",)), C("c", ("b",)))
    world.states = {"a": State.READY, "b": State.UNHEALTHY, "c": State.READY}
    world.changes["c"] = Changes(unchanged=["x", "y"])
    outcomes = world.run("c")
    assert world.looked == ["a", "b"]
    assert world.acted == ["b", "c"]
    assert statuses(outcomes) == {"a": "skipped", "b": "changed", "c": "unchanged"}
    assert str(outcomes["c"]) == "2 unchanged"


def test_force_acts_on_needs_that_are_ready() -> None:
    world = Stage(C("a"), C("b", ("a",)))
    world.states["a"] = State.READY
    world.run("b", force=True)
    assert world.acted == ["a", "b"]


def test_independent_components_run_side_by_side() -> None:
    world = Stage(C("a"), C("b"), C("c"))
    gate = threading.Barrier(3)
    world.does = {name: lambda _: gate.wait(60) for name in "abc"}  # breaks unless all three are there at once
    assert set(statuses(world.run("a", "b", "c")).values()) == {"changed"}


def test_no_more_than_jobs_run_at_once() -> None:
    world = Stage(*(C(name) for name in "abcdef"))
    pair = threading.Barrier(2)
    world.does = {name: lambda _: pair.wait(60) for name in "abcdef"}  # breaks unless two are always there
    assert set(statuses(world.run(*"abcdef", jobs=2)).values()) == {"changed"}
    assert world.peak == 2
    assert len(world.acted) == 6


def test_an_exclusive_component_runs_alone() -> None:
    world = Stage(C("a"), C("b"), C("x", exclusive=True), C("c"), C("d"))
    world.pause_s = 0.03
    pair = threading.Barrier(2)
    world.does = {name: lambda _: pair.wait(60) for name in "abcd"}
    assert set(statuses(world.run(*"abxcd")).values()) == {"changed"}
    assert world.beside["x"] == 0
    assert world.peak == 2
    assert world.acted[2] == "x"  # it is not passed over by those declared after it


def test_fail_fast_starts_nothing_more() -> None:
    world = Stage(C("a"), C("b"), C("c", ("b",)), C("d", ("a",)))
    world.raises["a"] = NotReady("no")
    world.does["b"] = lambda _: until(lambda: any(each.component == "a" and each.outcome for each in world.events))
    outcomes = world.run("c", "d", fail_fast=True)
    assert statuses(outcomes) == {"a": "failed", "b": "changed", "c": "blocked", "d": "blocked"}
    assert outcomes["c"].reason == "not started: a failed, and the run stops at the first failure"
    assert outcomes["d"].reason == "needs a, which failed"


@pytest.mark.parametrize("surprise", [ValueError("boom"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_worker_raises_is_an_outcome_with_its_traceback_in_the_log_alone(surprise: BaseException) -> None:
    world = Stage(C("a"), C("b", ("a",)))
    world.raises["a"] = surprise
    outcomes = world.run("b")
    assert statuses(outcomes) == {"a": "failed", "b": "blocked"}
    assert outcomes["a"].error is surprise
    assert outcomes["a"].reason.startswith(f"unexpected {type(surprise).__name__}")
    detail = [event.text for event in world.events if event.kind is Kind.DETAIL]
    assert len(detail) == 1
    assert "Traceback" in detail[0]
    assert not any("Traceback" in event.text for event in world.events if event.kind is not Kind.DETAIL)


def test_a_failing_emit_does_not_hang_the_run() -> None:
    world = Stage(C("a"))

    def emit(event: Event) -> None:
        if event.kind is Kind.DETAIL:
            raise OSError("disk full")

    world.raises["a"] = NotReady("no")
    outcomes = engine.run(world.graph, ["a"], look=world.look, act=world.act, jobs=1, emit=emit)
    assert statuses(outcomes) == {"a": "failed"}


def test_what_is_left_out_is_reported_so_and_blocks_nothing() -> None:
    world = Stage(C("a"), C("gone", ("a",), left_out="not in this version"), C("b", ("gone",)))
    outcomes = world.run("a", "gone", "b")
    assert statuses(outcomes) == {"a": "changed", "gone": "left out", "b": "changed"}
    assert world.acted == ["a", "b"]


def test_events_tell_the_story_in_order() -> None:
    world = Stage(C("a"))

    def does(say: Say) -> None:
        say("istiod: 0 of 1 available")
        say.line("some output")

    world.does["a"] = does
    world.run("a")
    assert [(event.kind.value, event.text) for event in world.events] == [
        ("started", ""), ("obstacle", "istiod: 0 of 1 available"), ("line", "some output"), ("finished", "1 created"),
    ]  # fmt: skip
    assert world.events[-1].outcome is not None


def test_no_jobs_is_bad_input() -> None:
    with pytest.raises(BadInput, match="jobs must be at least 1"):
        Stage(C("a")).run("a", jobs=0)


def test_cancel_stops_the_run_and_accounts_for_every_component() -> None:
    world = Stage(C("done"), C("slow", ("done",)), C("broken", ("done",)), C("after", ("slow",)))
    cancel = threading.Event()

    def slow(_: Say) -> None:
        cancel.set()

    def broken(_: Say) -> None:
        cancel.wait(60)
        raise NotReady("cut short")

    world.does = {"slow": slow, "broken": broken}
    with pytest.raises(schedule.Interrupted) as caught:
        world.run("after", "broken", cancel=cancel)
    assert statuses(caught.value.outcomes) == {
        "done": "changed", "slow": "changed", "broken": "interrupted", "after": "blocked",
    }  # fmt: skip
    assert caught.value.outcomes["after"].reason == "not started: the run was interrupted"
    assert caught.value.code == 130


def test_a_run_that_is_cancelled_before_it_begins_starts_nothing() -> None:
    world, cancel = Stage(C("a")), threading.Event()
    cancel.set()
    with pytest.raises(schedule.Interrupted, match=r"in flight +nothing"):
        world.run("a", cancel=cancel)
    assert world.acted == []


def test_a_worker_that_does_not_stop_is_left_behind_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "STOP_S", 0.1)
    world = Stage(C("deaf"))
    cancel, over = threading.Event(), threading.Event()

    def deaf(_: Say) -> None:
        cancel.set()
        over.wait(60)

    world.does["deaf"] = deaf
    begun = time.monotonic()
    with pytest.raises(schedule.Interrupted, match=r"in flight +deaf") as caught:
        world.run("deaf", cancel=cancel)
    over.set()
    assert time.monotonic() - begun < 30
    assert caught.value.outcomes["deaf"].reason == "did not stop within 0.1 s"


SCRIPT = """
import signal, sys
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(each, signal.SIG_DFL if each != signal.SIGINT else signal.default_int_handler)
sys.path.insert(0, {root!r})
from dataclasses import dataclass
from tasks.lib import engine, shell
from tasks.lib.component import Changes, Look
from tasks.lib.errors import BoxError
from tasks.lib.graph import Graph

@dataclass(frozen=True)
class C:
    name: str
    needs: tuple = ()
    exclusive: bool = False
    left_out: str = ""
    stage: str = "s"

def act(node, say):
    if node.name == "quick":
        return Changes()
    ignore = "trap '' TERM; " if node.name == "stubborn" else ""
    shell.run(["sh", "-c", ignore + "echo $$ > {pids}/" + node.name + "; sleep 300 & wait; sleep 300"])
    return Changes()

shell.GRACE_S = 0.5
graph = Graph([C("quick"), C("slow", ("quick",)), C("stubborn", ("quick",)), C("after", ("slow",))])
try:
    engine.run(graph, graph.names, look=None, act=act, jobs=4, emit=lambda event: None)
except BoxError as error:
    print(error)
    sys.exit(error.code)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_an_interrupt_ends_the_children_and_says_what_was_in_flight(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    script = SCRIPT.format(root=str(ROOT), pids=str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    files = [tmp_path / "slow", tmp_path / "stubborn"]
    until(lambda: all(file.exists() and file.read_text() for file in files))
    groups = [int(file.read_text()) for file in files]
    assert all(alive(group) for group in groups)
    try:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert "in flight  slow, stubborn" in out
        assert "done       quick" in out
        assert "Traceback" not in err
        until(lambda: not any(alive(group) for group in groups), timeout_s=60)
    finally:
        for group in filter(alive, groups):  # a test that fails leaves nothing behind either
            os.killpg(group, signal.SIGKILL)
        process.kill()


def alive(group: int) -> bool:
    """Tell whether a process group has a member that is not a zombie."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_group) == group and state != "Z":
            return True
    return False


def until(true: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def test_the_handlers_of_before_are_back_after_a_run() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    Stage(C("a")).run("a")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_plan_only_looks() -> None:
    world = Stage(C("a"), C("b", ("a",)), C("c", ("b",)), C("d", ("a",)), C("gone", left_out="later"))
    world.states = {"a": State.READY, "b": State.CHANGED, "c": State.UNHEALTHY, "d": State.READY}
    plan = world.plan(*world.graph.names)
    assert {name: each.action for name, each in plan.items()} == {
        "a": "skip", "b": "apply", "c": "repair", "d": "skip", "gone": "left out",
    }  # fmt: skip
    assert plan["b"].changes == ["Thing b"]
    assert world.acted == []


def test_plan_says_what_is_blocked_and_by_what() -> None:
    world = Stage(C("a"), C("b", ("a",)), C("c", ("b",)), C("d"), C("e", ("d",)))
    world.raises = {"a": NotAvailable("no container engine"), "d": ValueError("a bug")}
    plan = world.plan("c", "e")
    assert [(each.action, each.reason) for each in plan.values()] == [
        ("blocked", "no container engine"),
        ("blocked", "needs a"),
        ("blocked", "needs b"),
        ("blocked", "unexpected ValueError: a bug"),
        ("blocked", "needs d, which failed"),
    ]


def test_plan_does_not_call_blocked_what_only_waits_for_the_cluster() -> None:
    world = Stage(C("cluster"), C("certs", ("cluster",)))
    world.raises["certs"] = ClusterGone("nothing answers")
    assert world.plan("certs")["certs"].action == "apply"
    assert world.plan("certs")["certs"].reason == "can be looked at after cluster"
    world.states["cluster"] = State.READY
    assert world.plan("certs")["certs"].action == "blocked"


def test_plan_does_not_take_what_is_somebody_elses_for_something_that_is_only_early() -> None:
    world = Stage(C("base"), C("control", ("base",)), C("gateway", ("control",)))
    world.raises["control"] = NotOurs("control: Service mesh/x is there already, and was not made by us")
    assert [(each.action, each.reason) for each in world.plan("gateway").values()][1:] == [
        ("blocked", "control: Service mesh/x is there already, and was not made by us"),
        ("blocked", "needs control"),
    ]


def test_the_critical_path_is_the_longest_chain_and_not_the_longest_component() -> None:
    graph = Graph([C("a"), C("b", ("a",)), C("c", ("b",)), C("long"), C("d", ("long", "a"))])
    took = {"a": 10.0, "b": 20.0, "c": 5.0, "long": 30.0, "d": 1.0}
    outcomes = {name: Outcome(status=Status.CHANGED, elapsed_s=seconds) for name, seconds in took.items()}
    assert engine.critical_path(graph, outcomes) == (35.0, ("a", "b", "c"))
    outcomes["long"] = replace(outcomes["long"], elapsed_s=40.0)
    assert engine.critical_path(graph, outcomes) == (41.0, ("long", "d"))
    outcomes["d"] = Outcome(status=Status.BLOCKED)
    assert engine.critical_path(graph, outcomes) == (40.0, ("long",))  # what did not run is no part of it
    assert engine.critical_path(graph, {}) == (0.0, ())


def test_outcomes_carry_start_and_duration() -> None:
    world = Stage(C("a"), C("b", ("a",)))
    world.pause_s = 0.05
    outcomes = world.run("b")
    assert outcomes["a"].elapsed_s >= 0.05
    assert outcomes["b"].started_s >= outcomes["a"].started_s + outcomes["a"].elapsed_s


def test_the_failure_of_a_run_is_the_error_of_its_component_with_what_was_skipped() -> None:
    world = Stage(C("a"), C("b", ("a",)), C("c", ("b",)))
    world.raises["a"] = NotAvailable("no engine", facts={"tried": "docker"}, hint="install docker")
    error = engine.failure(world.run("c"))
    assert error is world.raises["a"]
    assert error.facts == {"tried": "docker", "skipped": "b, c (needs a, which failed)"}


def test_several_failures_are_named_together_and_none_means_none() -> None:
    world = Stage(C("a"), C("b"), C("c"))
    world.raises = {"a": NotAvailable("no engine"), "b": ValueError("a bug")}
    error = engine.failure(world.run(*"abc"))
    assert error is not None
    assert error.what == "2 of 3 components failed"
    assert error.facts == {"a": "no engine", "b": "b: unexpected ValueError: a bug"}
    assert error.code == NotAvailable.code
    assert engine.failure(Stage(C("a")).run("a")) is None
