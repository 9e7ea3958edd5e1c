"""Stages that have their place in the graph and are not built yet. Asked for, they say so; `up` leaves them out."""

from dataclasses import dataclass

from tasks.lib.box import Box
from tasks.lib.component import Changes, Look, Say
from tasks.lib.errors import NotInThisVersion


@dataclass(frozen=True, kw_only=True)
class Later:
    """A stage of a later version."""

    name: str
    summary: str
    needs: tuple[str, ...]
    left_out: str
    timeout_s: float = 0
    exclusive: bool = False
    images: tuple[str, ...] = ()

    @property
    def stage(self) -> str:
        """It is its own stage."""
        return self.name

    def look(self, box: Box) -> Look:  # noqa: ARG002 (part of the protocol)
        """Never called: the engine leaves it out."""
        raise NotInThisVersion(f"{self.name} is not in this version", facts={"reason": self.left_out})

    def act(self, box: Box, say: Say) -> Changes:  # noqa: ARG002 (part of the protocol)
        """Never called: the engine leaves it out."""
        raise NotInThisVersion(f"{self.name} is not in this version", facts={"reason": self.left_out})


COMPONENTS = (
    Later(
        name="obs",
        summary="Prometheus, Grafana, Jaeger, Kiali",
        needs=("istiod",),
        left_out="not in this version: observability comes later",
    ),
)
