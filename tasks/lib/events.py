"""What happens in a run, as a stream of events, and the one place that hands them to whoever shows or keeps them."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from tasks.lib.component import Outcome


class Kind(StrEnum):
    """What an event is about. DETAIL is for the log alone (errors in full, tracebacks)."""

    STARTED = "started"
    OBSTACLE = "obstacle"
    LINE = "line"
    DETAIL = "detail"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a component, or to the run itself when `component` is empty.

    `elapsed_s` counts from the start of the component; `at` is the wall clock; FINISHED carries the outcome.
    """

    kind: Kind
    component: str = ""
    text: str = ""
    elapsed_s: float = 0.0
    outcome: Outcome | None = None
    at: float = field(default_factory=time.time)


Emit = Callable[[Event], None]


class Sink(Protocol):
    """Shows or keeps events. Called by one thread at a time."""

    def receive(self, event: Event) -> None:
        """Take the next event."""

    def close(self) -> None:
        """Finish what is open. Called once."""


class Emitter:
    """Hands each event to every sink, one at a time, from any thread.

    A sink that fails (a closed pipe, a full disk) is dropped and remembered in `broken`: what is half done in a
    cluster weighs more than a line on a screen.
    """

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = list(sinks)
        self._lock = threading.Lock()
        self.broken: list[tuple[Sink, Exception]] = []

    def __call__(self, event: Event) -> None:
        """Hand on an event."""
        with self._lock:
            for sink in list(self._sinks):
                self._try(sink, partial(sink.receive, event))

    def note(self, text: str) -> None:
        """Tell something about the run itself."""
        self(Event(kind=Kind.LINE, text=text))

    def close(self) -> None:
        """Close every sink. Further events go nowhere."""
        with self._lock:
            sinks, self._sinks = self._sinks, []
            for sink in sinks:
                self._try(sink, sink.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _try(self, sink: Sink, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 (whatever a sink does must not reach the components)
            self.broken.append((sink, error))
            if sink in self._sinks:
                self._sinks.remove(sink)
