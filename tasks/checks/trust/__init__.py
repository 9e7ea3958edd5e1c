"""Zero trust, cell by cell: who gets an answer, and which layer refuses everybody else.

All checks ask from one stand (stand.py), in this order; the last that needs it leaves it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from tasks.checks.network import APART, ENFORCED
from tasks.checks.trust import adversarial, changes, limits, matrix, mutation
from tasks.checks.trust.stand import Stand
from tasks.lib.checks import Check, Probe, Result, Scene
from tasks.lib.ground import Ground
from tasks.lib.modelling import Model
from tasks.lib.tenancy import Tenant

STAGE = "trust"
REVOCATION, ROTATION, MATRIX, MUTATION = "trust.revocation", "trust.rotation", "trust.matrix", "trust.mutation"

_NEEDS = (
    ENFORCED,
    "mesh-policies",
    "ingress-gateway",
    "net-istio",
    "knative",
    "kserve",
    "identity",
    "edge",
    "model-store",
)


def checks(ground: Ground, tenants: Sequence[Tenant], models: Sequence[Model], *, mutate: bool) -> list[Check]:
    """Return the claims about who gets in."""
    stand, brief = Stand(ground, tenants, models), Stand(ground, tenants, models, brief=True)
    before = ("models.answers", "models.answers-inside", APART)
    found = [
        Check(
            id=REVOCATION, stage=STAGE, needs=_NEEDS, after=before, timeout_s=900, fix="invoke tenants --force",
            claim="a token that is taken back, and one of a key that is, are refused on every way within a minute",
            probe=partial(changes.revocation, stand),
        ),
        Check(
            id=MATRIX, stage=STAGE, needs=_NEEDS, after=(*before, REVOCATION), timeout_s=900,
            claim="every way in answers whom it should, and the layer that should refuses everybody else",
            probe=partial(matrix.probe, stand), fix="invoke up --force   puts every policy back",
        ),
        Check(
            id=ROTATION, stage=STAGE, needs=(MATRIX,), timeout_s=900, fix="invoke tenants --force",
            claim="no valid call fails while keys are rotated", probe=leaving(stand, changes.rotation),
        ),
    ]  # fmt: skip
    if mutate:
        found.append(
            Check(
                id=MUTATION, stage=STAGE, needs=(MATRIX,), after=(ROTATION,), timeout_s=mutation.TIMEOUT_S,
                claim="the matrix turns red for every policy and setting that is taken away",
                probe=leaving(brief, mutation.probe), fix="a cell that notices it, in tasks/checks/trust",
            )
        )  # fmt: skip
    # Nobody else may ask the scratch tenants meanwhile: these come when the stand was left.
    alone = (*limits.checks(ground), *adversarial.checks(ground))
    return [*found, *(replace(each, after=(found[-1].id,)) for each in alone)]


def leaving(stand: Stand, probe: Callable[[Stand, Scene], Result]) -> Probe:
    """Return a probe that leaves the stand when it is over, so that others have the ground for themselves."""

    def body(scene: Scene) -> Result:
        try:
            return probe(stand, scene)
        finally:
            stand.leave()

    return body
