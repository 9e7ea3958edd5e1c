"""Mutation: one policy or setting at a time is taken away, and the matrix turns red. A survivor is a hole in it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.checks.trust import mutants, seats
from tasks.checks.trust.mutants import Mutant
from tasks.checks.trust.seats import Seats, Verdict
from tasks.checks.trust.stand import Stand
from tasks.components import gateway, mesh
from tasks.lib.checks import Part, Result, Scene, failed, passed
from tasks.lib.kube import desired
from tasks.lib.kube.api import Obj, Ref

KILL_S = 45.0
"""Seconds within which the matrix has to turn red. Most take five; a proxy may take a moment to hear of it."""

TIMEOUT_S = 3000.0


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What came of a mutant: the cell that noticed (none: it survived), how many did, and after how many seconds."""

    mutant: Mutant
    by: str = ""
    cells: int = 0
    seconds: float = 0.0


def probe(stand: Stand, scene: Scene) -> Result:
    """Take away one thing after the other. The matrix has to be right before and after each."""
    _, why = stand.settle(scene, stand.ground.after)
    if why:
        return failed("the matrix is not right to begin with, so that a red cell proves nothing", why)
    found = plan(stand, scene)
    fates: list[Fate] = []
    for number, mutant in enumerate(found, 1):
        scene.say(f"{number} of {len(found)}: {mutant.name}")
        fates.append(_try(stand, scene, mutant))
        _, why = stand.settle(scene, stand.ground.after)
        if why:
            return failed(
                f"after {mutant.name!r} was put back, the matrix was not right again", why, parts=_parts(fates)
            )
    return judge(fates)


def plan(stand: Stand, scene: Scene) -> list[Mutant]:
    """Return all mutants."""
    ground, box = stand.ground, scene.box
    first, last = (ground.objects(tenant, box) for tenant in ground.tenants)
    last += ground.model_objects(ground.models[-1], box)
    platform: list[Obj] = []
    for component in (mesh.MESH_POLICIES, gateway.EDGE):
        platform += [each.obj for each in desired.prepare(box.kube, component.objects(box), (), component.name)]
    return [
        *mutants.of_platform(platform),
        *mutants.of_tenants(first, last, ground.before),
        *mutants.widened(ground.tenants[-1].namespace, seats.OUTSIDE),
    ]


def _try(stand: Stand, scene: Scene, mutant: Mutant) -> Fate:
    taken, scratch = stand.take(scene), stand.ground.scratch
    begun = time.monotonic()
    found: list[Verdict] = []
    if mutant.borrowed and mutant.before:
        scratch.borrow(mutant.before, mutant.after)
    elif mutant.after:
        scratch.put(mutant.after)
    elif mutant.before:
        scratch.take_away(Ref.of(mutant.before))
    try:
        scene.observe(lambda: _red(taken, found), KILL_S)
    finally:
        if mutant.borrowed and mutant.before:
            scratch.give_back(mutant.before)
        elif mutant.before:
            scratch.put(mutant.before)
        elif mutant.after:
            scratch.take_away(Ref.of(mutant.after))
    by = f"{found[0].cell.name}: {found[0].wrong}" if found else ""
    return Fate(mutant=mutant, by=by, cells=len(found), seconds=time.monotonic() - begun)


def _red(taken: Seats, found: list[Verdict]) -> str:
    """Look for cells that are wrong twice in a row. One about which no log says anything does not count."""
    rounds = taken.look()
    if len(rounds) < 2:  # noqa: PLR2004
        return "no round is over yet"
    before = {each.cell.name for each in rounds[0] if each.wrong and not each.seen.blind}
    found[:] = [each for each in rounds[1] if each.wrong and not each.seen.blind and each.cell.name in before]
    return "" if found else "the matrix is as it was"


def judge(fates: Sequence[Fate]) -> Result:
    """No mutant may survive."""
    killed = [each for each in fates if each.by]
    score = f"kill score {100 * len(killed) / len(fates):.0f} %: {len(killed)} of {len(fates)} mutants killed"
    lines = [f"{'✓' if each.by else '✗'} {each.mutant.name}: {_told(each)}" for each in fates]
    measured = {"mutants": len(fates), "killed": len(killed), "score": round(100 * len(killed) / len(fates), 1)}
    if len(killed) < len(fates):
        return failed(score, "\n".join(lines), parts=_parts(fates))
    return passed(score, "\n".join(lines), measured=measured, parts=_parts(fates))


def _told(fate: Fate) -> str:
    if not fate.by:
        return f"SURVIVED: no cell noticed within {KILL_S:.0f} s"
    more = f" and {fate.cells - 1} more" if fate.cells > 1 else ""
    return f"{fate.by[:110]}{more}, {fate.seconds:.0f} s"


def _parts(fates: Sequence[Fate]) -> list[Part]:
    return [Part(name=each.mutant.name, wrong="" if each.by else "survived", seen=each.by) for each in fates]
