"""What people see: on a terminal, in a pipe, in CI, and at the end."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from tasks.lib import board, report
from tasks.lib.board import GroupedBoard, LiveBoard, PlainBoard
from tasks.lib.component import Changes, Outcome, Status
from tasks.lib.errors import NotReady
from tasks.lib.events import Emitter, Event, Kind

ROOT = Path(__file__).parents[2]
MADE = Outcome(
    status=Status.CHANGED,
    changes=Changes(created=["x"] * 4, unchanged=["y"] * 11),
    elapsed_s=63.2,
)
FAILED = Outcome(status=Status.FAILED, reason="istiod never became ready", elapsed_s=180, error=NotReady("no"))
BLOCKED = Outcome(status=Status.BLOCKED, reason="needs mesh, which failed", causes=("mesh",))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stream(io.TextIOWrapper):
    """A text stream of a given encoding that may claim to be a terminal."""

    def __init__(self, encoding: str = "utf-8", *, tty: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty

    @property
    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


def event(kind: Kind, text: str = "", *, name: str = "mesh", outcome: Outcome | None = None, at_s: float = 0) -> Event:
    return Event(kind=kind, component=name, text=text, outcome=outcome, elapsed_s=at_s)


def test_plain_lines_start_and_finish() -> None:
    stream = Stream()
    with Emitter(PlainBoard(stream)) as emit:
        emit.note("another run is at work")
        emit(event(Kind.STARTED))
        emit(event(Kind.LINE, "output of a program"))
        emit(event(Kind.FINISHED, outcome=MADE))
        emit(event(Kind.FINISHED, name="serving", outcome=BLOCKED))
    assert [line.split() for line in stream.text.splitlines()] == [
        ["another", "run", "is", "at", "work"],
        ["•", "mesh"],
        ["✓", "mesh", "4", "created,", "11", "unchanged", "63s"],
        ["⊘", "serving", "needs", "mesh,", "which", "failed"],
    ]
    assert not emit.broken


def test_plain_tells_an_obstacle_when_it_has_changed_and_not_too_often() -> None:
    stream, clock = Stream(), Clock()
    plain = PlainBoard(stream, clock=clock)
    plain.receive(event(Kind.STARTED))
    for second in range(60):
        clock.now = 1000.0 + second
        plain.receive(event(Kind.OBSTACLE, "pulling" if second < 20 else f"{second // 30} of 2 available"))
    plain.close()
    assert re.findall(r"mesh: (.*)", stream.text) == [
        "pulling (15s)", "1 of 2 available (30s)",
    ]  # fmt: skip


def test_plain_tells_an_obstacle_that_was_said_only_once() -> None:
    stream, clock = Stream(), Clock()
    plain = PlainBoard(stream, clock=clock)
    plain.receive(event(Kind.STARTED))
    plain.receive(event(Kind.OBSTACLE, "istiod: 0 of 1 available"))
    assert "istiod" not in stream.text
    clock.now += 16
    plain.pulse()
    plain.pulse()
    plain.close()
    assert stream.text.count("istiod: 0 of 1 available (16s)") == 1


def test_the_pulse_needs_nobody_to_call_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainBoard, "pulse_s", 0.05)
    stream = Stream()
    plain = PlainBoard(stream)
    plain.receive(event(Kind.STARTED))
    plain.receive(event(Kind.OBSTACLE, "waiting"))
    deadline = time.monotonic() + 60
    while "waiting" not in stream.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    plain.close()


def test_ci_gets_one_block_for_each_component_whatever_came_between() -> None:
    stream = Stream()
    with Emitter(GroupedBoard(stream)) as emit:
        for name in ("mesh", "certs"):
            emit(event(Kind.STARTED, name=name))
        emit(event(Kind.OBSTACLE, "istiod: 0 of 1", at_s=3))
        emit(event(Kind.LINE, "::error::not a command", name="certs", at_s=4))
        emit(event(Kind.LINE, "output", at_s=5))
        emit(event(Kind.FINISHED, outcome=MADE))
        emit(event(Kind.FINISHED, name="certs", outcome=FAILED))
    lines = stream.text.splitlines()
    assert lines[2].startswith("::group::✓ mesh")
    assert [line.strip() for line in lines[3:6]] == ["3.0s  istiod: 0 of 1", "5.0s  output", "::endgroup::"]
    assert lines[6].startswith("  ✗ certs")  # not folded: what failed is to be seen
    assert lines[7].strip() == "4.0s  ::error::not a command"
    assert len(lines) == 8
    assert [line for line in lines if line.lstrip().startswith("::")] == [lines[2], lines[5]]


def test_ci_gets_a_sign_of_life() -> None:
    stream, clock = Stream(), Clock()
    grouped = GroupedBoard(stream, clock=clock)
    grouped.receive(event(Kind.STARTED))
    grouped.receive(event(Kind.OBSTACLE, "building"))
    for _ in range(4):
        clock.now += 30
        grouped.pulse()
    grouped.close()
    assert re.findall(r"mesh: (.*)", stream.text) == ["building (60s)", "building (2m00s)"]


@pytest.mark.parametrize(
    ("env", "tty", "kind"),
    [
        ({"TERM": "xterm"}, True, LiveBoard),
        ({"TERM": "dumb"}, True, PlainBoard),
        ({"TERM": "xterm"}, False, PlainBoard),
        ({"CI": "true", "TERM": "xterm"}, True, GroupedBoard),
        ({"GITHUB_ACTIONS": "true"}, False, GroupedBoard),
        ({"CI": "false"}, False, PlainBoard),
        ({"CI": ""}, False, PlainBoard),
    ],
)
def test_the_board_fits_its_place(env: dict[str, str], tty: bool, kind: type) -> None:
    assert type(board.choose(Stream(tty=tty), env=env)) is kind


def test_ascii_where_nothing_else_shows() -> None:
    stream = Stream("ascii")
    with Emitter(PlainBoard(stream)) as emit:
        emit(event(Kind.STARTED))
        emit(event(Kind.FINISHED, outcome=MADE))
        emit(event(Kind.FINISHED, name="serving", outcome=Outcome(status=Status.BLOCKED, reason="needs “mesh”…")))
    assert not emit.broken
    assert "+ mesh" in stream.text
    assert "- serving              needs ?mesh??" in stream.text


def test_control_characters_of_others_do_not_reach_the_terminal() -> None:
    assert report.clean("a\x1b[2Jb\nc\rd\te", report.UNICODE) == "a [2Jb c d e"


LIVE = """
import sys, time
sys.path.insert(0, {root!r})
from tasks.lib import board
from tasks.lib.component import Changes, Outcome, Status
from tasks.lib.events import Emitter, Event, Kind

