"""`verify`: look at what the checks need, make them, and print what came of each."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks import checks as tables
from tasks.lib import board, checkreport, checkrun, checks, converge, engine, provenance, report, runs, scratch
from tasks.lib.checks import Check, Finding, Verdict
from tasks.lib.engine import Planned
from tasks.lib.errors import BadInput, ClusterGone
from tasks.lib.events import Emitter
from tasks.lib.ground import Ground
from tasks.lib.session import Session

COMMAND = "invoke verify"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to check and how to tell it. `junit` is a file; empty means none."""

    only: Sequence[str] = ()
    mutate: bool = False
    as_json: bool = False
    junit: str = ""


def claims(session: Session, only: Sequence[str], *, mutate: bool) -> None:
    """Print what would be checked."""
    chosen = checks.select(tables.table(session, mutate=mutate), only)
    width = max((len(each.name) for each in chosen), default=0)
    for each in chosen:
        sys.stdout.write(f"{each.name:<{width}}  {each.claim}\n")


def verify(session: Session, wanted: Wanted, *, wait: bool = True) -> bool:
    """Make the checks, print the report, and return whether nothing failed.

    Raises BadInput for an unknown check or a report that cannot be written, ClusterGone when there is no cluster,
    Interrupted. What a run that was cut off has left in the cluster is removed first.
    """
    target = _writable(wanted.junit)
    require_cluster(session)
    ground = Ground()
    chosen = checks.select(tables.table(session, ground, mutate=wanted.mutate), wanted.only)
    begun = time.monotonic()
    folder = runs.RunFolder.create(session.box.root)
    emitter = Emitter(board.choose(), folder)
    with converge.turn(session, COMMAND, wait=wait) as at_work, emitter:
        at_work.acquire()
        _sweep(session, emitter)
        with ground:
            findings = _make(session, chosen, emitter)
    wall_s = time.monotonic() - begun
    origin = provenance.of(session.box)
    if target:
        target.write_text(checkreport.as_junit(findings, origin, wall_s=wall_s), encoding="utf-8")
    _print(session, findings, origin, wanted, wall_s)
    return not any(each.result.verdict is Verdict.FAILED for each in findings)


def require_cluster(session: Session) -> None:
    """Raise ClusterGone unless there is a cluster, and it answers."""
    box = session.box
    if not box.cluster_there():
        raise ClusterGone(
            "there is no cluster to verify", facts={"provider": box.provider.name}, hint="invoke up   brings one up"
        )
    box.kube.version()


def _sweep(session: Session, emitter: Emitter) -> None:
    box = session.box
    if left := scratch.sweep(box.kube, emitter.note, box.cancel):
        emitter.note(f"removed what an earlier verify left: {', '.join(left)}")


def _make(session: Session, chosen: Sequence[Check], emitter: Emitter) -> list[Finding]:
    box, graph = session.box, session.graph
    emitter.note("looking at what the checks need")
    looks = look(session, checks.targets(chosen, graph.stages))
    return checkrun.run(
        chosen, box=box, looks=looks, stages=graph.stages, emit=emitter, jobs=box.settings.jobs
    )  # fmt: skip


def look(session: Session, targets: Sequence[str]) -> Mapping[str, Planned]:
    """Look at components and what they need; a check reads there whether what it needs is ready."""
    if not targets:
        return {}
    box = session.box
    planned = engine.plan(
        session.graph, targets, look=lambda node: node.look(box), jobs=box.settings.jobs, emit=Emitter(),
        cancel=box.cancel,
    )  # fmt: skip
    return {each.name: each for each in planned}


def _print(
    session: Session, findings: Sequence[Finding], origin: provenance.Provenance, wanted: Wanted, wall_s: float
) -> None:  # fmt: skip
    if wanted.as_json:
        cluster = session.box.provider.info()
        sys.stdout.write(checkreport.as_json(findings, origin, cluster, wall_s=wall_s))
        if any(each.result.verdict is Verdict.FAILED for each in findings):  # a program reads the rest, people this
            marks = report.marks_for(sys.stderr)
            sys.stderr.write(f"\n{checkreport.table(findings, marks, verdicts=[Verdict.FAILED])}")
        return
    marks = report.marks_for(sys.stdout)
    head = "".join(f"{report.clean(line, marks)}\n" for line in origin.text().splitlines())
    sys.stdout.write(f"{head}\n{checkreport.table(findings, marks)}")


def _writable(junit: str) -> Path | None:
    """Return the report's path, known to be writable before minutes are spent. Raises BadInput otherwise."""
    if not junit:
        return None
    path = Path(junit).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        path.open("a", encoding="utf-8").close()
        if not there:  # an empty file would be taken for a report if this run is cut off
            path.unlink()
    except OSError as error:
        raise BadInput(f"--junit: {path} cannot be written: {error.strerror}") from error
    return path
