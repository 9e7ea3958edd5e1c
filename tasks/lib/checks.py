"""Claims about the platform: what a check is, and what comes of it. They are made in checkrun.py.

A claim is about behaviour, and true or false. Its probe says passed, failed or skipped; the tables are in tasks/checks.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tasks.lib.box import Box
from tasks.lib.component import Say
from tasks.lib.engine import Planned
from tasks.lib.errors import BadInput, NotReady
from tasks.lib.kube import wait


class Verdict(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of many questions that a check asks: what is wrong with it (nothing, or a sentence), and what was seen."""

    name: str
    wrong: str = ""
    seen: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a probe found: a sentence, what it goes by in lines, what was measured (seconds, counts), and its parts."""

    verdict: Verdict
    says: str = ""
    evidence: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)
    parts: Sequence[Part] = ()


def passed(
    says: str = "", evidence: str = "", *, measured: Mapping[str, float] | None = None, parts: Sequence[Part] = ()
) -> Result:  # fmt: skip
    """The claim is true."""
    return Result(verdict=Verdict.PASSED, says=says, evidence=evidence, measured=measured or {}, parts=parts)


def failed(says: str, evidence: str = "", *, parts: Sequence[Part] = ()) -> Result:
    """The claim is false, or what should show it is out of reach."""
    return Result(verdict=Verdict.FAILED, says=says, evidence=evidence, parts=parts)


def skipped(why: str, evidence: str = "") -> Result:
    """The check cannot be made here."""
    return Result(verdict=Verdict.SKIPPED, says=why, evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a probe gets: the platform, what was found of its components, and how long it has."""

    box: Box
    say: Say
    looks: Mapping[str, Planned]
    deadline: float

    @property
    def left_s(self) -> float:
        """Seconds until the check's time is up."""
        return max(0.0, self.deadline - time.monotonic())

    def observe(self, obstacle: Callable[[], str], within_s: float) -> str:
        """Ask until nothing stands in the way any more. Return the last obstacle when the time is up, else nothing.

        Raises NotReady when the run is to stop.
        """
        until, told = time.monotonic() + min(within_s, self.left_s), ""
        while (found := obstacle()) and time.monotonic() < until:
            if found != told:
                told = found
                self.say(told)
            if self.box.cancel.wait(wait.POLL_S):
                raise NotReady("stopped", facts={"waited for": found})
        return found

    def require(self, obstacle: Callable[[], str], within_s: float) -> None:
        """Ask until nothing stands in the way any more. Raises NotReady with the last obstacle, or as `observe`."""
        if why := self.observe(obstacle, within_s):
            raise NotReady(why)

    def pause(self, seconds: float) -> None:
        """Let so many seconds pass, or none when they are over. Raises NotReady when the run is to stop."""
        if self.box.cancel.wait(max(0.0, seconds)):
            raise NotReady("stopped")


Probe = Callable[[Scene], Result]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A sentence that is true or false, and how to find out.

    `subject` tells apart checks of one id (a model, a tenant). `needs` are components or stages that have to be ready,
    or ids of checks that have to have passed; `looks` are components whose state the probe reads from the scene.
    `after` are ids of checks that have to be over first, however they came out; `exclusive` runs alone.
    """

    id: str
    claim: str
    probe: Probe
    stage: str
    subject: str = ""
    needs: tuple[str, ...] = ()
    looks: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    exclusive: bool = False
    fix: str = ""
    timeout_s: float = 60

    @property
    def name(self) -> str:
        """Unique: the id and the subject."""
        return f"{self.id} {self.subject}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A check, what came of it, and how long it took."""

    check: Check
    result: Result
    elapsed_s: float = 0.0


def unmade(check_id: str, stage: str, claim: str, why: str) -> Check:
    """Return the check that stands for claims nothing here can show: always skipped."""
    return Check(id=check_id, stage=stage, claim=claim, probe=lambda _: skipped(why))


def select(checks: Sequence[Check], only: Iterable[str]) -> list[Check]:
    """Return the checks of these stages or ids, and the checks they need; all of them when none is named.

    Raises BadInput listing what is not known.
    """
    wanted = set(only)
    known = dict.fromkeys([*(each.stage for each in checks), *(each.id for each in checks)])
    if unknown := sorted(wanted - set(known)):
        raise BadInput(f"unknown checks: {', '.join(unknown)}", facts={"known": ", ".join(known)})
    ids = {each.id for each in checks}
    chosen, before = {each.id for each in checks if not wanted or wanted & {each.stage, each.id}}, set[str]()
    while chosen != before:
        before = set(chosen)
        chosen |= {need for each in checks if each.id in before for need in each.needs if need in ids}
    return [each for each in checks if each.id in chosen]


def targets(checks: Iterable[Check], stages: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the components that have to be looked at for these checks."""
    checks = list(checks)
    ids = {each.id for each in checks}
    found = [need for each in checks for need in (*each.needs, *each.looks) if need not in ids]
    return list(dict.fromkeys(name for need in found for name in stages.get(need, (need,))))
