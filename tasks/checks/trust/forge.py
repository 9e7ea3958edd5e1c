"""Writes requests as bytes, each with a mark of its own, and what has to come of them. Pure.

The mark is in the User-Agent, and what is smuggled has another one, so that whatever reaches a model can be told in the
model's log.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from tasks.lib.modelling import Model

BODY = b'{"instances": []}'
INNER = "-inner"


class Want(StrEnum):
    """What has to come of a request. None of them lets anything else reach a model."""

    REFUSED = "an error of the edge"
    SERVED = "the model's answer, once"
    EITHER = "the model's answer, once, or an error of the edge"
    TWICE = "the model's answer, twice"
    CLOSED = "a closed connection"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One connection: what is sent, and what has to come of it. `statuses` are the only right ones, when it has any.

    `never` are headers that must not reach a model with it.
    """

    family: str
    name: str
    mark: str
    sent: bytes = field(repr=False)
    want: Want = Want.REFUSED
    statuses: tuple[int, ...] = ()
    never: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model as its caller knows it, and another tenant's host.

    `apart` is what is answered to whoever asks for that: it is there, and not his. Over TLS a connection leads to the
    hosts of its certificate alone, and it is not there.
    """

    host: str
    path: str
    token: str = field(repr=False)
    other: str
    apart: int = 403

    @classmethod
    def of(cls, one: Model, two: Model, domain: str, token: str) -> "Target":
        """Return a model as its caller knows it, with this token, beside another one."""
        return cls(host=one.host(domain), path=one.predict_path, token=token, other=two.host(domain))


@dataclass(frozen=True, kw_only=True)
class Forge:
    """Writes requests that are right but for what they are told to have wrong."""

    target: Target
    run: str

    @property
    def blank(self) -> str:
        """What stands for a mark until there is one; as long as it, so that lengths stay true."""
        return "~" * len(self.mark("", ""))

    def mark(self, family: str, name: str) -> str:
        """Return the mark of a case."""
        return f"{self.run}-{hashlib.sha256(f'{family}/{name}'.encode()).hexdigest()[:8]}"

    def marked(self, sent: bytes, family: str, name: str) -> bytes:
        """Put the mark where it belongs."""
        return sent.replace(self.blank.encode(), self.mark(family, name).encode())

    def case(
        self, family: str, name: str, sent: bytes, *,
        want: Want = Want.REFUSED, statuses: tuple[int, ...] = (), never: tuple[str, ...] = (),
    ) -> Case:  # fmt: skip
        """Return a case."""
        return Case(
            family=family, name=name, mark=self.mark(family, name), sent=self.marked(sent, family, name), want=want,
            statuses=statuses, never=never,
        )  # fmt: skip

    def lines(
        self, lines: Iterable[str] = (), body: bytes = b"", *,
        method: str = "POST", target: str = "", version: str = "HTTP/1.1",
        host: str | None = None, token: str | None = None,
    ) -> bytes:  # fmt: skip
        """Return a request with these lines in its head, and without a length."""
        named = self.target.host if host is None else host
        bearer = self.target.token if token is None else token
        head = [f"{method} {target or self.target.path} {version}", *([f"Host: {named}"] if named else [])]
        head += [f"User-Agent: {self.blank}", *([f"Authorization: Bearer {bearer}"] if bearer else []), *lines]
        return "\r\n".join([*head, "", ""]).encode("latin-1") + body

    def whole(self, lines: Iterable[str] = (), body: bytes = BODY, **more: str) -> bytes:
        """Return a request with a body, as long as it says."""
        return self.lines(["Content-Type: application/json", f"Content-Length: {len(body)}", *lines], body, **more)

    def inner(self) -> bytes:
        """Return the request that is smuggled: a right one, which nobody may ever see."""
        sent, blank = self.lines(["Content-Length: 2"], b"{}"), self.blank.encode()
        return sent.replace(blank, blank + INNER.encode())


def expected(case: Case) -> int:
    """Return how many responses a connection has to give."""
    return 2 if case.want is Want.TWICE else 1
