"""What a component is, and the records that pass between the components, the engine and the board. Data only."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tasks.lib.box import Box


class State(StrEnum):
    """What a look found. Only READY means that there is nothing to do."""

    ABSENT = "absent"
    CHANGED = "changed"
    UNHEALTHY = "unhealthy"
    READY = "ready"


class Status(StrEnum):
    """How a component came out of a run."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"
    BLOCKED = "blocked"
    INTERRUPTED = "interrupted"
    LEFT_OUT = "left out"

    @property
    def ok(self) -> bool:
        """Whether what needs this component may start."""
        return self in {Status.CHANGED, Status.UNCHANGED, Status.SKIPPED}


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look found, why it says so, and which objects an act would change."""

    state: State
    reason: str = ""
    changes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What an act did, object by object. `kept` are objects no longer wanted that are never deleted (volumes)."""

    created: list[str] = field(default_factory=list)
    configured: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Return the number of objects that are not as they were before."""
        return len(self.created) + len(self.configured) + len(self.deleted)

    def __add__(self, other: "Changes") -> "Changes":
        return Changes(
            created=self.created + other.created,
            configured=self.configured + other.configured,
            unchanged=self.unchanged + other.unchanged,
            deleted=self.deleted + other.deleted,
            kept=self.kept + other.kept,
        )

    def __str__(self) -> str:
        counts = {
            "created": len(self.created),
            "configured": len(self.configured),
            "deleted": len(self.deleted),
            "kept": len(self.kept),
            "unchanged": len(self.unchanged),
        }
        return ", ".join(f"{number} {word}" for word, number in counts.items() if number) or "nothing to change"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one component came out of a run.

    `reason` is one line. `started_s` counts from the start of the run; `elapsed_s` leaves out the time spent waiting
    for its turn. `causes` are the components whose failure blocked this one.
    """

    status: Status
    reason: str = ""
    changes: Changes = field(default_factory=Changes)
    started_s: float = 0.0
    elapsed_s: float = 0.0
    error: BaseException | None = None
    causes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.status in {Status.CHANGED, Status.UNCHANGED}:
            return str(self.changes)
        return self.reason or str(self.status)


class Say(Protocol):
    """How an act tells what it waits for or does. Calling it replaces the text on the board; `line` only logs."""

    def __call__(self, text: str, /) -> None:
        """Show what is being waited for, in words ("istiod: 0 of 1 available")."""

    def line(self, text: str, /) -> None:
        """Log a line of output without showing it."""


class Node(Protocol):
    """What the graph and the engine know of a component."""

    @property
    def name(self) -> str:
        """Unique, and fit for a file name."""

    @property
    def stage(self) -> str:
        """The command that brings it up."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the components that must be ready first."""

    @property
    def exclusive(self) -> bool:
        """Whether nothing else may run beside it."""

    @property
    def left_out(self) -> str:
        """Why it is not in this version; empty when it is."""


class Component(Node, Protocol):
    """One piece of the platform: the unit of parallelism, of skipping and of reporting."""

    @property
    def summary(self) -> str:
        """One line for people."""

    @property
    def timeout_s(self) -> float:
        """Bound of all the waiting in one act, in seconds."""

    def look(self, box: "Box") -> Look:
        """Compare the world with what is wanted. Changes nothing."""

    def act(self, box: "Box", say: Say) -> Changes:
        """Make it so, and return once what it promises has been observed. Safe to repeat."""
