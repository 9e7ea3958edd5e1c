"""A whole run: the lock, the board, the engine, the pruning of what nobody wants any more, the summary."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from tasks.lib import board, crash, engine, lease, names, provenance, removal, report, runlock, runs
from tasks.lib.box import Box
from tasks.lib.component import Changes, Component, Look, Outcome, Say, Status
from tasks.lib.errors import BoxError, ClusterGone
from tasks.lib.events import Emitter
from tasks.lib.kube import inventory
from tasks.lib.prefetch import Prefetch
from tasks.lib.schedule import Interrupted
from tasks.lib.session import Session

CLUSTER = "cluster"

T = TypeVar("T", Look, Changes)


@dataclass(kw_only=True)
class Run:
    """What a run left: an outcome for each component, and how long it took."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    wall_s: float = 0.0
    error: BoxError | None = None
    critical: tuple[float, tuple[str, ...]] = (0.0, ())

    @property
    def changes(self) -> int:
        """How many objects are not as they were before."""
        return sum(each.changes.count for each in self.outcomes.values())


def up(
    session: Session,
    wanted: Iterable[str] = (),
    *,
    force: bool = False,
    fail_fast: bool = False,
    wait: bool = True,
    command: str = "invoke up",
    next_command: str = "",
) -> Run:
    """Bring up components or stages (all of them when none is named) and what they need.

    Returns also when something failed or the run was interrupted: `error` then stands for the run. Raises what stops it
    before it starts.
    """
    everything = not (names_ := tuple(wanted))
    if names_ != (CLUSTER,):
        session = awake(session, command, wait=wait)
    graph = session.graph
    targets = graph.resolve(names_)
    box, begun = session.box, time.monotonic()
    folder = runs.RunFolder.create(box.root)
    emitter = Emitter(board.choose(expected=runs.history(box.root)), folder)
    run = Run()
    try:
        with turn(session, command, wait=wait) as at_work, emitter:
            for note in box.notes:
                emitter.note(note)
            run = _walk(session, targets, emitter, at_work, force=force, fail_fast=fail_fast)
            if everything and run.error is None:
                run.outcomes |= prune(session)
    except Exception as error:
        if not run.outcomes:
            raise  # nothing was begun
        run.error = error if isinstance(error, BoxError) else crash.unexpected(error, folder.path)
    run.wall_s = time.monotonic() - begun
    run.critical = engine.critical_path(graph, {name: each for name, each in run.outcomes.items() if name in graph})
    _conclude(run, box, folder, command, next_command)
    return run


def _walk(session: Session, targets: Iterable[str], emitter: Emitter, at_work: "_AtWork", **how: bool) -> Run:
    """Run the engine, with what later stages need being fetched beside it."""
    box, graph = session.box, session.graph
    with Prefetch(box, (graph[name] for name in graph.closure(targets)), emitter) as prefetch:
        try:
            outcomes = engine.run(
                graph,
                targets,
                look=lambda node: _after_cluster(node, node.look(box), prefetch, at_work),
                act=lambda node, say: _after_cluster(node, node.act(box, say), prefetch, at_work),
                jobs=box.settings.jobs,
                emit=emitter,
                cancel=box.cancel,
                **how,
            )
        except Interrupted as error:
            return Run(outcomes=error.outcomes, error=error)
    return Run(outcomes=outcomes, error=engine.failure(outcomes))


def awake(session: Session, command: str, *, wait: bool = True) -> Session:
    """Return the session with every tenant known: a cluster that is there and does not answer is brought up first.

    Raises what its repair failed with.
    """
    if session.added is not None:
        return session
    run = up(session, [CLUSTER], wait=wait, command=command)
    if run.error:
        raise run.error
    return _anew(session)


def _anew(session: Session) -> Session:
    """Return the session with the tenants as they are in the cluster now. Raises ClusterGone when it does not say."""
    try:
        return session.anew()
    except ClusterGone as error:
        raise ClusterGone(
            "the tenants that were added by command cannot be read",
            facts={"cause": error.what, "skipped": "nothing that may be theirs was touched"},
            hint="invoke up",
        ) from error


