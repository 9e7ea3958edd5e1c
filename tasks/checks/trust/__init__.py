"""Zero trust: what gets through the edge, and how much of it."""

from tasks.checks.trust import adversarial, limits
from tasks.lib.checks import Check
from tasks.lib.ground import Ground


def checks(ground: Ground) -> list[Check]:
    """Return the claims that are shown on scratch tenants."""
    return [*limits.checks(ground), *adversarial.checks(ground)]
