"""Which layer answered a request, or kept it out: read from the answer and from the logs of the proxies it met. Pure.

A request is found in a proxy's log by its User-Agent, which names the cell and the round. "Unreachable", 404, 503 and a
timeout are never a refusal: a layer is only named for what nothing else does.
"""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tasks.lib.probepods import Attempt

AGENT = "invoke-verify"
NO_CERTIFICATE = "tlsv13 alert certificate required"
"""How OpenSSL says what a server says that wants a client's certificate (RFC 8446, section 6.2)."""

_RBAC, _JWT, _DIRECT = "rbac_access_denied", "jwt_authn_access_denied", "direct_response"
_OK = 200
_KEPT_ROUNDS = 20


class Layer(StrEnum):
    """What decides about a request."""

    GATEWAY_JWT = "gateway JWT"
    GATEWAY_AUTHORIZATION = "gateway authorization"
    ROUTE = "gateway route"
    MESH_JWT = "mesh JWT"
    MESH_RBAC = "mesh RBAC"
    MTLS = "mTLS"
    NETWORK = "NetworkPolicy"
    ANSWERED = "answered"
    CONNECTED = "connected"
    UNKNOWN = "nothing that can be named"


@dataclass(frozen=True, kw_only=True)
class Line:
    """What a proxy logged of a request: which proxy, what it answered and why."""

    proxy: str
    code: int
    details: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Which layer decided, at which proxy, with which status; and what it is read from."""

    layer: Layer
    at: str = ""
    status: int = 0
    evidence: str = ""
    blind: bool = False
    """Whether somebody answered, and no log that could be read says who."""

    def __str__(self) -> str:
        where = f" at {self.at}" if self.at else ""
        status = f"{self.status} by " if self.status else ""
        return f"{status}{self.layer}{where}" + (f" ({self.evidence})" if self.layer is Layer.UNKNOWN else "")


def agent(cell: str) -> str:
    """Return the User-Agent of a cell's requests; the probe pod adds the round."""
    return f"{AGENT}/{cell}"


def read_line(proxy: str, raw: str) -> tuple[tuple[str, int], Line] | None:
    """Return what a proxy logged of one of our requests: Istio's sidecars and Envoy Gateway's proxy, both as JSON."""
    if f'"{AGENT}/' not in raw:
        return None
    try:
        found: dict[str, Any] = json.loads(raw)
    except ValueError:
        return None  # cut off
    _, _, rest = str(found.get("user_agent") or found.get("user-agent") or "").partition("/")
    cell, _, number = rest.rpartition("/")
    if not number.isdigit():
        return None
    details = str(found.get("response_code_details") or "")
    return (cell, int(number)), Line(proxy=proxy, code=int(found.get("response_code") or 0), details=details)


class Logs:
    """What proxies logged of the newest rounds of every cell. Lines are put in from several threads."""

    def __init__(self) -> None:
        self._found: dict[str, dict[int, list[Line]]] = {}
        self._lock = threading.Lock()

    def take(self, proxy: str, raw: str) -> None:
        """Take a line of a log."""
        if read := read_line(proxy, raw):
            (cell, number), line = read
            with self._lock:
                rounds = self._found.setdefault(cell, {})
                rounds.setdefault(number, []).append(line)
                for old in [each for each in rounds if each < number - _KEPT_ROUNDS]:
                    del rounds[old]

    def of(self, cell: str, number: int) -> Sequence[Line]:
        """Return the lines of a cell's request in a round."""
        with self._lock:
            return list(self._found.get(cell, {}).get(number, ()))


def layer_of(attempt: Attempt, lines: Sequence[Line], edge: str) -> Seen:
    """Return what decided about one attempt. `edge` is the gateway's proxy among the lines' proxies."""
    if attempt.connect != "connected":
        silent = attempt.connect == "timed out"
        layer = Layer.NETWORK if silent else Layer.UNKNOWN
        return Seen(layer=layer, evidence=attempt.connect)
    if attempt.tls:
        return _handshake(attempt)
    if not attempt.status:
        asked = bool(attempt.error)
        return Seen(layer=Layer.UNKNOWN if asked else Layer.CONNECTED, evidence=attempt.error or "connected")
    return _decided(attempt, lines, edge)


def _handshake(attempt: Attempt) -> Seen:
    """Mutual TLS: plain text is closed without a word, and TLS without a certificate is told that one is wanted."""
    how = f"plain text: {attempt.status or attempt.error or 'open'}; TLS without a certificate: {attempt.tls}"
    refused = not attempt.status and attempt.error and attempt.tls == NO_CERTIFICATE
    return Seen(layer=Layer.MTLS if refused else Layer.UNKNOWN, status=attempt.status, evidence=how)


def _decided(attempt: Attempt, lines: Sequence[Line], edge: str) -> Seen:
    for line in lines:
        at_edge = line.proxy == edge
        for word, here, elsewhere in (
            (_RBAC, Layer.GATEWAY_AUTHORIZATION, Layer.MESH_RBAC),
            (_JWT, Layer.GATEWAY_JWT, Layer.MESH_JWT),
            (_DIRECT, Layer.ROUTE, Layer.UNKNOWN),
        ):
            if line.details.startswith(word) and line.code == attempt.status:
                layer = here if at_edge else elsewhere
                return Seen(layer=layer, at=line.proxy, status=attempt.status, evidence=line.details)
    if attempt.status == _OK:
        return Seen(layer=Layer.ANSWERED, status=_OK, evidence=attempt.body[:200])
    told = "; ".join(f"{line.proxy}: {line.code} {line.details}" for line in lines) or "in no proxy's log"
    body = " ".join(attempt.body.split())[:120]
    return Seen(layer=Layer.UNKNOWN, status=attempt.status, evidence=f"{told}; {body}", blind=not lines)
