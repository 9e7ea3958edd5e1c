"""HTTP/2 as nobody should speak it: frames by the byte. The right end of each is a closed connection. Pure."""

from collections.abc import Iterable, Sequence

from tasks.checks.trust.forge import Case, Forge, Want

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FLOOD = 20_000
RESETS = 2000

_HEADERS, _RESET, _SETTINGS, _PING, _CONTINUATION = 1, 3, 4, 6, 9
_END_STREAM, _END_HEADERS = 1, 4
_SEVEN_BITS = 127


def cases(forge: Forge) -> Sequence[Case]:
    """Return every case."""
    start = PREFACE + frame(_SETTINGS)
    whole = _END_STREAM | _END_HEADERS
    crlf = head(forge, [("x-a", "a\r\nx-tenant: another")])
    resets = b"".join(
        frame(_HEADERS, whole, stream, head(forge, token="")) + frame(_RESET, 0, stream, b"\0\0\0\x08")
        for stream in range(1, 2 * RESETS, 2)
    )
    sent = {
        "CONTINUATION first": frame(_CONTINUATION, _END_HEADERS, 1),
        "HEADERS on no stream": frame(_HEADERS, whole, 0, head(forge)),
        "frame too long": b"\xff\xff\xff" + frame(_HEADERS, whole, 1)[3:] + b"\0" * 65536,
        "broken head": frame(_HEADERS, whole, 1, b"\xff" * 64),
        "CRLF in a value": frame(_HEADERS, whole, 1, crlf),
        "SETTINGS flood": frame(_SETTINGS) * FLOOD,
        "PING flood": frame(_PING, 0, 0, b"12345678") * FLOOD,
        "rapid reset": resets,
    }
    return [forge.case("HTTP2", name, start + each, want=Want.CLOSED) for name, each in sent.items()]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return a frame (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def head(forge: Forge, more: Iterable[tuple[str, str]] = (), *, token: str | None = None) -> bytes:
    """Return a request's head, each header as a literal of its own (RFC 7541, section 6.2.2)."""
    bearer = forge.target.token if token is None else token
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", forge.target.host),
        (":path", forge.target.path),
        ("user-agent", forge.blank),
        *([("authorization", f"Bearer {bearer}")] if bearer else []),
        *more,
    ]
    return b"".join(b"\0" + text(name) + text(value) for name, value in fields)


def text(value: str) -> bytes:
    """Return a string as it is in a head: its length in sevens of bits, and itself."""
    data = value.encode("latin-1")
    if len(data) < _SEVEN_BITS:
        return bytes([len(data)]) + data
    left, size = len(data) - _SEVEN_BITS, bytes([_SEVEN_BITS])
    while left >= 128:  # noqa: PLR2004 (seven bits, and one that says that more follow)
        size, left = size + bytes([left % 128 + 128]), left // 128
    return size + bytes([left]) + data
