"""The run of the checks: side by side, one after the other, skipped for a reason, and never a traceback."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tasks.lib import checkrun, checks
from tasks.lib.checks import Check, Finding, Result, Scene, Verdict, failed, passed, skipped
from tasks.lib.engine import Planned
from tasks.lib.errors import BadInput, NotReady
from tasks.lib.events import Event, Kind
from tasks.lib.kube import wait
from tasks.lib.schedule import Interrupted
from tests import boxes

STAGES = {"mesh": ("istiod", "gateway"), "obs": ("obs",)}
LOOKS = {
    "istiod": Planned(name="istiod", action="skip"),
    "gateway": Planned(name="gateway", action="repair", reason="0 of 1 available"),
    "obs": Planned(name="obs", action="left out", reason="not in this version: it comes later"),
}


def check(check_id: str, probe: Callable[[Scene], Result] = lambda _: passed("so"), **more: Any) -> Check:
    return Check(id=check_id, claim=f"{check_id} is so", probe=probe, stage=check_id.partition(".")[0], **more)


def run(*given: Check, jobs: int = 4, looks: Mapping[str, Planned] = LOOKS) -> dict[str, Finding]:
    found, _ = run_with_events(*given, jobs=jobs, looks=looks)
    return found


def run_with_events(
    *given: Check, jobs: int = 4, looks: Mapping[str, Planned] = LOOKS
) -> tuple[dict[str, Finding], list[Event]]:
    events: list[Event] = []
    found = checkrun.run(given, box=boxes.box(), looks=looks, stages=STAGES, emit=events.append, jobs=jobs)
    return {each.check.name: each for each in found}, events


def says(finding: Finding) -> tuple[str, str]:
    return finding.result.verdict.value, finding.result.says


def test_each_check_has_a_finding_in_the_order_given() -> None:
    found = run(
        check("b.x", lambda _: failed("not so", "seen")), check("a.x"), check("c.x", lambda _: skipped("cannot"))
    )
    assert list(found) == ["b.x", "a.x", "c.x"]
    assert [says(each) for each in found.values()] == [("failed", "not so"), ("passed", "so"), ("skipped", "cannot")]
    assert found["b.x"].result.evidence == "seen"


def test_independent_checks_run_side_by_side() -> None:
    gate = threading.Barrier(3)

    def meet(_: Scene) -> Result:
        gate.wait(5)
        return passed()

    found = run(*(check(f"{name}.x", meet) for name in "abc"))
    assert {each.result.verdict for each in found.values()} == {Verdict.PASSED}


def test_an_exclusive_check_runs_alone() -> None:
    running: list[str] = []
    beside: dict[str, int] = {}

    def probe(name: str) -> Callable[[Scene], Result]:
        def body(_: Scene) -> Result:
            running.append(name)
            beside[name] = len(running) - 1
            time.sleep(0.05)
            beside[name] = max(beside[name], len(running) - 1)
            running.remove(name)
            return passed()

        return body

    run(check("a.x", probe("a")), check("b.x", probe("b"), exclusive=True), check("c.x", probe("c")))
    assert beside["b"] == 0


def test_after_keeps_checks_apart_however_the_first_came_out() -> None:
    order: list[str] = []

    def first(_: Scene) -> Result:
        time.sleep(0.05)
        order.append("first")
        raise NotReady("never")

    def second(_: Scene) -> Result:
        order.append("second")
        return passed()

    found = run(check("b.second", second, after=("a.first", "not.chosen")), check("a.first", first))
    assert order == ["first", "second"]
    assert says(found["b.second"]) == ("passed", "")
    assert says(found["a.first"]) == ("failed", "never")


@pytest.mark.parametrize(
    ("need", "why"),
    [
        ("gateway", "needs gateway, which is not ready: 0 of 1 available"),
        ("mesh", "needs gateway, which is not ready: 0 of 1 available"),
        ("obs", "needs obs, which is not in this version: it comes later"),
        ("nothing", "needs nothing, which is not known here"),
    ],
)
def test_a_check_whose_need_is_not_ready_is_skipped_with_the_reason(need: str, why: str) -> None:
    asked: list[str] = []

    def probe(_: Scene) -> Result:
        asked.append(need)
        return passed()

    assert says(run(check("a.x", probe, needs=(need,)))["a.x"]) == ("skipped", why)
    assert asked == []


def test_a_check_whose_needs_are_ready_is_made() -> None:
    assert says(run(check("a.x", needs=("istiod",)))["a.x"]) == ("passed", "so")


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (failed("open"), "needs net.enforced, which failed"),
        (skipped("there is no cluster"), "needs net.enforced, which was skipped: there is no cluster"),
    ],
)
def test_a_check_needs_another_one_to_have_passed(first: Result, why: str) -> None:
    found = run(check("net.apart", needs=("net.enforced",)), check("net.enforced", lambda _: first))
    assert says(found["net.apart"]) == ("skipped", why)
    assert says(run(check("net.apart", needs=("net.enforced",)), check("net.enforced"))["net.apart"]) == (
        "passed",
        "so",
    )


def test_an_error_of_ours_is_a_failure_with_its_own_words() -> None:
    error = NotReady("istiod is not there", facts={"cause": "no memory"}, hint="invoke mesh")

    def probe(_: Scene) -> Result:
        raise error

    found, events = run_with_events(check("a.x", probe))
    assert says(found["a.x"]) == ("failed", "istiod is not there")
    assert "cause  no memory" in found["a.x"].result.evidence
    assert "try: invoke mesh" in found["a.x"].result.evidence
    assert [each.text for each in events if each.kind is Kind.DETAIL] == [f"error: {error}"]


@pytest.mark.parametrize("raised", [ZeroDivisionError("division by zero"), SystemExit(3), KeyError("status")])
def test_anything_else_is_a_failure_and_its_traceback_is_only_in_the_log(raised: BaseException) -> None:
    def probe(_: Scene) -> Result:
        raise raised

    found, events = run_with_events(check("a.x", probe))
    assert says(found["a.x"]) == ("failed", f"unexpected {type(raised).__name__}: {raised}")
    assert "Traceback" not in found["a.x"].result.evidence
    assert any("Traceback" in each.text for each in events if each.kind is Kind.DETAIL)
    assert not any("Traceback" in each.text for each in events if each.kind is not Kind.DETAIL)


def test_the_board_is_told_what_came_of_a_check() -> None:
    _, events = run_with_events(
        check("a.x"), check("b.x", lambda _: failed("no")), check("c.x", lambda _: skipped("why"))
    )
    ended = {each.component: (str(each.outcome and each.outcome.status), each.text) for each in events if each.outcome}
    assert ended == {
        "a.x": ("unchanged", "passed: so"), "b.x": ("failed", "failed: no"), "c.x": ("left out", "skipped: why"),
    }  # fmt: skip


def test_a_check_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkrun, "GRACE_S", 0.1)
    release = threading.Event()

    def probe(_: Scene) -> Result:
        release.wait(10)
        return passed()

    found = run(check("a.x", probe, timeout_s=0.1))
    release.set()
    assert says(found["a.x"]) == ("failed", "the check did not end within 0 s")


def test_an_observation_ends_when_nothing_stands_in_the_way_or_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "POLL_S", 0.01)
    obstacles = ["two", "one", ""]
    scene = boxes.scene()
    assert scene.observe(lambda: obstacles.pop(0), 5) == ""
    assert obstacles == []
    assert scene.observe(lambda: "never", 0.05) == "never"
    late = replace(scene, deadline=time.monotonic())
    assert late.observe(lambda: "late", 60) == "late"
    assert late.observe(lambda: "", 60) == ""


def test_an_observation_stops_with_the_run() -> None:
    scene = boxes.scene(seconds=60)
    scene.box.cancel.set()
    with pytest.raises(NotReady, match="stopped"):
        scene.observe(lambda: "never", 60)


def test_a_run_that_is_to_stop_says_so() -> None:
    box = boxes.box()

    def probe(scene: Scene) -> Result:
        box.cancel.set()
        scene.observe(lambda: "never", 60)
        return passed()

    with pytest.raises(Interrupted):
        checkrun.run(
            [check("a.x", probe), check("b.x", after=("a.x",))], box=box, looks={}, stages={}, emit=lambda _: None,
            jobs=2,
        )  # fmt: skip


def test_checks_are_selected_by_stage_or_id_with_what_they_need() -> None:
    everything = [check("net.enforced"), check("net.apart", needs=("net.enforced", "mesh")), check("models.answer")]

    def names(*only: str) -> list[str]:
        return [each.name for each in checks.select(everything, only)]

    assert names() == ["net.enforced", "net.apart", "models.answer"]
    assert names("models") == ["models.answer"]
    assert names("net.apart") == ["net.enforced", "net.apart"]
    with pytest.raises(BadInput, match=r"unknown checks: nets, x") as caught:
        names("x", "nets", "models")
    assert caught.value.facts["known"] == "net, models, net.enforced, net.apart, models.answer"


def test_what_has_to_be_looked_at_is_what_checks_need_and_read() -> None:
    given = [check("a.x", needs=("mesh", "b.x")), check("b.x", looks=("store",)), check("c.x", needs=("istiod",))]
    assert checks.targets(given, STAGES) == ["istiod", "gateway", "store"]


def test_checks_that_nothing_can_show_are_skipped() -> None:
    found = run(checks.unmade("models.answer", "models", "a model answers", "there is no model"))
    assert says(found["models.answer"]) == ("skipped", "there is no model")
