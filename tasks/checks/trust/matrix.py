"""The matrix: every way in, every caller, every kind of token, and the layer that has to answer. And its table."""

from collections import Counter
from collections.abc import Sequence

from tasks.checks.trust.cells import PATHS
from tasks.checks.trust.layers import Layer
from tasks.checks.trust.seats import Verdict
from tasks.checks.trust.stand import SETTLED_S, Stand
from tasks.lib.checks import Part, Result, Scene, failed, passed
from tasks.lib.tokenkinds import Kind

_LETTERS = {
    Layer.GATEWAY_JWT: "J", Layer.GATEWAY_AUTHORIZATION: "A", Layer.ROUTE: "R", Layer.MESH_JWT: "j",
    Layer.MESH_RBAC: "a", Layer.MTLS: "T", Layer.NETWORK: "N", Layer.ANSWERED: "✓", Layer.CONNECTED: "c",
    Layer.UNKNOWN: "?",
}  # fmt: skip

_MOST_WRONG = 20


def probe(stand: Stand, scene: Scene) -> Result:
    """Ask everything until nothing is wrong twice in a row."""
    seen, why = stand.settle(scene, stand.ground.after)
    if why and not seen:
        return failed("not one round came to its end", why)
    return judge(seen, why)


def judge(seen: Sequence[Verdict], why: str) -> Result:
    """Judge the last round; `why` is what was wrong in one of the last two, if anything was."""
    parts = [Part(name=each.cell.name, wrong=each.wrong, seen=str(each.seen)) for each in seen]
    wrong = [each for each in seen if each.wrong]
    shown = table(seen)
    if why:
        told = [f"✗ {each.cell.name}: {each.wrong}" for each in wrong[:_MOST_WRONG]] or [f"✗ {why}"]
        more = [f"  and {len(wrong) - _MOST_WRONG} more"] if len(wrong) > _MOST_WRONG else []
        return failed(
            f"{len(wrong) or 'some'} of {len(seen)} cells wrong after {SETTLED_S:.0f} s",
            "\n".join([*told, *more, shown]), parts=parts,
        )  # fmt: skip
    measured = {"cells": len(seen), "wrong": 0}
    return passed(f"{len(seen)} cells, 0 wrong", shown, measured=measured, parts=parts)


def table(seen: Sequence[Verdict]) -> str:
    """Return the matrix: a line for each way and pair, a column for each kind of token; then the rest, by layer."""
    grid = {(each.cell.path, each.cell.pair, each.cell.kind): each for each in seen if each.cell.path}
    pairs = list(dict.fromkeys(pair for _, pair, _ in grid))
    width = max((len(pair) for pair in pairs), default=0)
    head = [f"{number}" for number, _ in enumerate(Kind, 1)]
    lines = [f"{'':<13}  {'':<{width}}  " + " ".join(f"{each:>4}" for each in head)]
    for where in PATHS:
        for pair in pairs:
            found = [grid.get((where, pair, kind.value)) for kind in Kind]
            if any(found):
                lines.append(f"{where:<13}  {pair:<{width}}  " + " ".join(_mark(each) for each in found))
    tokens = ", ".join(f"{number} {kind.value}" for number, kind in enumerate(Kind, 1))
    legend = ", ".join(f"{letter} {layer.value}" for layer, letter in _LETTERS.items())
    rest = [each for each in seen if not each.cell.path]
    counts = Counter((each.cell.layer.value, bool(each.wrong)) for each in rest)
    others = ", ".join(f"{number} by {layer}{' WRONG' if bad else ''}" for (layer, bad), number in counts.items())
    return "\n".join([*lines, f"tokens: {tokens}", f"layers: {legend}", f"{len(rest)} other cells: {others}"])


def _mark(verdict: Verdict | None) -> str:
    if verdict is None:
        return "   ·"
    status = str(verdict.seen.status or "")
    return f"{'!' if verdict.wrong else _LETTERS[verdict.seen.layer]}{status}".rjust(4)
