"""The stand from which everything is asked: scratch tenants, the platform's own models, and probe pods in their seats.

One for all checks of a run. It is taken by the first that needs it, and left when the ground is hushed.
"""

import threading
import time
from collections.abc import Sequence

from tasks.checks import asking
from tasks.checks.trust import cells, seats, walls
from tasks.checks.trust.cells import Cell, Target
from tasks.checks.trust.seats import Seats, Verdict
from tasks.lib import identity, keys, names, predict
from tasks.lib.checks import Scene
from tasks.lib.errors import NotReady
from tasks.lib.ground import Admission, Ground
from tasks.lib.kube.api import Obj
from tasks.lib.modelling import Model
from tasks.lib.tenancy import Tenant
from tasks.lib.tokenkinds import Kind, Mint
from tasks.lib.tokens import new_jti

SETTLED_S = 120.0
"""Seconds for every cell to be as it has to be: what was just applied has to reach every proxy."""

BRIEF_S = 1.0
"""Seconds between two rounds of what is asked to notice a change."""

LEAST_PER_MINUTE = 300
"""A tenant with a smaller limit is not asked about: the questions would use it up."""

_OWN_KINDS = tuple(kind for kind in Kind if kind not in {Kind.REVOKED, Kind.ROTATED_OUT})
"""What is asked of the platform's own models: its keys and its list of tokens taken back are left as they are."""


class Stand:
    """Probe pods in their seats, and what they ask. `models` and `tenants` are the platform's.

    `brief`: ask only what is needed to notice a change in the last scratch tenant, and more often.
    """

    def __init__(
        self, ground: Ground, tenants: Sequence[Tenant], models: Sequence[Model], *, brief: bool = False
    ) -> None:  # fmt: skip
        self.ground, self._brief = ground, brief
        self._tenants, self._models = tenants, models
        self._seats: Seats | None = None
        self._lock = threading.Lock()
        ground.when_hushed(self.leave)

    def take(self, scene: Scene) -> Seats:
        """Take the seats, if nobody has. Raises NotReady when something does not come up."""
        with self._lock:
            if self._seats is None:
                self.ground.open(scene)
                targets = [*self._scratch_targets(), *self._own_targets(scene)]
                asked = self._cells(scene, targets)
                self.ground.scratch.put(*self._uncovered(scene))
                interval_s = BRIEF_S if self._brief else seats.INTERVAL_S
                self._seats = seats.take(scene, self.ground.scratch, targets, asked, interval_s=interval_s)
            return self._seats

    def leave(self) -> None:
        """Give up the seats: the probe pods go, the tenants stay."""
        with self._lock:
            if self._seats is not None:
                self._seats.leave()
                for pod in self._seats.refs:
                    self.ground.scratch.take_away(pod)
                self._seats = None

    def settle(self, scene: Scene, admission: Admission) -> tuple[list[Verdict], str]:
        """Let the scratch tenants' policies be so, and ask until no cell is wrong twice in a row.

        Return what was seen last, and what was wrong then.
        """
        taken = self.take(scene)
        if self.ground.admission != admission:
            self.ground.admit(scene.box, admission)
        seen: list[Verdict] = []

        def obstacle() -> str:
            rounds = taken.look()
            seen[:] = rounds[-1] if rounds else []
            return "no round is over yet" if len(rounds) < 2 else first_wrong(rounds)  # noqa: PLR2004

        return seen, scene.observe(obstacle, SETTLED_S)

    def _scratch_targets(self) -> list[Target]:
        callers = [each.name for each in self.ground.tenants]
        return [
            Target(
                model=model, revision=names.revision(model.name), label=model.tenant, callers=callers,
                mint=self.ground.mint,
            ) for model in self.ground.models
        ]  # fmt: skip

    def _own_targets(self, scene: Scene) -> list[Target]:
        """The platform's models, awake, with the platform's key: whoever may read that may ask anything."""
        slow = {each.name for each in self._tenants if each.requests_per_minute < LEAST_PER_MINUTE}
        models = [each for each in self._models if each.instances and each.tenant not in slow]
        if not models or self._brief:
            return []
        ring = identity.ring(scene.box)
        mint = Mint(signing=ring.current, coming=ring.next, rotated_out=keys.new_key(), revoked_jti=new_jti())
        callers = [each.name for each in self._tenants]
        return [
            Target(
                model=model, revision=_awake(scene, model), label=f"{model.tenant}/{model.name}", callers=callers,
                mint=mint, kinds=_OWN_KINDS, scratch=False,
            ) for model in models
        ]  # fmt: skip

    def _cells(self, scene: Scene, targets: Sequence[Target]) -> list[Cell]:
        domain, now = scene.box.settings.domain, time.time()
        ours = [each for each in targets if each.scratch]
        asked = ours[-1:] if self._brief else targets
        found = [cell for target in asked for cell in cells.product(target, domain, now)]
        for target in (each for each in asked if each.scratch):
            other = next(each for each in target.callers if each != target.model.tenant)
            found += [*cells.edge_cells(target, other, domain, now), *cells.inner_cells(target, other, domain, now)]
        return [*found, *walls.cells(ours)]

    def _uncovered(self, scene: Scene) -> list[Obj]:
        return [cells.uncovered_route(model, scene.box.settings.domain) for model in self.ground.models]


def _awake(scene: Scene, model: Model) -> str:
    """Wake a model, and return the revision whose pod answers. Raises NotReady when none does."""
    reply = predict.ask(scene.box, model, model.instances)
    if reply.obstacle:
        raise NotReady(f"the model does not answer: {reply.obstacle}")
    for pod in asking.pods(scene.box, model):
        if revision := pod["metadata"]["labels"].get("serving.knative.dev/revision"):
            return str(revision)
    raise NotReady(f"{model.name} answers, and has no pod")


def first_wrong(rounds: Sequence[Sequence[Verdict]]) -> str:
    """Return the first thing that is wrong in any of these rounds, and how many more; empty when nothing is."""
    found = [each for verdicts in rounds for each in verdicts if each.wrong]
    if not found:
        return ""
    more = len({each.cell.name for each in found}) - 1
    return f"{found[0].cell.name}: {found[0].wrong}" + (f" (and {more} more cells)" if more else "")
