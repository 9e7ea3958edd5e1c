"""The claims that `invoke verify` proves, as tables beside each other."""

from dataclasses import replace

from tasks.checks import edge, models, network, ready, tenants, trust, versions
from tasks.lib.checks import Check
from tasks.lib.ground import Ground
from tasks.lib.session import Session


def table(session: Session, ground: Ground | None = None, *, mutate: bool = False) -> list[Check]:
    """Return every claim about this platform, in the order in which they are shown.

    `ground` is what checks may do as they like on; whoever makes the checks opens and closes it. With `mutate`, the
    claims about the matrix itself are among them.
    """
    ground = ground or Ground()
    about_trust = trust.checks(ground, session.tenants, session.models, mutate=mutate)
    return [
        *ready.checks(session.graph),
        *tenants.checks(session.tenants),
        *network.checks(session.tenants, session.models),
        *about_trust,
        *edge.checks(ground, after=[each.id for each in about_trust if not each.exclusive]),
        # A model that is asked does not go to sleep.
        *(
            replace(each, probe=trust.hushed(ground, each.probe)) if each.id == models.ZERO else each
            for each in models.checks(session.models)
        ),
        *versions.checks(session.tenants),
    ]
