"""Something that is done again and again beside what is being looked at."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def doing(act: Callable[[], None], every_s: float) -> Iterator[None]:
    """Do something every so many seconds, from a thread of its own, until the block is left."""
    over = threading.Event()

    def body() -> None:
        while not over.wait(every_s):
            act()

    thread = threading.Thread(target=body, name="meanwhile", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
