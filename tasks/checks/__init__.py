"""The claims that `invoke verify` proves, as tables beside each other."""

from tasks.checks import models, network, ready, tenants, versions
from tasks.lib.checks import Check
from tasks.lib.session import Session


def table(session: Session) -> list[Check]:
    """Return every claim about this platform, in the order in which they are shown."""
    return [
        *ready.checks(session.graph),
        *tenants.checks(session.tenants),
        *network.checks(session.tenants, session.models),
        *models.checks(session.models),
        *versions.checks(session.tenants),
    ]
