"""What a run leaves on disk, and what later runs learn from it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.lib.component import Changes, Outcome, Status
from tasks.lib.errors import NotAvailable, NotReady
from tasks.lib.events import Emitter, Event, Kind
from tasks.lib.runs import RunFolder, history, peak_mib

MADE = Changes(created=["a", "b"], unchanged=["c"])


def said(kind: Kind, text: str = "", component: str = "mesh", outcome: Outcome | None = None) -> Event:
    return Event(kind=kind, component=component, text=text, elapsed_s=1.5, outcome=outcome, at=0)


def test_each_component_has_a_log_and_programs_output_stays_out_of_the_events(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    with Emitter(run) as emit:
        emit(said(Kind.STARTED))
        emit(said(Kind.OBSTACLE, "istiod: 0 of 1 available"))
        emit(said(Kind.LINE, "some output"))
        emit(said(Kind.DETAIL, "error: two\n\nlines"))
        emit(said(Kind.FINISHED, "no", outcome=Outcome(status=Status.FAILED, reason="no")))
        emit.note("stopping")
        emit(said(Kind.STARTED, component="tenant/a"))
    assert not emit.broken
    assert (run.path / "mesh.log").read_text().splitlines() == [
        "00:00:00.000  started",
        "00:00:00.000  istiod: 0 of 1 available",
        "00:00:00.000  some output",
        "00:00:00.000  error: two",
        "",
        "              lines",
        "00:00:00.000  failed after 1.5 s: no",
    ]
    assert "stopping" in (run.path / "run.log").read_text()
    assert (run.path / "tenant_a.log").exists()
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events] == ["started", "obstacle", "finished", "started"]
    assert events[2]["outcome"]["status"] == "failed"
    assert run.tail("mesh") == ["istiod: 0 of 1 available", "some output"]


def test_the_folder_is_named_by_time_and_process_and_never_shared(tmp_path: Path) -> None:
    folders = {RunFolder.create(tmp_path).path for _ in range(3)}
    assert len(folders) == 3
    assert all(path.parent == tmp_path / ".box" / "runs" and f"Z-{os.getpid()}" in path.name for path in folders)


def test_the_last_runs_are_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    runs = tmp_path / ".box" / "runs"
    old = [runs / f"20200101T0000{second:02d}Z-{dead.pid}" for second in range(25)]
    for path in [*old, runs / "notes", runs / f"20190101T000000Z-{os.getpid()}"]:
        path.mkdir(parents=True)
        (path / "file").write_text("")
    RunFolder.create(tmp_path).close()
    left = {path.name for path in runs.iterdir()}
    assert not any(path.name in left for path in old[:6])
    assert all(path.name in left for path in old[6:])
    assert "notes" in left
    assert f"20190101T000000Z-{os.getpid()}" in left  # old, but still at work


def test_outcomes_are_written_with_timings(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    outcomes = {
        "mesh": Outcome(status=Status.CHANGED, changes=MADE, started_s=2.0, elapsed_s=63.2),
        "serving": Outcome(status=Status.FAILED, reason="no", error=NotReady("no", facts={"object": "x"})),
    }
    found = json.loads(run.write_outcomes(outcomes, command="invoke up", wall_s=70).read_text())
    assert (found["command"], found["wall_s"]) == ("invoke up", 70)
    assert found["outcomes"]["mesh"] == {
        "status": "changed", "reason": "", "started_s": 2.0, "elapsed_s": 63.2,
        "created": 2, "configured": 0, "unchanged": 1, "deleted": 0, "kept": 0,
    }  # fmt: skip
    assert found["outcomes"]["serving"]["error"] == "no\n  object  x"
    assert not list(run.path.glob("*.part"))


def test_history_is_the_median_of_runs_that_made_something(tmp_path: Path) -> None:
    for seconds in (60.0, 90.0, 62.0):
        RunFolder.create(tmp_path).write_outcomes({"mesh": changed(seconds), "certs": changed(5.0)})
    for useless in (
        Outcome(status=Status.UNCHANGED, elapsed_s=1.0),
        Outcome(status=Status.CHANGED, elapsed_s=2.0, changes=Changes(configured=["one field"])),
        Outcome(status=Status.FAILED, elapsed_s=180.0),
    ):
        RunFolder.create(tmp_path).write_outcomes({"mesh": useless})
    assert history(tmp_path) == {"mesh": 62.0, "certs": 5.0}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 2, "outcomes": {"a": {}}}', '{"schema": 1, "outcomes": {"a": 1}}']
)
def test_history_passes_over_what_it_cannot_read(tmp_path: Path, text: str) -> None:
    (RunFolder.create(tmp_path).path / "outcome.json").write_text(text)
    RunFolder.create(tmp_path).write_outcomes({"mesh": changed(4.0)})
    assert history(tmp_path) == {"mesh": 4.0}


def test_history_of_nothing_is_empty(tmp_path: Path) -> None:
    assert history(tmp_path) == {}


def test_a_project_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / ".box").write_text("in the way")
    with pytest.raises(NotAvailable, match=r"\.box/runs: cannot be written"):
        RunFolder.create(tmp_path)


def test_a_sink_that_fails_is_dropped_and_the_others_go_on() -> None:
    class Bad:
        def receive(self, event: Event) -> None:
            raise BrokenPipeError(event.text)

        def close(self) -> None:
            pytest.fail("it was dropped")

    class Good:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def receive(self, event: Event) -> None:
            self.seen.append(event.text)

        def close(self) -> None:
            self.seen.append("closed")

    bad, good = Bad(), Good()
    with Emitter(bad, good) as emit:
        emit.note("one")
        emit.note("two")
    assert good.seen == ["one", "two", "closed"]
    assert [sink for sink, _ in emit.broken] == [bad]


def changed(seconds: float) -> Outcome:
    return Outcome(status=Status.CHANGED, elapsed_s=seconds, changes=MADE)


def test_the_most_memory_a_process_held_is_told_also_when_it_is_given_back() -> None:
    held = bytearray(64 << 20)
    held[:: 1 << 10] = b"x" * (64 << 10)
    del held
    assert 64 <= peak_mib() < 1 << 20
