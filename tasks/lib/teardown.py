"""`down`: remove what a run made, and nothing else."""

import shutil
import sys

from tasks.lib import converge
from tasks.lib.component import Changes
from tasks.lib.errors import BoxError
from tasks.lib.kube import inventory
from tasks.lib.session import Session


def down(session: Session, *, wait: bool = True) -> None:
    """Delete the cluster that we made; on another one, our objects. Print what is left, also when that is nothing."""
    with converge.turn(session, "invoke down", wait=wait) as at_work:
        if session.box.provider.owned:
            removed = session.box.provider.delete(converge.tell)
            left = [f"node {name}" for name in session.box.provider.nodes()] if session.box.provider.exists() else []
            kept: list[str] = []
        else:
            at_work.acquire()
            changes = _remove_all(session)
            removed, kept = changes.deleted, changes.kept
            left = [str(ref) for ref in inventory.leftovers(session.box.kube) if ref.kind not in {"Namespace", "Lease"}]
    shutil.rmtree(session.box.root / ".box/rendered", ignore_errors=True)
    sys.stdout.write(_list("removed", removed) + _list("kept, and why", kept) + _list("left over", left))


def _remove_all(session: Session) -> Changes:
    """Remove component by component, dependents first. Goes on after a failure, and raises the first at the end."""
    graph, kube = session.graph, session.box.kube
    total, failed = Changes(), list[BoxError]()
    names = [*converge.orphans(session), *reversed(graph.order(graph.names))]
    for name in names:
        if name == converge.CLUSTER or (name in graph and graph[name].left_out):
            continue
        converge.tell(f"removing {name}")
        try:
            total += inventory.remove(kube, name, say=lambda _: None, cancel=session.box.cancel)
        except BoxError as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return total


def _list(title: str, entries: list[str]) -> str:
    lines = "\n".join(f"  {entry}" for entry in entries) or "  (nothing)"
    return f"{title}: {len(entries)}\n{lines}\n"
