"""Which module is built when: two at a time, the first stage's first, the longest first; and how long it takes.

Two, because linking uses one core and compiling all of them: one build alone leaves a quarter of a small machine idle.
"""

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.lib.errors import BoxError
from tasks.lib.packages.gomodule import GoModules
from tasks.lib.packages.recipes import Module, Recipes

SLOTS = 2

_POLL_S = 0.5
_LEAST_S = 5.0


class Workshop:
    """Builds modules for any number of callers at once, each module once."""

    def __init__(self, modules: GoModules, recipes: Recipes, slots: int = SLOTS) -> None:
        self._modules = modules
        self._recipes = recipes
        self._slots = slots
        self._turns = Turns(slots)
        self._locks = {name: threading.Lock() for name in recipes.modules}
        self._started: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._stages = list(dict.fromkeys(each.stage for each in recipes.modules.values()))

    def build(self, name: str, cancel: threading.Event) -> Path:
        """Return the folder of a module's commands, built when its turn comes."""
        module = self._recipes.module(name)
        with self._locks[name]:
            if self._modules.built(module):
                return self._modules.target(module)
            with self._turns.turn((self._stages.index(module.stage), -module.seconds), cancel):
                self._started[name] = time.monotonic()
                try:
                    folder = self._modules.build(module)
                    self._took[name] = time.monotonic() - self._started[name]
                finally:
                    del self._started[name]
            return folder

    def build_now(self, module: Module) -> Path:
        """Return the folder of a module's commands, for callers that cannot be cancelled."""
        return self.build(module.name, threading.Event())

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of these modules that are not built."""
        return [name for name in names if not self._modules.built(self._recipes.module(name))]

    def expected(self, module: Module) -> float:
        """Return how long a module is likely to take: its recorded time, scaled by what this run has seen."""
        if not self._took:
            return module.seconds
        recorded = sum(self._recipes.module(name).seconds for name in self._took)
        return module.seconds * sum(self._took.values()) / recorded

    def left(self, names: Iterable[str]) -> float:
        """Return the seconds that these modules will still take."""
        rest = []
        for name in self.missing(names):
            expected = self.expected(self._recipes.module(name))
            since = self._started.get(name)
            rest.append(expected if since is None else max(_LEAST_S, expected - (time.monotonic() - since)))
        return max(sum(rest) / self._slots, max(rest, default=0.0))

    def progress(self, names: list[str]) -> str:
        """Say which of these modules is being built, and about how long all of them will take."""
        now, running = time.monotonic(), dict(self._started)
        missing = self.missing(names)
        if not missing:
            return ""
        parts = [
            f"{name} {now - since:.0f} s of about {self.expected(self._recipes.module(name)):.0f}"
            for name, since in running.items()
            if name in names
        ]
        done = len(names) - len(missing)
        what = ", ".join(parts) or "waiting for a turn"
        return f"{done} of {len(names)} modules built; {what}; about {minutes(self.left(names))} left"


class Turns:
    """A number of slots, given to the lowest priority first."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._condition = threading.Condition()
        self._waiting: list[tuple[tuple[float, ...], int]] = []
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def turn(self, priority: tuple[float, ...], cancel: threading.Event) -> Iterator[None]:
        """Hold a slot. Raises BoxError when the run is cancelled while waiting for it."""
        ticket = (priority, next(self._numbers))
        with self._condition:
            heapq.heappush(self._waiting, ticket)
            while not cancel.is_set() and not (self._free and self._waiting[0] == ticket):
                self._condition.wait(_POLL_S)
            self._waiting.remove(ticket)
            heapq.heapify(self._waiting)
            if cancel.is_set():
                self._condition.notify_all()
                raise BoxError("interrupted while waiting to build")
            self._free -= 1
        try:
            yield
        finally:
            with self._condition:
                self._free += 1
                self._condition.notify_all()


def minutes(seconds: float) -> str:
    """Return a time as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 (a minute and a half)
