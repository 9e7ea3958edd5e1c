"""The same work on many things at once.

Daemon threads, and not a ThreadPoolExecutor: the interpreter waits for a pool's threads when it exits, so that one
request that hangs would keep an interrupted run alive.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

JOBS = 8
"""How many requests one caller has under way at once."""


def each(work: Callable[[T], R], items: Sequence[T], jobs: int = JOBS) -> list[R]:
    """Return `work(item)` for each item, in their order.

    After the first exception nothing more is started; what is under way ends, and the exception is raised.
    """
    if len(items) <= 1 or jobs <= 1:
        return [work(item) for item in items]
    todo: queue.SimpleQueue[tuple[int, T]] = queue.SimpleQueue()
    for pair in enumerate(items):
        todo.put(pair)
    results: dict[int, R] = {}
    errors: list[BaseException] = []

    def body() -> None:
        while not errors:
            try:
                index, item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                results[index] = work(item)
            except BaseException as error:  # noqa: BLE001 (raised again below, in the caller's thread)
                errors.append(error)

    threads = [threading.Thread(target=body, daemon=True) for _ in range(min(jobs, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(items))]
