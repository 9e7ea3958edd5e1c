"""What the edge does for callers: it keeps a crowd off, tries again what reached nobody, waits, and gives up."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.checks import trust
from tasks.checks.edge import breaker, longcalls, newroutes, retries
from tasks.lib.checks import Check
from tasks.lib.ground import Ground


def checks(ground: Ground, after: Sequence[str]) -> list[Check]:
    """Return the claims. Two are quiet, and begin at once; two want the ground for themselves, `after` others."""
    alone = (*breaker.checks(ground), *retries.checks(ground))
    return [
        *longcalls.checks(ground),
        *newroutes.checks(ground),
        *(replace(each, after=tuple(after), exclusive=True, probe=trust.hushed(ground, each.probe)) for each in alone),
    ]
