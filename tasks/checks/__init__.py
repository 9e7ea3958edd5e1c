"""The claims that `invoke verify` proves, as tables beside each other."""

from tasks.checks import models, network, ready, tenants, trust, versions
from tasks.lib.checks import Check
from tasks.lib.ground import Ground
from tasks.lib.session import Session


def table(session: Session, ground: Ground | None = None) -> list[Check]:
    """Return every claim about this platform, in the order in which they are shown.

    `ground` is where those that need scratch tenants are shown; without it they can be listed, and not made.
    """
    return [
        *ready.checks(session.graph),
        *tenants.checks(session.tenants),
        *network.checks(session.tenants, session.models),
        *trust.checks(ground or Ground()),
        *models.checks(session.models),
        *versions.checks(session.tenants),
    ]
