"""Shows a run to people, on standard error: a live board on a terminal, plain lines elsewhere, groups in CI."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from tasks.lib.component import Outcome, Status
from tasks.lib.events import Event, Kind, Sink
from tasks.lib.report import Marks, clean, duration, marks_for

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_QUIET_S = 15.0
"""Plain lines: an obstacle is told when it has changed, and at most this often for each component."""

_PULSE_S = 60.0
"""CI: how often a sign of life is given while components run."""

_ETA_FROM_S = 3.0
"""Live board: an estimate is shown only after this long, because a run without changes is over before."""

_STYLES = {Status.FAILED: "red", Status.INTERRUPTED: "red", Status.BLOCKED: "yellow", Status.LEFT_OUT: "dim"}


@dataclass
class _Running:
    """A component in flight, as a board sees it. `told` is the text last shown, at the time `told_at`."""

    begun: float
    told_at: float
    text: str = ""
    told: str = ""
    lines: list[str] = field(default_factory=list)


def choose(
    stream: TextIO | None = None,
    *,
    env: Mapping[str, str] | None = None,
    expected: Mapping[str, float] | None = None,
) -> Sink:
    """Return the board that fits where it is shown. `expected` holds usual seconds by component (runs.history)."""
    stream, env = stream or sys.stderr, os.environ if env is None else env
    if any(env.get(name, "").lower() not in {"", "0", "false"} for name in ("CI", "GITHUB_ACTIONS")):
        return GroupedBoard(stream)
    if stream.isatty() and env.get("TERM", "") != "dumb":
        return LiveBoard(stream, expected=expected or {})
    return PlainBoard(stream)


class PlainBoard:
    """A line when a component starts and when it ends, and the obstacle of a long wait now and then."""

    pulse_s = _QUIET_S

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._marks = marks_for(stream)
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._heart: threading.Thread | None = None

    def receive(self, event: Event) -> None:
        """Show an event, or keep it until its turn."""
        with self._lock:
            if self._heart is None:
                self._heart = threading.Thread(target=self._beat, name="board", daemon=True)
                self._heart.start()
            if event.kind is Kind.LINE and not event.component:
                self._write(event.text)
            elif event.kind is Kind.STARTED:
                self._running[event.component] = _Running(begun=self._clock(), told_at=self._clock())
                self._write(f"{self._marks.running} {event.component}")
            elif event.kind is Kind.FINISHED and event.outcome:
                self._finish(event.component, event.outcome, self._running.pop(event.component, None))
            elif event.component in self._running:
                self._progress(event, self._running[event.component])

    def close(self) -> None:
        """Stop the pulse."""
        self._over.set()
        if self._heart:
            self._heart.join()

    def pulse(self) -> None:
        """Show what has waited for its turn."""
        with self._lock:
            for name, running in self._running.items():
                self._remind(name, running)

    def _progress(self, event: Event, running: _Running) -> None:
        if event.kind is Kind.OBSTACLE:
            running.text = event.text
            self._remind(event.component, running)

    def _remind(self, name: str, running: _Running) -> None:
        now = self._clock()
        if running.text != running.told and now - running.told_at >= self.pulse_s:
            running.told, running.told_at = running.text, now
            self._write(f"{self._marks.running} {name}: {running.text} ({duration(now - running.begun)})")

    def _finish(self, name: str, outcome: Outcome, _: _Running | None) -> None:
        self._write(_line(self._marks, name, outcome))

    def _write(self, text: str) -> None:
        self._stream.write(f"  {clean(text, self._marks)}\n")
        self._stream.flush()

    def _beat(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the stream is closed; the emitter finds out too
            while not self._over.wait(self.pulse_s / 3):
                self.pulse()


class GroupedBoard(PlainBoard):
    """Everything a component said as one foldable block when it ends; failures unfolded; a sign of life in between."""

    pulse_s = _PULSE_S

    def _progress(self, event: Event, running: _Running) -> None:
        if event.kind is Kind.OBSTACLE:
            running.text = event.text
        if event.kind in {Kind.OBSTACLE, Kind.LINE}:
            running.lines.append(f"{duration(event.elapsed_s):>6}  {event.text}")

    def _remind(self, name: str, running: _Running) -> None:
        running.told = ""  # a pulse says that it is alive, changed or not
        running.text = running.text or "running"
        super()._remind(name, running)

    def _finish(self, name: str, outcome: Outcome, running: _Running | None) -> None:
        title = _line(self._marks, name, outcome)
        lines = running.lines if running else []
        fold = bool(lines) and outcome.status.ok
        block = [f"::group::{title}" if fold else f"  {title}", *(f"  {line}" for line in lines)]
        # One write: lines of other components must not fall between. A line of output that begins with "::" is
        # a command to CI; each of ours begins with its seconds.
        text = "\n".join(clean(line, self._marks) for line in block) + "\n" + ("::endgroup::\n" if fold else "")
        self._stream.write(text)
        self._stream.flush()


class LiveBoard:
    """One line for each running component, redrawn in place; what has ended scrolls up above them."""

    def __init__(
        self, stream: TextIO, *, expected: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.console import Console  # (rich takes 100 ms; only a terminal needs it)

        self._console = Console(file=stream, markup=False, emoji=False, highlight=False)
        self._expected, self._clock = expected, clock
        self._marks = marks_for(stream)
        self._running: dict[str, _Running] = {}
        self._live: Live | None = None

    def receive(self, event: Event) -> None:
        """Show an event."""
        if self._live is None:
            self._live = self._start()
        if event.kind is Kind.LINE and not event.component:
            self._print(event.text, "")
        elif event.kind is Kind.STARTED:
            self._running[event.component] = _Running(begun=self._clock(), told_at=0)
        elif event.kind is Kind.OBSTACLE and event.component in self._running:
            self._running[event.component].text = event.text
        elif event.kind is Kind.FINISHED and event.outcome:
            self._running.pop(event.component, None)
            self._live.refresh()  # or its last line would be drawn once more, below the one that ends it
            self._print(_line(self._marks, event.component, event.outcome), _STYLES.get(event.outcome.status, "green"))

    def close(self) -> None:
        """Give the terminal back: cursor shown, nothing half drawn."""
        self._running.clear()
        if self._live:
            self._live.stop()

    def render(self) -> "RenderableType":
        """Draw what is running now. Called by the thread that redraws."""
        from rich.table import Table  # (as above)
        from rich.text import Text  # (as above)

        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, ratio=1, overflow="ellipsis" if self._marks.unicode else "crop")
        for name, running in list(self._running.items()):
            elapsed = self._clock() - running.begun
            said = clean(running.text, self._marks) + self._left(name, elapsed)
            table.add_row(Text(f"  {self._marks.running} {name}"), Text(duration(elapsed)), Text(said, style="dim"))
        return table

    def _left(self, name: str, elapsed: float) -> str:
        left = self._expected.get(name, 0) - elapsed
        return f"  (about {duration(max(left, 1))} left)" if left > 0 and elapsed >= _ETA_FROM_S else ""

    def _print(self, text: str, style: str) -> None:
        from rich.text import Text  # (as above)

        self._console.print(Text(f"  {clean(text, self._marks)}", style=style), soft_wrap=True)

    def _start(self) -> "Live":
        from rich.live import Live  # (as above)

        # Answers go to standard output; rich would otherwise take them over.
        live = Live(
            get_renderable=self.render,
            console=self._console,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start()
        return live


def _line(marks: Marks, name: str, outcome: Outcome) -> str:
    took = duration(outcome.elapsed_s) if outcome.elapsed_s else ""
    return f"{marks.of(outcome.status)} {name:<20} {outcome!s:<36} {took:>6}".rstrip()
