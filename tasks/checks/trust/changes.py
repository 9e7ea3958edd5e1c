"""Keys rotate without anybody noticing; a token that is taken back is refused on every way, how soon is measured."""

import time
from collections.abc import Sequence

from tasks.checks.trust.cells import PATHS, Cell
from tasks.checks.trust.stand import Stand
from tasks.lib.checks import Result, Scene, failed, passed
from tasks.lib.probepods import Attempt
from tasks.lib.tokenkinds import VALID, Kind

SPREAD_S = 60.0
"""Seconds within which a token that was taken back, or a key, has to be refused everywhere."""

_OK, _REFUSED = 200, (401, 403)
_LEAST_ROUNDS = 5
"""Rounds after a rotation that have to be without a failure."""


def revocation(stand: Stand, scene: Scene) -> Result:
    """See tokens accepted, take them back, and measure until each way refuses them."""
    taken = stand.take(scene)
    if stand.ground.admission != stand.ground.before:
        stand.ground.admit(scene.box, stand.ground.before)
    both = [(path, kind) for kind in (Kind.REVOKED, Kind.ROTATED_OUT) for path in PATHS]

    def accepted() -> str:
        newest = taken.newest()
        return next(filter(None, (unlike(newest, path, kind, (_OK,)) for path, kind in both)), "")

    if why := scene.observe(accepted, SPREAD_S):
        return failed("what is to be taken back was not accepted before, so that its refusal proves nothing", why)
    begun = time.monotonic()
    stand.ground.admit(scene.box, stand.ground.after)
    refused: dict[tuple[str, Kind], float] = {}

    def obstacle() -> str:
        newest, late = taken.newest(), ""
        for path, kind in both:
            if (path, kind) not in refused:
                if why := unlike(newest, path, kind, _REFUSED):
                    late = why
                else:
                    refused[path, kind] = time.monotonic() - begun
        return late

    if why := scene.observe(obstacle, SPREAD_S):
        return failed(f"{SPREAD_S:.0f} s after it was taken back, a token was still not refused everywhere", why)
    lines = [
        f"{kind.value}: " + ", ".join(f"{path} {refused[path, kind]:.1f} s" for path in PATHS)
        for kind in dict.fromkeys(kind for _, kind in both)
    ]
    measured = {
        f"{kind.name.lower()}_{path.replace(' ', '_')}_s": round(took, 2) for (path, kind), took in refused.items()
    }
    slowest = max(refused.values())
    return passed(f"refused on all ways within {slowest:.1f} s of the command", "\n".join(lines), measured=measured)


def unlike(newest: Sequence[tuple[Cell, Attempt]], path: str, kind: Kind, statuses: Sequence[int]) -> str:
    """Return why tokens of a kind are not all answered so on a way; empty when they are, in the newest round.

    The tokens are those of the tenant that is asked: nothing else is wrong with them. What was not asked is not so.
    """
    found = [
        (cell, attempt) for cell, attempt in newest
        if (cell.path, cell.kind) == (path, kind) and cell.pair.partition(" → ")[0] == cell.pair.rpartition(" → ")[2]
    ]  # fmt: skip
    if not found:
        return f"{path}, {kind}: not asked yet"
    return next((f"{cell.name}: {attempt}" for cell, attempt in found if attempt.status not in statuses), "")


def rotation(stand: Stand, scene: Scene) -> Result:
    """Rotate the scratch tenants' keys while valid calls go on, on every way, with tokens of both keys."""
    _, why = stand.settle(scene, stand.ground.after)
    if why:
        return failed("the calls did not succeed before the rotation", why)
    taken = stand.take(scene)
    since = taken.mark()
    begun = time.monotonic()
    stand.ground.admit(scene.box, stand.ground.rotated)
    until = {seat: number + _LEAST_ROUNDS for seat, number in taken.mark().items()}
    if why := scene.observe(lambda: taken.reached(until), SPREAD_S):
        return failed("the calls did not go on after the rotation", why)
    calls = [(cell, attempt) for cell, attempt in taken.history(since) if _valid(cell)]
    stand.ground.admit(scene.box, stand.ground.after)
    return judge_rotation(calls, time.monotonic() - begun)


def _valid(cell: Cell) -> bool:
    return cell.kind in VALID and bool(cell.answer)


def judge_rotation(calls: Sequence[tuple[Cell, Attempt]], lasted_s: float) -> Result:
    """Every valid call has to be answered. One that was not made, for want of an address, says nothing of keys."""
    made = [(cell, attempt) for cell, attempt in calls if not attempt.nameless]
    bad = [f"{cell.name}: {attempt}" for cell, attempt in made if attempt.status != _OK]
    paths = {cell.path for cell, _ in made}
    if bad or paths != set(PATHS):
        missing = (
            f"no call by {', '.join(sorted(set(PATHS) - paths))}" if not bad else f"{len(bad)} of {len(made)} failed"
        )
        return failed(f"valid calls during a rotation: {missing}", "\n".join(bad[:10]))
    measured = {
        "calls": len(made), "failed": 0, "nameless": len(calls) - len(made), "seconds": round(lasted_s, 1),
    }  # fmt: skip
    return passed(
        f"{len(made)} valid calls on {len(paths)} ways in {lasted_s:.0f} s, with tokens of both keys: 0 failed",
        measured=measured,
    )
