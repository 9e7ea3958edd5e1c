"""A component that is a list of objects: how it is looked at and how it is applied."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.lib import names, render
from tasks.lib.box import Box
from tasks.lib.component import Changes, Look
from tasks.lib.kube import apply, inventory, wait
from tasks.lib.kube.client import Ref
from tasks.lib.render import Obj

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A behaviour that must be observed before a component counts as ready.

    `claim` is the sentence that is then true; `check` returns None, or the obstacle in words.
    """

    claim: str
    check: Callable[[Box], str | None]


def _nothing(_: Box) -> list[Obj]:
    return []


@dataclass(frozen=True, kw_only=True)
class ObjectsComponent:
    """Objects to apply, and behaviours to observe afterwards.

    `create_only` objects hold random material: made once, never overwritten. `images` are keys of
    config/versions.yaml that its pods will want. `timeout_s` bounds the wait for all of it, in seconds.
    """

    name: str
    stage: str
    summary: str
    needs: tuple[str, ...]
    build: Callable[[Box], list[Obj]]
    create_only: Callable[[Box], list[Obj]] = _nothing
    probes: tuple[Probe, ...] = ()
    images: tuple[str, ...] = ()
    timeout_s: float = 180
    exclusive: bool = False
    left_out: str = ""

    def objects(self, box: Box) -> list[Obj]:
        """What is applied, carrying our label."""
        return render.named(self.build(box), self.name, names.COMPONENT_LABEL)
