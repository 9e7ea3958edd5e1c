"""What a run leaves on disk: .box/runs/<UTC stamp>-<pid>/ with a log for each component, events.jsonl, outcome.json.

Nothing here decides what a run does; past durations only feed the estimates on the board and in a plan.
"""

import json
import os
import re
import resource
import shutil
import textwrap
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from tasks.lib.component import Outcome, Status
from tasks.lib.errors import NotAvailable
from tasks.lib.events import Event, Kind
from tasks.lib.runlock import alive

KEEP = 20
"""How many runs are kept."""

_NAME = re.compile(r"\d{8}T\d{6}Z-\d+(-\d+)?")
_TAIL_LINES = 10


class RunFolder:
    """The folder of one run; a sink of its events."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[Path, TextIO] = {}
        self._tails: dict[str, deque[str]] = {}

    @classmethod
    def create(cls, root: Path, keep: int = KEEP) -> "RunFolder":
        """Make the folder of a new run and remove the oldest beyond `keep`. Raises NotAvailable when it cannot."""
        runs = _runs(root)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
        try:
            runs.mkdir(parents=True, exist_ok=True)
            made = cls(_fresh(runs, name))
        except OSError as error:
            raise NotAvailable(f"{error.filename}: cannot be written: {error.strerror}") from error
        for old in _kept(runs)[:-keep]:
            if not alive(int(old.name.split("-")[1])):
                shutil.rmtree(old, ignore_errors=True)  # another run may be removing it too
        return made

    def log(self, component: str) -> Path:
        """Return the path of a component's log; the run's own is run.log."""
        return self.path / f"{re.sub(r'[^A-Za-z0-9._-]', '_', component) or 'run'}.log"

    def tail(self, component: str) -> list[str]:
        """Return the last lines that a component logged, without its error."""
        return list(self._tails.get(component, ()))

    def receive(self, event: Event) -> None:
        """Write an event down. What is printed by programs goes to the logs alone."""
        self._write_log(event)
        if event.kind not in {Kind.LINE, Kind.DETAIL}:
            record = {
                "at": _stamp(event.at),
                "kind": event.kind.value,
                "component": event.component,
                "text": event.text,
                "elapsed_s": round(event.elapsed_s, 3),
                **({"outcome": _record(event.outcome)} if event.outcome else {}),
            }
            self._append(self.path / "events.jsonl", json.dumps(record))

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def write_outcomes(self, outcomes: Mapping[str, Outcome], **facts: object) -> Path:
        """Write outcome.json at once: outcomes, timings, and what the caller knows of the run (command, wall_s)."""
        path = self.path / "outcome.json"
        whole = {"schema": 1, **facts, "outcomes": {name: _record(each) for name, each in outcomes.items()}}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
        return path

    def _write_log(self, event: Event) -> None:
        text = event.text
        if event.kind is Kind.FINISHED and event.outcome:
            text = f"{event.outcome.status} after {event.elapsed_s:.1f} s: {event.text}"
        elif event.kind is Kind.STARTED:
            text = "started"
        if event.kind in {Kind.LINE, Kind.OBSTACLE}:
            self._tails.setdefault(event.component, deque(maxlen=_TAIL_LINES)).append(text)
        text = textwrap.indent(text, " " * 14).lstrip(" ")
        self._append(self.log(event.component), f"{_stamp(event.at)[11:23]}  {text}".rstrip())

    def _append(self, path: Path, text: str) -> None:
        if path not in self._files:
            self._files[path] = path.open("a", encoding="utf-8")
        self._files[path].write(text + "\n")
        self._files[path].flush()


def peak_mib() -> float:
    """Return the most memory that this process has held so far, in MiB."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)  # in bytes on macOS
    return next((int(line.split()[1]) / (1 << 10) for line in lines if line.startswith("VmHWM:")), 0.0)


def history(root: Path) -> dict[str, float]:
    """Return the usual seconds of each component, as the median of the kept runs in which it made something.

    Runs without an outcome, or with one that cannot be read (an older version wrote it), do not count.
    """
    seconds: dict[str, list[float]] = {}
    for folder in _kept(_runs(root)):
        for name, record in _past(folder / "outcome.json").items():
            if record.get("status") == Status.CHANGED and record.get("created") and "elapsed_s" in record:
                seconds.setdefault(name, []).append(float(record["elapsed_s"]))
    return {name: median(values) for name, values in seconds.items()}


def _past(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    outcomes = found.get("outcomes") if isinstance(found, dict) and found.get("schema") == 1 else None
    if not isinstance(outcomes, dict):
        return {}
    return {name: record for name, record in outcomes.items() if isinstance(record, dict)}


def _runs(root: Path) -> Path:
    return root / ".box" / "runs"


def _kept(runs: Path) -> list[Path]:
    """Return the folders of runs, oldest first."""
    if not runs.is_dir():
        return []
    return sorted((each for each in runs.iterdir() if _NAME.fullmatch(each.name)), key=lambda each: each.name)


def _fresh(runs: Path, name: str) -> Path:
    number = 1
    while True:
        path = runs / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _record(outcome: Outcome) -> dict[str, Any]:
    changes = {name: len(names) for name, names in asdict(outcome.changes).items()}
    return {
        "status": outcome.status.value,
        "reason": outcome.reason,
        "started_s": round(outcome.started_s, 3),
        "elapsed_s": round(outcome.elapsed_s, 3),
        **changes,
        **({"error": str(outcome.error)} if outcome.error else {}),
    }


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
