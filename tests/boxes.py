"""A box around a fake cluster, for what asks the platform."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tasks.lib import versions
from tasks.lib.box import Box
from tasks.lib.checks import Scene
from tasks.lib.engine import Planned
from tasks.lib.kube.client import Kube
from tasks.lib.settings import Settings

ROOT = Path(__file__).parents[1]


class Quiet:
    """Takes what a probe says, and remembers it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, text: str, /) -> None:
        self.said.append(text)

    def line(self, text: str, /) -> None:
        self.said.append(text)


def box(kube: Kube | None = None, **given: Any) -> Box:
    """Return a box with the real pins. Source and provider are only what is given."""
    source = given.pop("source", SimpleNamespace(name="upstream", describe=lambda: "the projects' own", standins=dict))
    provider = given.pop("provider", SimpleNamespace(exists=lambda: True, gateway_url=lambda **_: "http://127.0.0.1:1"))
    made = Box(
        root=given.pop("root", ROOT), settings=Settings(), versions=versions.load(ROOT), source=source,
        provider=provider, tools=cast("Any", None), cancel=threading.Event(),
    )  # fmt: skip
    if kube:
        vars(made)["kube"] = kube
    return made


def scene(kube: Kube | None = None, *, seconds: float = 5, looks: Mapping[str, Planned] | None = None) -> Scene:
    """Return a scene with that many seconds."""
    return Scene(box=box(kube), say=Quiet(), looks=looks or {}, deadline=time.monotonic() + seconds)
