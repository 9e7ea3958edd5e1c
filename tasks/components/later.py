"""What has its place in the graph and is not in this version. Asked for, it says so; `up` leaves it out."""

from collections.abc import Callable
from dataclasses import dataclass

from tasks.lib.box import Box
from tasks.lib.component import Changes, Look, Say
from tasks.lib.errors import NotInThisVersion
from tasks.lib.render import Obj


def _nothing(_: Box) -> list[Obj]:
    return []


@dataclass(frozen=True, kw_only=True)
class Later:
    """A stage, or a part of one, of a later version.

    `draw` returns the objects that it would be made of, as far as they are known: they are shown and never applied.
    """

    name: str
    stage: str
    summary: str
    needs: tuple[str, ...]
    left_out: str
    timeout_s: float = 0
    exclusive: bool = False
    images: tuple[str, ...] = ()
    draw: Callable[[Box], list[Obj]] = _nothing

    def look(self, box: Box) -> Look:  # noqa: ARG002 (part of the protocol)
        """Never called: the engine leaves it out."""
        raise NotInThisVersion(f"{self.name} is not in this version", facts={"reason": self.left_out})

    def act(self, box: Box, say: Say) -> Changes:  # noqa: ARG002 (part of the protocol)
        """Never called: the engine leaves it out."""
        raise NotInThisVersion(f"{self.name} is not in this version", facts={"reason": self.left_out})


COMPONENTS = (
    Later(
        name="obs",
        stage="obs",
        summary="Prometheus, Grafana, Jaeger, Kiali",
        needs=("istiod",),
        left_out="not in this version: observability comes later",
    ),
)
