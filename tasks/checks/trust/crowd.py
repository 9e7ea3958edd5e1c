"""Clients that take their time, and very many of them: they hold their connections while others are served."""

import contextlib
import resource
import selectors
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tasks.lib import rawhttp
from tasks.lib.rawhttp import Address, Response

CONNECTIONS = 2000
"""Opened at once, as far as this machine's limit of open files lets us."""

ENCRYPTED = 0.1
"""How much of them, over TLS: a handshake costs both sides more than all the rest."""

ASKING = 400
"""How many of them ask something, all before the first answer is read."""

SLOW = 40
"""Clients of each slow kind."""

DRIP_S = 1.0
HEAD_S, BODY_S = 10.0, 30.0
"""Seconds after which the gateway gives up a head, and the edge a body."""

SLACK_S = 8.0

_SPARE_FILES = 256
_READERS = 4
_PIPELINED = 150
_PADDING = 4000


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a slow client's connection ended: with a status, or 0, and after how many seconds (0: it did not)."""

    status: int = 0
    typed: bool = False
    after_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """What became of the slow clients and of the many, and of right calls meanwhile: their seconds, or -1."""

    heads: Sequence[Ended]
    bodies: Sequence[Ended]
    opened: int
    wanted: int
    answers: Mapping[int, int] = field(default_factory=dict)
    untyped: int = 0
    calls: Sequence[float] = ()


def typed(response: Response) -> bool:
    """Whether an answer is an error that says what it is: a status for it, and JSON with `error`."""
    import json

    if not response.headers.get("content-type", "").startswith("application/json"):
        return False
    try:
        body = json.loads(response.body)
    except ValueError:
        return False
    return isinstance(body, dict) and bool(body.get("error"))


def room() -> int:
    """Return how many connections this machine lets us open, up to what is wanted."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS
    return max(0, min(CONNECTIONS, soft - _SPARE_FILES))


class Slow:
    """Connections on which a head, or a body, comes one byte a second. `step` sends what is due and reads what came."""

    def __init__(self, address: Address, first: bytes, count: int) -> None:
        self._begun = time.monotonic()
        self._due = self._begun + DRIP_S
        self._open: dict[socket.socket, bytes] = {}
        self.ended: list[Ended] = []
        for _ in range(count):
            try:
                opened = address.dial()
                opened.sendall(first)
            except OSError:
                self.ended.append(Ended(after_s=time.monotonic() - self._begun))
                continue
            self._open[opened] = b""

    def step(self) -> None:
        """Send a byte on each connection, when it is time, and see what came."""
        if time.monotonic() >= self._due:
            self._due += DRIP_S
            for each in list(self._open):
                with contextlib.suppress(OSError):  # it was closed: that is read below
                    each.sendall(b"a")
        for each in _readable(self._open):
            piece, ended = rawhttp.receive(each, 0.01)
            self._open[each] += piece
            found, _ = rawhttp.parse(self._open[each], closed=ended == "closed")
            if ended or found:
                self._over(each, found[0] if found else None)

    def _over(self, opened: socket.socket, answer: Response | None) -> None:
        took = time.monotonic() - self._begun
        self.ended.append(
            Ended(status=answer.status if answer else 0, typed=bool(answer and typed(answer)), after_s=took)
        )
        del self._open[opened]
        opened.close()

    def close(self) -> None:
        """Give up; what is still open did not end."""
        for each in list(self._open):
            self.ended.append(Ended())
            each.close()
        self._open.clear()


def _readable(sockets: Mapping[socket.socket, bytes]) -> list[socket.socket]:
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(0) if isinstance(key.fileobj, socket.socket)]


@contextmanager
def opened(address: Address, count: int) -> Iterator[list[socket.socket]]:
    """Open connections, as many as can be had, and close them at the end."""
    found: list[socket.socket] = []
    try:
        with contextlib.suppress(OSError):
            for _ in range(count):
                found.append(address.dial())  # noqa: PERF401 (those before a failure stay)
        yield found
    finally:
        for each in found:
            each.close()


@contextmanager
def not_reading(address: Address, request: bytes) -> Iterator[None]:
    """Ask many things on a few connections, and read none of the answers."""
    padded = request.replace(b"\r\n\r\n", b"\r\nx-padding: " + b"a" * _PADDING + b"\r\n\r\n", 1)
    with opened(address, _READERS) as sockets:
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.settimeout(1)
            with contextlib.suppress(OSError):  # it does not take more than it can answer
                each.sendall(padded * _PIPELINED)
        yield


def send(sockets: Iterable[socket.socket], request: bytes) -> None:
    """Send a request on every connection. Where that fails no answer will come, and whoever reads them tells."""
    for each in sockets:
        with contextlib.suppress(OSError):
            each.sendall(request)


def ask_all(sockets: Sequence[socket.socket], request: bytes, wait_s: float) -> tuple[dict[int, int], int]:
    """Send a request on every connection, then read every answer.

    Return how often each status came (0: none), and how many answers were no typed errors.
    """
    send(sockets, request)
    until, statuses, untyped = time.monotonic() + wait_s, dict[int, int](), 0
    for each in sockets:
        answer = first(each, until)
        status = answer.status if answer else 0
        statuses[status] = statuses.get(status, 0) + 1
        untyped += bool(answer and not typed(answer))
    return statuses, untyped


def first(opened: socket.socket, until: float) -> Response | None:
    """Return the first response that comes on a connection before a time, if one does."""
    data, ended = b"", ""
    while not ended and time.monotonic() < until:
        piece, ended = rawhttp.receive(opened, until - time.monotonic())
        data += piece
        if found := rawhttp.parse(data, closed=ended == "closed")[0]:
            return found[0]
    return None


def wrong(crowd: Crowd) -> list[str]:
    """Return what is wrong with what became of a crowd."""
    found = [
        f"slow {what}: {each}"
        for what, limit, ends in (("head", HEAD_S, crowd.heads), ("body", BODY_S, crowd.bodies))
        for each in ends
        if not (each.status == 408 and each.typed and each.after_s <= limit + SLACK_S)  # noqa: PLR2004
    ]
    if not crowd.heads or not crowd.bodies:
        found.append("there were no slow clients")
    if crowd.opened < crowd.wanted or not crowd.opened:
        found.append(f"{crowd.opened} of {crowd.wanted} connections could be opened")
    if set(crowd.answers) != {401} or crowd.untyped:
        found.append(
            f"without a token, all at once: {dict(crowd.answers)} by status, {crowd.untyped} not typed; 401 is right"
        )
    bad = sum(each < 0 for each in crowd.calls)
    if bad or not crowd.calls:
        found.append(f"{bad} of {len(crowd.calls)} right calls were not answered meanwhile")
    return found
