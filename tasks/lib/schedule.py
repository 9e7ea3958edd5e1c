"""Who runs when: needs first, independent components side by side, exclusive ones alone.

A failure blocks what needs it and nothing else. An interrupt ends the children, says what was in flight, and leaves a
state that the same command picks up again. Knows nothing of looking and acting: a step is a function.
"""

import contextlib
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from types import FrameType
from typing import Generic

from tasks.lib import shell
from tasks.lib.component import Outcome, Say, Status
from tasks.lib.errors import BadInput, BoxError
from tasks.lib.events import Emit, Event, Kind
from tasks.lib.graph import Graph, N

STOP_S = 15.0
"""Seconds that components in flight get to notice an interrupt before the run ends without them."""

_TICK_S = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BoxError):  # noqa: N818 (named like the rest of errors.py)
    """A run that was told to stop (Ctrl-C, SIGTERM, a lost lease). `outcomes` holds what was reached."""

    code = 130

    def __init__(
        self, what: str, *, outcomes: Mapping[str, Outcome], facts: Mapping[str, object] | None = None, hint: str = ""
    ) -> None:
        super().__init__(what, facts=facts, hint=hint)
        self.outcomes = dict(outcomes)


@dataclass
class _Stop:
    """The first signal that asked this run to stop."""

    number: int = 0


class _Say:
    def __init__(self, emit: Emit, component: str, begun: float) -> None:
        self._emit, self._component, self._begun = emit, component, begun

    def __call__(self, text: str, /) -> None:
        self.send(Kind.OBSTACLE, text)

    def line(self, text: str, /) -> None:
        self.send(Kind.LINE, text)

    def send(self, kind: Kind, text: str) -> None:
        elapsed = time.monotonic() - self._begun
        self._emit(Event(kind=kind, component=self._component, text=text, elapsed_s=elapsed))


