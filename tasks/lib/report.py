"""The words and marks of a run: durations, outcomes, and the block at the end. Pure text."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tasks.lib.component import Outcome, Status

_REASON_WIDTH = 72


@dataclass(frozen=True, kw_only=True)
class Marks:
    """The symbols of a board. `unicode` tells whether the stream can show more than ASCII."""

    unicode: bool
    done: str
    failed: str
    not_done: str
    running: str

    def of(self, status: Status) -> str:
        """Return the symbol of an outcome."""
        if status.ok:
            return self.done
        return self.failed if status in {Status.FAILED, Status.INTERRUPTED} else self.not_done


UNICODE = Marks(unicode=True, done="✓", failed="✗", not_done="⊘", running="•")
ASCII = Marks(unicode=False, done="+", failed="x", not_done="-", running=">")


def marks_for(stream: TextIO) -> Marks:
    """Return the symbols that a stream can show."""
    try:
        "✓✗⊘•…".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def clean(text: str, marks: Marks) -> str:
    """Make a text fit for one line of a terminal: no control characters, and only ASCII where nothing else shows."""
    line = " ".join(text.splitlines())
    line = "".join(each if each.isprintable() else " " for each in line)
    return line if marks.unicode else line.encode("ascii", "replace").decode()


def duration(seconds: float) -> str:
    """Write seconds as people read them: 0.3s, 63s, 4m05s."""
    if seconds < 9.95:  # noqa: PLR2004 (from here on it would round to 10.0)
        return f"{seconds:.1f}s"
    if seconds < 119.5:  # noqa: PLR2004 (two minutes, rounded)
        return f"{seconds:.0f}s"
    return f"{round(seconds) // 60}m{round(seconds) % 60:02d}s"


def summary(
    outcomes: Mapping[str, Outcome],
    *,
    wall_s: float,
    marks: Marks = UNICODE,
    critical: tuple[float, Sequence[str]] = (0.0, ()),
    log: Callable[[str], Path] | None = None,
    tail: Callable[[str], Sequence[str]] | None = None,
    origin: str = "",
    next_command: str = "",
) -> str:
    """Return the block at the end of a run.

    A table of all components, the logs of those that failed with their last lines, the totals, `origin` (what is not as
    it is pinned), and what to type next. `log` and `tail` are those of the run's folder.
    """
    blocks = [_table(outcomes, marks)]
    for name, outcome in outcomes.items():
        if outcome.status in {Status.FAILED, Status.INTERRUPTED} and log:
            lines = tail(name) if tail else ()
            blocks.append(
                "\n".join([f"  log of {name}: {log(name)}", *(f"    {clean(line, marks)}" for line in lines)])
            )
    blocks.append(_totals(outcomes, wall_s, critical))
    if origin:
        blocks[-1] += f"\n{clean(origin, marks)}"
    if next_command:
        blocks[-1] += f"\nNext: {next_command}"
    return "\n\n".join(blocks) + "\n"


def _table(outcomes: Mapping[str, Outcome], marks: Marks) -> str:
    names = max((len(name) for name in outcomes), default=0)
    rows = []
    for name, outcome in outcomes.items():
        took = duration(outcome.elapsed_s) if outcome.elapsed_s else ""
        told = clean(str(outcome), marks)
        if told == outcome.status.value:
            told = ""
        if len(told) > _REASON_WIDTH:
            told = told[: _REASON_WIDTH - 3] + "..."
        rows.append(f"  {marks.of(outcome.status)} {name:<{names}}  {outcome.status:<11}  {took:>6}  {told}".rstrip())
    return "\n".join(rows)


def _totals(outcomes: Mapping[str, Outcome], wall_s: float, critical: tuple[float, Sequence[str]]) -> str:
    count = Counter(outcome.status for outcome in outcomes.values())
    told = ", ".join(f"{count[status]} {status}" for status in Status if count[status])
    changes = sum(outcome.changes.count for outcome in outcomes.values())
    lines = [
        f"{len(outcomes)} components: {told or 'none'}",
        f"{changes} change{'' if changes == 1 else 's'} in {duration(wall_s)}",
    ]
    seconds, path = critical
    if path and seconds >= 1:
        lines[1] += f"; longest chain {duration(seconds)}: {' > '.join(path)}"
    return "\n".join(lines)
