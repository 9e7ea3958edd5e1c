"""Zero trust, cell by cell: who gets an answer, and which layer refuses everybody else.

All that ask from a stand (stand.py) come first. Who wants the ground for himself has it hushed.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from tasks.checks.network import APART, ENFORCED
from tasks.checks.trust import adversarial, changes, limits, matrix, mutation, tls
from tasks.checks.trust.stand import Stand
from tasks.lib.checks import Check, Probe, Result, Scene
from tasks.lib.ground import Ground
from tasks.lib.modelling import Model
from tasks.lib.tenancy import Tenant

STAGE = "trust"
REVOCATION, ROTATION, MATRIX, MUTATION = "trust.revocation", "trust.rotation", "trust.matrix", "trust.mutation"

_NEEDS = (
    ENFORCED, "mesh-policies", "ingress-gateway", "net-istio", "knative", "kserve", "identity", "edge", "model-store",
)  # fmt: skip


def checks(ground: Ground, tenants: Sequence[Tenant], models: Sequence[Model], *, mutate: bool) -> list[Check]:
    """Return the claims about who gets in."""
    stand, brief = Stand(ground, tenants, models), Stand(ground, tenants, models, brief=True)
    before = ("models.answers", "models.answers-inside", APART)
    found = [
        *tls.checks(models),
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
            claim="no valid call fails while keys are rotated", probe=partial(changes.rotation, stand),
        ),
    ]  # fmt: skip
    if mutate:
        found.append(
            Check(
                id=MUTATION, stage=STAGE, needs=(MATRIX,), after=(ROTATION,), timeout_s=mutation.TIMEOUT_S,
                exclusive=True,  # what it takes away, others are asking about
                claim="the matrix turns red for every policy and setting that is taken away",
                probe=hushed(ground, partial(mutation.probe, brief)),
                fix="a cell that notices it, in tasks/checks/trust",
            )
        )  # fmt: skip
    alone = (*limits.checks(ground), *adversarial.checks(ground))
    last = tuple(each.id for each in found)
    return [*found, *(replace(each, after=last, probe=hushed(ground, each.probe)) for each in alone)]


def hushed(ground: Ground, probe: Probe) -> Probe:
    """Return a probe before which all go quiet that keep asking."""

    def body(scene: Scene) -> Result:
        ground.hush()
        return probe(scene)

    return body