with Emitter(board.choose(expected={{"mesh": 40.0}})) as emit:
    emit.note("a note [with brackets]")
    for name in ("mesh", "certs"):
        emit(Event(kind=Kind.STARTED, component=name))
    emit(Event(kind=Kind.OBSTACLE, component="mesh", text="istiod: 0 of 1 available [x] " + "long " * 60))
    time.sleep(0.4)
    print("the answer", flush=True)
    made = Changes(created=["a"] * 4)
    outcome = Outcome(status=Status.CHANGED, changes=made, elapsed_s=3)
    emit(Event(kind=Kind.FINISHED, component="certs", outcome=outcome))
    time.sleep(0.4)
    {end}
"""


def on_a_terminal(end: str, **env: str) -> tuple[str, str, int]:
    """Run a live board in a terminal of its own; return what the terminal saw, standard output, and the exit code."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", LIVE.format(root=str(ROOT), end=end)],
        stdout=subprocess.PIPE,
        stderr=side,
        env={"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": "80", "LANG": "C.UTF-8", **env},
    )
    os.close(side)
    seen = b""
    while select.select([main], [], [], 60)[0]:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not chunk:
            break
        seen += chunk
    out, _ = process.communicate(timeout=60)
    os.close(main)
    return seen.decode(), out.decode(), process.returncode


