"""Two runs on one cluster take turns.

On this machine: a file under the user's cache folder, locked with flock. The kernel frees it when the process is gone,
however it went; what is written in it only tells others who holds it. Between machines: lease.py.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tasks.lib.errors import Busy, NotAvailable

_POLL_S = 0.5

_held: set[Path] = set()


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock. `place` tells apart machines and containers that share a host name; a pid counts within it."""

    host: str
    pid: int
    since: str
    command: str
    place: str = ""

    @classmethod
    def me(cls, command: str) -> "Holder":
        """Return this process."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(host=socket.gethostname(), pid=os.getpid(), since=since, command=command[:500], place=_place())

    @classmethod
    def parse(cls, text: str) -> "Holder | None":
        """Read what a holder wrote; None when it has not, or not yet all of it."""
        try:
            found = json.loads(text)
            return cls(**{**found, "pid": int(found["pid"])})
        except (ValueError, TypeError, KeyError):
            return None

    def json(self) -> str:
        """Return the text that `parse` reads."""
        return json.dumps(asdict(self))

    @property
    def gone(self) -> bool:
        """Whether this is a process of our own machine that is certainly dead."""
        return bool(self.place) and self.place == _place() and not alive(self.pid)

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}, since {self.since}: {self.command}"


@contextlib.contextmanager
def hold(
    folder: Path,
    key: str,
    *,
    command: str,
    say: Callable[[str], None],
    wait: bool = True,
    timeout_s: float | None = None,
) -> Iterator[None]:
    """Hold the lock of a cluster while the body runs. Inside this process it may be taken again.

    `key` names the cluster. When another run holds it, `say` is told who, once, and this one waits; without end unless
    `timeout_s` is given. Raises Busy when it may not wait (longer), NotAvailable when there can be no lock.
    """
    path = folder / f"{_file_name(key)}.lock"
    if path in _held:
        yield
        return
    descriptor = _open(path)
    try:
        _take(descriptor, key, say, (timeout_s if timeout_s is not None else math.inf) if wait else 0)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, Holder.me(command).json().encode(), 0)
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def busy(key: str, holder: Holder | None) -> Busy:
    """Return the error for a lock that somebody else holds."""
    if holder is None:
        return Busy(f"another run is at work on {key}", facts={"holder": "it has not said who it is"})
    facts = {"holder": f"pid {holder.pid} on {holder.host}", "since": holder.since, "command": holder.command}
    return Busy(f"another run is at work on {key}", facts=facts, hint="wait for it to end, or leave out --no-wait")


def alive(pid: int) -> bool:
    """Tell whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _open(path: Path) -> int:
    """Open the file of a lock. Never inherited: a child that outlives a killed run would keep the lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise NotAvailable(
            f"{path}: no lock can be taken here: {error.strerror}", hint="set XDG_CACHE_HOME to a folder of yours"
        ) from error


def _take(descriptor: int, key: str, say: Callable[[str], None], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    tries, told = 0, False
    while not _try(descriptor):
        holder = Holder.parse(os.pread(descriptor, 4096, 0).decode(errors="replace"))
        if time.monotonic() >= deadline:
            raise busy(key, holder)
        tries += 1
        if not told and (holder or tries > 1):  # the first try may fall between its lock and its name
            told = True
            say(f"another run is at work on {key} ({holder or 'it has not said who it is'}); waiting for it to end")
        time.sleep(min(_POLL_S, max(deadline - time.monotonic(), 0)))


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _file_name(key: str) -> str:
    """Return a file name for a key; two keys never share one."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", key)
    return safe if safe == key else f"{safe[:80]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _place() -> str:
    """Return what identifies the space in which our pid counts; empty where it cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