class Schedule(Generic[N]):
    """One walk over the graph. All fields belong to the calling thread; workers only return outcomes.

    Workers are daemon threads, one for each component in flight, and not a ThreadPoolExecutor: the interpreter waits
    for a pool's threads when it exits, so that one blocking call would keep an interrupted run alive.
    """

    def __init__(
        self,
        graph: Graph[N],
        asked: set[str],
        step: Callable[[N, Say], Outcome],
        *,
        jobs: int,
        emit: Emit,
        fail_fast: bool,
        cancel: threading.Event | None,
    ) -> None:
        if jobs < 1:
            raise BadInput(f"jobs must be at least 1, not {jobs}")
        self.graph, self.step, self.jobs, self.emit, self.fail_fast = graph, step, jobs, emit, fail_fast
        self.cancel = cancel or threading.Event()
        self.names = graph.closure(asked)
        self.waiting = list(self.names)
        self.running: dict[Future[Outcome], str] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.begun = time.monotonic()

    def execute(self) -> dict[str, Outcome]:
        """Walk to the end. Raises Interrupted, and nothing that a component raised."""
        with _signals() as stop:
            while self.waiting or self.running:
                if stop.number or self.cancel.is_set():
                    raise self._interrupt(stop.number)
                self._settle()
                self._start()
                self._collect()
        if stop.number:  # it came between the last look and the return of the old handlers
            raise self._interrupt(stop.number)
        return self._ordered()

    def _settle(self) -> None:
        """Give an outcome to whatever will not be started."""
        for name in self.graph.order(self.waiting):
            left_out = self.graph[name].left_out
            if left_out:
                self._finish(name, Outcome(status=Status.LEFT_OUT, reason=left_out))
                continue
            causes = self._causes(name)
            if causes:
                reason = f"needs {' and '.join(causes)}, which failed"
                self._finish(name, Outcome(status=Status.BLOCKED, reason=reason, causes=causes))
        failed = [name for name, outcome in self.outcomes.items() if outcome.status is Status.FAILED]
        if self.fail_fast and failed:
            self._give_up(f"not started: {failed[0]} failed, and the run stops at the first failure")

    def _causes(self, name: str) -> tuple[str, ...]:
        """Return the failures at the root of what this component lacks, once all that it needs has an outcome."""
        needs = self.graph.needs(name)
        if not all(need in self.outcomes for need in needs):
            return ()
        lacking = {need: self.outcomes[need] for need in needs if not self.outcomes[need].status.ok}
        return tuple(dict.fromkeys(cause for need, outcome in lacking.items() for cause in outcome.causes or (need,)))

    def _start(self) -> None:
        """Start what can start, in declared order. An exclusive component waits for an empty field and keeps it."""
        for name in list(self.waiting):
            if len(self.running) >= self.jobs or any(self.graph[each].exclusive for each in self.running.values()):
                return
            if not all(need in self.outcomes for need in self.graph.needs(name)):
                continue
            if self.graph[name].exclusive and self.running:
                return
            self.waiting.remove(name)
            self._spawn(self.graph[name])

    def _spawn(self, node: N) -> None:
        future: Future[Outcome] = Future()
        self.running[future] = node.name
        self.emit(Event(kind=Kind.STARTED, component=node.name))

        def body() -> None:
            try:
                future.set_result(self._work(node))
            except BaseException as error:  # noqa: BLE001 (a future that never ends would hang the run)
                future.set_result(Outcome(status=Status.FAILED, reason=f"unexpected {error!r}", error=error))

        threading.Thread(target=body, name=f"component-{node.name}", daemon=True).start()

    def _work(self, node: N) -> Outcome:
        """Run one component in its worker thread. Whatever it raises becomes its outcome."""
        begun = time.monotonic()
        say = _Say(self.emit, node.name, begun)
        failed = Status.FAILED
        try:
            outcome = self.step(node, say)
        except BoxError as error:
            say.send(Kind.DETAIL, f"error: {error}")
            outcome = Outcome(status=failed, reason=error.what, error=error)
        except BaseException as error:  # noqa: BLE001 (also SystemExit: a thread would swallow it)
            say.send(Kind.DETAIL, traceback.format_exc())
            outcome = Outcome(status=failed, reason=f"unexpected {type(error).__name__}: {error}", error=error)
        if outcome.status is failed and self.cancel.is_set():
            outcome = replace(outcome, status=Status.INTERRUPTED, reason="interrupted")
        return replace(outcome, started_s=begun - self.begun, elapsed_s=time.monotonic() - begun)

    def _collect(self) -> None:
        """Wait a moment for a component to end, and take the outcomes of those that did."""
        done, _ = wait(self.running, timeout=_TICK_S, return_when=FIRST_COMPLETED)
        for future in done:
            self._finish(self.running.pop(future), future.result())

    def _finish(self, name: str, outcome: Outcome) -> None:
        if name in self.waiting:
            self.waiting.remove(name)
        self.outcomes[name] = outcome
        event = Event(
            kind=Kind.FINISHED, component=name, text=str(outcome), elapsed_s=outcome.elapsed_s, outcome=outcome
        )
        self.emit(event)

    def _give_up(self, reason: str) -> None:
        for name in list(self.waiting):
            self._finish(name, Outcome(status=Status.BLOCKED, reason=reason))

    def _ordered(self) -> dict[str, Outcome]:
        """Return the outcomes in declared order, whatever the order in which they came."""
        return {name: self.outcomes[name] for name in self.names}

    def _interrupt(self, number: int) -> Interrupted:
        """End the children, give the workers a bounded time to notice, and account for every component."""
        self.cancel.set()
        flight = [name for name in self.names if name in self.running.values()]
        self.emit(Event(kind=Kind.LINE, text=f"stopping; in flight: {', '.join(flight) or 'nothing'}"))
        deadline = time.monotonic() + STOP_S
        while self.running and time.monotonic() < deadline:
            shell.end_all()  # again each time: a worker may have started one more
            self._collect()
        for name in self.running.values():
            self._finish(name, Outcome(status=Status.INTERRUPTED, reason=f"did not stop within {STOP_S:g} s"))
        self._give_up("not started: the run was interrupted")
        return _interrupted(number, flight, self._ordered())


def _interrupted(number: int, flight: list[str], outcomes: dict[str, Outcome]) -> Interrupted:
    done = [name for name, outcome in outcomes.items() if outcome.status.ok]
    failed = [name for name, outcome in outcomes.items() if outcome.status is Status.FAILED]
    facts = {
        "by": signal.Signals(number).name if number else "a request to stop",
        "in flight": ", ".join(flight) or "nothing",
        "done": ", ".join(done) or "nothing",
        **({"failed": ", ".join(failed)} if failed else {}),
    }
    error = Interrupted(
        "interrupted", outcomes=outcomes, facts=facts, hint="the same command again; it goes on from here"
    )
    error.code = 128 + (number or signal.SIGINT)
    return error


@contextlib.contextmanager
def _signals() -> Iterator[_Stop]:
    """Turn the first signal to stop into a flag, so that no exception strikes between two lines of the scheduler.

    A signal that was ignored when we started (nohup, a background job) stays ignored.
    """
    stop = _Stop()

    def note(number: int, _: FrameType | None) -> None:
        stop.number = stop.number or number

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each, handler in before.items():
        if handler not in {signal.SIG_IGN, None}:
            signal.signal(each, note)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            if handler not in {signal.SIG_IGN, None}:
                signal.signal(each, handler)