def test_live_board_on_a_terminal() -> None:
    seen, out, code = on_a_terminal("pass")
    assert code == 0
    assert out == "the answer\n"  # answers stay on standard output
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert "a note [with brackets]" in plain
    assert "• mesh" in plain
    assert "istiod: 0 of 1 available [x]" in plain
    assert "✓ certs" in plain
    assert "4 created" in plain
    assert "\x1b[32m" in seen  # green
    assert "• certs" not in plain[plain.index("✓ certs") :]  # it is not drawn as running once it has ended
    assert max(len(line.rstrip()) for line in re.split(r"[\r\n]+", plain)) <= 80
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")  # the cursor is back


def test_live_board_gives_the_terminal_back_after_an_interrupt() -> None:
    seen, _, code = on_a_terminal("raise KeyboardInterrupt")
    assert code != 0
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")


def test_live_board_honours_no_color_and_poor_encodings() -> None:
    seen, _, code = on_a_terminal("pass", NO_COLOR="1", PYTHONIOENCODING="ascii")
    assert code == 0
    assert not re.search(r"\x1b\[3\dm", seen)
    assert "+ certs" in seen
    assert seen.isascii()


def test_live_board_estimates_what_is_left_once_it_is_clear_that_there_is_work() -> None:
    clock = Clock()
    live = LiveBoard(Stream(tty=True), expected={"mesh": 40.0}, clock=clock)
    live.receive(event(Kind.STARTED))

    def drawn() -> str:
        console = Console(file=io.StringIO(), width=100)
        console.print(live.render())
        return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]

    assert "left" not in drawn()
    clock.now += 10
    assert "(about 30s left)" in drawn()
    clock.now += 35
    assert "left" not in drawn()
    live.close()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (0.32, "0.3s"), (9.94, "9.9s"), (9.96, "10s"), (63.2, "63s"), (119.6, "2m00s"), (245, "4m05s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


def test_the_summary_of_a_failed_run() -> None:
    outcomes = {
        "certs": Outcome(status=Status.UNCHANGED, changes=Changes(unchanged=["x"] * 3), elapsed_s=0.6),
        "mesh": FAILED,
        "serving": BLOCKED,
        "gateway": Outcome(status=Status.LEFT_OUT, reason="not in this version"),
    }
    text = report.summary(
        outcomes,
        wall_s=181,
        critical=(180.6, ("certs", "mesh")),
        log=lambda name: Path(f".box/runs/x/{name}.log"),
        tail=lambda _: ["istiod: 0 of 1 available"],
        next_command="invoke mesh",
    )
    assert text == (
        "  ✓ certs    unchanged      0.6s  3 unchanged\n"
        "  ✗ mesh     failed        3m00s  istiod never became ready\n"
        "  ⊘ serving  blocked              needs mesh, which failed\n"
        "  ⊘ gateway  left out             not in this version\n"
        "\n"
        "  log of mesh: .box/runs/x/mesh.log\n"
        "    istiod: 0 of 1 available\n"
        "\n"
        "4 components: 1 unchanged, 1 failed, 1 blocked, 1 left out\n"
        "0 changes in 3m01s; longest chain 3m01s: certs > mesh\n"
        "Next: invoke mesh\n"
    )


def test_the_summary_of_a_run_with_nothing_to_do_says_0_changes() -> None:
    text = report.summary({"a": Outcome(status=Status.SKIPPED, reason="ready", elapsed_s=0.3)}, wall_s=0.3)
    assert "0 changes in 0.3s" in text
    assert "1 change in" in report.summary(
        {"a": Outcome(status=Status.CHANGED, changes=Changes(deleted=["x"]))}, wall_s=1
    )
