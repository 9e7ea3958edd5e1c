"""A component that is a list of objects: how it is looked at and how it is applied."""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from tasks.lib import render
from tasks.lib.box import Box
from tasks.lib.component import Changes, Look, Say, State
from tasks.lib.kube import apply, wait
from tasks.lib.kube.api import Ref
from tasks.lib.render import Obj


@dataclass(frozen=True)
class Probe:
    """A behaviour that must be observed before a component counts as ready.

    `claim` is the sentence that is then true; `check` returns None, or the obstacle in words. A probe that wakes
    something (a model at zero) is `costly`: it is asked only after a change.
    """

    claim: str
    check: Callable[[Box], str | None]
    costly: bool = False


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
        """Return what is applied."""
        return render.tidy(self.build(box))

    def look(self, box: Box) -> Look:
        """Compare every object with what is wanted, then its state, then its behaviour. Changes nothing."""
        objects, once = self.objects(box), self.create_only(box)
        planned = apply.plan(box.kube, objects, self.name, create_only=once)
        if not planned.empty:
            new = len(planned.changes.created) == len(objects) + len(once)
            return Look(state=State.ABSENT if new else State.CHANGED, changes=planned.lines)
        lacking = {
            ref: each for ref, each in wait.states(box.kube, _refs(objects)).items()
            if each.state is not wait.State.CURRENT
        }  # fmt: skip
        if lacking:
            ref, first = next(iter(lacking.items()))
            return Look(state=State.UNHEALTHY, reason=f"{ref}: {first.message}")
        for probe in self.probes:
            obstacle = None if probe.costly else probe.check(box)
            if obstacle:
                return Look(state=State.UNHEALTHY, reason=obstacle)
        return Look(state=State.READY)

    def act(self, box: Box, say: Say) -> Changes:
        """Apply, wait until everything is Current, and observe what it promises."""
        box.prepare(self.stage, say)
        deadline = time.monotonic() + self.timeout_s
        objects = self.objects(box)
        changes = apply.apply_all(
            box.kube, objects, self.name, create_only=self.create_only(box), say=say, cancel=box.cancel,
            patience_s=self.timeout_s / 2,
        )  # fmt: skip
        wait.until_current(box.kube, _refs(objects), deadline - time.monotonic(), say, box.cancel, self.name)
        for probe in self.probes:
            if changes.count or not probe.costly:
                left_s = deadline - time.monotonic()
                wait.until(partial(_ask, probe, box), left_s, say, box.cancel, f"{self.name}: {probe.claim}")
        return changes


def _ask(probe: Probe, box: Box) -> str | None:
    return probe.check(box)


def _refs(objects: list[Obj]) -> list[Ref]:
    return [Ref.of(each) for each in objects]


def namespace(name: str, labels: Mapping[str, str] | None = None) -> Obj:
    """A namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}}


def secret(name: str, where: str, data: Mapping[str, str], annotations: Mapping[str, str] | None = None) -> Obj:
    """A Secret of strings."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": where, "annotations": dict(annotations or {})},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }
