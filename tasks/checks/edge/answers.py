"""What came of a call, as the claims about the edge judge it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.checks.trust import crowd
from tasks.lib.rawhttp import Response

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a call, and after how many seconds. Status 0: nothing. `typed`: it is an error in JSON."""

    status: int = 0
    body: str = ""
    typed: bool = False
    after_s: float = 0.0

    def __str__(self) -> str:
        return f"HTTP {self.status or 'nothing'} after {self.after_s:.1f} s {self.body[:100]}".rstrip()


def read(found: "requests.Response | None", after_s: float = 0.0) -> Answer:
    """Read what a client got."""
    if found is None:
        return Answer(after_s=after_s)
    headers = {name.lower(): value for name, value in found.headers.items()}
    return of(Response(status=found.status_code, headers=headers, body=found.content), after_s)


def of(response: Response | None, after_s: float) -> Answer:
    """Read what came by the byte."""
    if response is None:
        return Answer(after_s=after_s)
    body = response.body.decode(errors="replace")
    return Answer(status=response.status, body=body, typed=crowd.typed(response), after_s=after_s)
