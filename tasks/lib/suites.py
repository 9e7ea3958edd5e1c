"""`invoke test`: the checks of this repository, one after another, and what was skipped and why."""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tasks.lib import shell
from tasks.lib.errors import BadInput
from tasks.lib.report import Marks, duration, marks_for
from tasks.lib.session import ROOT

LINT = "lint"
FOLDERS = ("unit", "render", "cluster")
SUITES = (LINT, *FOLDERS)

_LINTERS: Mapping[str, tuple[str, ...]] = {"ruff check": (".",), "ruff format": ("--check", "."), "mypy": ()}
"""The program and its subcommand, and what else it is given."""

_NO_TESTS = 5
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")
_LAST = re.compile(r"=+ .* in [\d.]+s.* =+|.* in [\d.]+s( \(.*\))?")

Write = Callable[[str], None]


class State(StrEnum):
    """How a check came out."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One program to run; `folder` is what it needs to be there."""

    name: str
    argv: tuple[str, ...]
    folder: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A check that was run. `skipped` are the lines of what it left out, with the reasons."""

    name: str
    state: State
    says: str = ""
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0


def run_all(only: Collection[str] = (), *, keyword: str = "", keep_cluster: bool = False) -> bool:
    """Run the suites and print how they came out; return whether nothing failed. Raises BadInput."""
    wanted = checks(only, keyword=keyword, keep_cluster=keep_cluster)
    results = run(ROOT, wanted, _write, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    sys.stdout.write("\n" + summary(results, marks_for(sys.stdout)))
    return all(each.state is not State.FAILED for each in results)


def checks(only: Collection[str] = (), *, keyword: str = "", keep_cluster: bool = False) -> list[Check]:
    """Return what to run, in order. Raises BadInput for an unknown suite."""
    if unknown := sorted(set(only) - set(SUITES)):
        raise BadInput(f"--only: no suite {', '.join(unknown)}", facts={"known": ", ".join(SUITES)})
    found: list[Check] = []
    if not only or LINT in only:
        for name, rest in _LINTERS.items():
            found.append(Check(name=name, argv=(sys.executable, "-m", *name.split(), *rest)))
    for suite in FOLDERS:
        if not only or suite in only:
            folder = f"tests/{suite}"
            words = [sys.executable, "-m", "pytest", folder, "-ra", "--durations=15"]
            words += ["-k", keyword] if keyword else []
            words += ["--keep-cluster"] if keep_cluster and suite == "cluster" else []
            found.append(Check(name=suite, argv=tuple(words), folder=folder))
    return found


def run(root: Path, wanted: Iterable[Check], write: Write, *, colour: bool) -> list[Result]:
    """Run every check, also after one that failed. Their output is passed on line by line as it comes."""
    actions, strict = "GITHUB_ACTIONS" in os.environ, os.environ.get("CI") == "true"
    results = []
    for check in wanted:
        write(f"::group::{check.name}" if actions else f"\n== {check.name}")
        results.append(_run(root, check, write, strict=strict, colour=colour))
        if actions:
            write("::endgroup::")
    return results


def _run(root: Path, check: Check, write: Write, *, strict: bool, colour: bool) -> Result:
    if check.folder and not (root / check.folder).is_dir():
        state = State.FAILED if strict and check.name == "cluster" else State.SKIPPED
        return Result(name=check.name, state=state, says=f"there is no {check.folder}")
    environment = {"PYTHONUNBUFFERED": "1", **({"FORCE_COLOR": "1"} if colour else {})}
    begun = time.monotonic()
    found = shell.run(check.argv, cwd=root, env=environment, check=False, on_line=write)
    seconds = time.monotonic() - begun
    return judge(check, found.returncode, found.stdout, seconds, strict=strict)


def judge(check: Check, code: int, out: str, seconds: float, *, strict: bool = False) -> Result:
    """Say what an exit status and an output mean. What was skipped as a whole has not passed.

    With `strict` (in CI), a suite on a cluster that was skipped as a whole has failed.
    """
    lines = _COLOUR.sub("", out).splitlines()
    skipped = tuple(line.removeprefix("SKIPPED ") for line in lines if line.startswith("SKIPPED "))
    last = next((line for line in reversed(lines) if _LAST.fullmatch(line)), "")
    counts = Counter({word: int(number) for number, word in _COUNT.findall(last)})
    says = ", ".join(f"{number} {word}" for word, number in counts.items())
    state = State.PASSED if code == 0 else State.FAILED
    if code == _NO_TESTS and "-k" in check.argv:
        state, says = State.SKIPPED, "nothing matches the keyword"
    elif code == 0 and counts["skipped"] and not counts["passed"]:
        state = State.FAILED if strict and check.name == "cluster" else State.SKIPPED
    elif code != 0 and not says:
        says = f"exit status {code}"
    return Result(name=check.name, state=state, says=says, skipped=skipped, seconds=seconds)


def summary(results: Iterable[Result], marks: Marks) -> str:
    """Return the block at the end: each check, then everything that was skipped with its reason."""
    results = list(results)
    signs = {State.PASSED: marks.done, State.SKIPPED: marks.not_done, State.FAILED: marks.failed}
    width = max((len(each.name) for each in results), default=0)
    lines = []
    for each in results:
        took = duration(each.seconds)
        lines.append(f"  {signs[each.state]} {each.name:<{width}}  {each.state:<7}  {took:>6}  {each.says}".rstrip())
    left = [f"  {each.name}: {line}" for each in results for line in each.skipped]
    left += [f"  {each.name}: {each.says}" for each in results if each.state is State.SKIPPED and not each.skipped]
    if left:
        lines += ["skipped, and why:", *left]
    failed = [each.name for each in results if each.state is State.FAILED]
    lines.append(f"failed: {', '.join(failed)}" if failed else "nothing failed")
    return "\n".join(lines) + "\n"


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
