"""Reads containers' logs: as they are now, and as they are written.

A log that is asked for now and then loses lines when it is rotated.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable

from tasks.lib.errors import BoxError
from tasks.lib.kube.api import Ref
from tasks.lib.kube.client import Kube, log_path

SILENCE_S = 10.0
"""Seconds without a line after which a log is asked for anew: its pod may be another one's successor by then."""

PAUSE_S = 1.0
"""Seconds before a log that came to an end, or was refused, is asked for again."""

_AGAIN_S = 15
"""Seconds of a log that are read again with each new beginning; whoever takes lines may get some twice."""


_READ_S = 5.0


def read(kube: Kube, pod: Ref, container: str, **query: object) -> str:
    """Return a container's log. `query` is what the API server knows for it: `tailLines`, `sinceSeconds`."""
    path = log_path(pod, container, **query)
    accept = "application/json, */*"
    return str(kube.raw("GET", path, accept=accept, patience_s=_READ_S, subject=f"log of {pod}"))


class Follower:
    """Hands every line of one container's log to `take`, from a thread of its own, until `stop`."""

    def __init__(self, kube: Kube, pod: Ref, container: str, take: Callable[[str], None]) -> None:
        self._kube, self._pod, self._container, self._take = kube, pod, container, take
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log of {pod}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more lines. The thread ends by itself, at the latest when the log is silent."""
        self._stopped.set()

    def join(self) -> None:
        """Wait for the thread to end."""
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(BoxError):  # what its lines would have said is missed by who waits for it
                for line in self._kube.follow(self._pod, self._container, since_s=_AGAIN_S, silence_s=SILENCE_S):
                    if self._stopped.is_set():
                        return
                    self._take(line)
            self._stopped.wait(PAUSE_S)


class Recording:
    """The lines with a word in them that containers log until it is closed, and in some seconds before it began.

    Lines have to differ: one that is read twice counts once.
    """

    def __init__(self, kube: Kube, containers: Iterable[tuple[Ref, str]], word: str) -> None:
        self._word, self._found, self._lock = word, dict[str, None](), threading.Lock()
        self._followers = [Follower(kube, pod, name, self._take) for pod, name in containers]

    def lines(self) -> list[str]:
        """Return what has been logged by now, in the order in which it came."""
        with self._lock:
            return list(self._found)

    def _take(self, line: str) -> None:
        if self._word in line:
            with self._lock:
                self._found[line] = None

    def close(self) -> None:
        """Read no more."""
        for each in self._followers:
            each.stop()
