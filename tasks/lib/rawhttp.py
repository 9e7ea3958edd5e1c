"""HTTP by the byte, for what no client library would send: bytes go out as given, and what comes back is read strictly.

Every exchange is bounded, and no error of the network is raised: how it ended is part of what came back.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CONNECT_S = 5.0
MOST_BYTES = 1 << 20
"""How much of an answer is kept."""

_PIECE = 65536
_CHUNKED = "chunked"


@dataclass(frozen=True, kw_only=True)
class Response:
    """One response."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What came back on one connection: whole responses, what is left of the bytes, and how it ended.

    `ended` is "closed" by the other side, "reset", "silent" when nothing came for as long as was waited, or "refused".
    """

    responses: tuple[Response, ...] = ()
    rest: bytes = b""
    ended: str = "silent"
    elapsed_s: float = 0.0

    @property
    def statuses(self) -> tuple[int, ...]:
        """The status of each response."""
        return tuple(each.status for each in self.responses)

    def __str__(self) -> str:
        told = [
            f"HTTP {each.status} {' '.join(each.body.decode(errors='replace').split())[:80]}".rstrip()
            for each in self.responses
        ]
        return ", ".join([*told, *([f"{len(self.rest)} bytes that are no response"] if self.rest else []), self.ended])


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where to connect to; with `trusted`, over TLS, to whoever shows a certificate for `name` that it verifies."""

    host: str
    port: int
    trusted: ssl.SSLContext | None = None
    name: str = ""

    @classmethod
    def of(cls, url: str, trusted: ssl.SSLContext | None = None, name: str = "") -> "Address":
        """Read where a URL leads to."""
        found = urlsplit(url)
        return cls(host=found.hostname or "", port=found.port or (443 if trusted else 80), trusted=trusted, name=name)

    def dial(self) -> socket.socket:
        """Connect. Raises OSError."""
        opened = socket.create_connection((self.host, self.port), CONNECT_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.trusted is None:
            return opened
        try:
            return self.trusted.wrap_socket(opened, server_hostname=self.name)
        except OSError:
            opened.close()
            raise


def exchange(
    address: Address, sent: Iterable[bytes], *, wait_s: float, expect: int = 1, linger_s: float = 0.0
) -> Heard:
    """Send pieces on a connection of their own, and read until `expect` responses came, it is closed or time is up.

    After the last response it is listened on for `linger_s`: one more may come that nobody should have been asked for.
    """
    begun = time.monotonic()
    try:
        opened = address.dial()
    except OSError as error:
        return Heard(ended=f"refused: {error}", elapsed_s=time.monotonic() - begun)
    with opened:
        try:
            opened.settimeout(wait_s)
            for piece in sent:
                opened.sendall(piece)
        except OSError:  # it answers before it has heard all, and closes: what it said is still there to be read
            pass
        return _listen(opened, begun, begun + wait_s, expect, linger_s)


def _listen(opened: socket.socket, begun: float, until: float, expect: int, linger_s: float) -> Heard:
    data = b""
    ended = ""
    while not ended:
        found, rest = parse(data, closed=False)
        if len(found) >= expect:
            until = min(until, time.monotonic() + linger_s)
            expect = len(found) + 1
        left = until - time.monotonic()
        if left <= 0:
            break
        piece, ended = receive(opened, left)
        data = (data + piece)[:MOST_BYTES]
    found, rest = parse(data, closed=ended == "closed")
    return Heard(responses=tuple(found), rest=rest, ended=ended or "silent", elapsed_s=time.monotonic() - begun)


def receive(opened: socket.socket, wait_s: float) -> tuple[bytes, str]:
    """Return what comes within a time, and how the connection ended; "" while it is open."""
    opened.settimeout(max(wait_s, 0.01))
    try:
        piece = opened.recv(_PIECE)
    except TimeoutError:
        return b"", ""
    except OSError:
        return b"", "reset"
    return piece, "" if piece else "closed"


def parse(data: bytes, *, closed: bool) -> tuple[list[Response], bytes]:
    """Return the whole responses at the beginning of some bytes, and the bytes after them."""
    found: list[Response] = []
    while (one := _first(data, closed=closed)) is not None:
        response, data = one
        if response.status >= 200:  # noqa: PLR2004 (what comes before is not the answer yet)
            found.append(response)
    return found, data


def _first(data: bytes, *, closed: bool) -> tuple[Response, bytes] | None:
    head, whole, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if not whole or len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():  # noqa: PLR2004
        return None
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    status = int(words[1])
    taken = _body(status, headers, rest, closed=closed)
    if taken is None:
        return None
    body, rest = taken
    return Response(status=status, headers=headers, body=body), rest


def _body(status: int, headers: Mapping[str, str], rest: bytes, *, closed: bool) -> tuple[bytes, bytes] | None:
    if status < 200 or status in {204, 304}:  # noqa: PLR2004
        return b"", rest
    if headers.get("transfer-encoding", "").lower() == _CHUNKED:
        return _chunks(rest)
    length = headers.get("content-length", "")
    if length.isdigit():
        size = int(length)
        return (rest[:size], rest[size:]) if len(rest) >= size else None
    return (rest, b"") if closed else None


def _chunks(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        line, whole, data = data.partition(b"\r\n")
        if not whole:
            return None
        with contextlib.suppress(ValueError):
            size = int(line.partition(b";")[0], 16)
            if len(data) < size + 2:
                return None
            body, data = body + data[:size], data[size + 2 :]
            if not size:
                return body, data
            continue
        return None