def _conclude(run: Run, box: Box, folder: runs.RunFolder, command: str, next_command: str) -> None:
    """Write down how the run came out, and tell it."""
    (seconds, path), origin = run.critical, provenance.of(box)
    folder.write_outcomes(
        run.outcomes, command=command, cluster=box.settings.cluster, wall_s=round(run.wall_s, 3),
        peak_mib=round(runs.peak_mib(), 1), critical={"seconds": round(seconds, 3), "components": path},
        error=str(run.error) if run.error else "", **origin.facts(),
    )  # fmt: skip
    sys.stderr.write(
        "\n" + report.summary(
            run.outcomes, wall_s=run.wall_s, marks=report.marks_for(sys.stderr), critical=run.critical,
            log=folder.log, tail=folder.tail, origin=origin.line(), next_command="" if run.error else next_command,
        )
    )  # fmt: skip


class _AtWork:
    """The lease in the cluster, taken when there is one."""

    def __init__(self, session: Session, command: str, *, wait: bool, stack: contextlib.ExitStack) -> None:
        self._session, self._command, self._wait, self._stack = session, command, wait, stack
        self._lease: lease.Lease | None = None

    def acquire(self) -> None:
        """Take the lease; again is fine. Raises Busy when another machine's run has it and we may not wait."""
        if self._lease is None:
            box = self._session.box
            made = lease.Lease(box.kube, command=self._command, cancel=box.cancel)
            made.acquire(say=tell, wait=self._wait)
            self._lease = self._stack.enter_context(made)


@contextlib.contextmanager
def turn(session: Session, command: str, *, wait: bool = True) -> Iterator[_AtWork]:
    """Hold the lock of the cluster on this machine; what is yielded takes the cluster's own lease."""
    box = session.box
    key = box.settings.cluster if box.provider.owned else box.kube.server
    with (
        runlock.hold(box.settings.cache_dir() / "locks", key, command=command, say=tell, wait=wait),
        contextlib.ExitStack() as stack,
    ):
        yield _AtWork(session, command, wait=wait, stack=stack)


def tell(text: str) -> None:
    """Print a line about the run itself."""
    sys.stderr.write(f"{text}\n")


def _after_cluster(node: Component, result: T, prefetch: Prefetch, at_work: _AtWork) -> T:
    ready = isinstance(result, Changes) or result.state.value == "ready"
    if node.name == CLUSTER and ready:
        at_work.acquire()
        prefetch.cluster_ready.set()
    return result


def prune(session: Session) -> dict[str, Outcome]:
    """Remove components that are in the cluster and no longer wanted: a tenant or a model taken out of its file.

    A tenant that is still in use stays, and is reported with what to type. The tenants that were added by
    command are read anew: one may have been added since this run began. Raises ClusterGone when they cannot be read.
    """
    session = _anew(session)
    box, graph, found = session.box, session.graph, dict[str, Outcome]()
    for name in orphans(session):
        if not name.startswith(names.tenant_component("")):
            changes = inventory.remove(box.kube, name, say=lambda _: None, cancel=box.cancel)
        else:
            tenant = name.removeprefix(names.tenant_component(""))
            if why := removal.in_use(box.kube, tenant):
                reason = f"no longer wanted, but {why}. invoke tenant.remove --name {tenant} --force"
                found[name] = Outcome(status=Status.SKIPPED, reason=reason)
                continue
            changes = removal.remove_tenant(box, tenant, force=False)
        found[name] = Outcome(status=Status.CHANGED, changes=changes)
    assert not set(found) & set(graph.names)  # noqa: S101 (orphans are what the graph does not have)
    return found


def orphans(session: Session) -> list[str]:
    """Return the components that have an inventory in the cluster and no place in the graph, dependents first."""
    gone = [name for name in inventory.components(session.box.kube) if name not in session.graph]
    return sorted(gone, key=lambda name: (not name.startswith("model-"), name.endswith(names.ARTEFACT), name))


__all__ = ["Run", "Say", "orphans", "prune", "tell", "turn", "up"]
