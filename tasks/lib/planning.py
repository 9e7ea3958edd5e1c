"""Looking without touching: `plan`, `status` and `render`."""

import json
import sys
from pathlib import Path
from typing import Any

from tasks.components.later import Later
from tasks.lib import engine, provenance, report, runs, yamlfile
from tasks.lib.component import Component, Look
from tasks.lib.engine import Planned
from tasks.lib.errors import ClusterGone
from tasks.lib.events import Emitter
from tasks.lib.objects import ObjectsComponent
from tasks.lib.render import Obj
from tasks.lib.session import Session

FOLDER = Path(".box/rendered")
_MOST_LINES = 12


def _look(session: Session) -> list[Planned]:
    there, graph = session.box.cluster_there(), session.graph

    def look(node: Component) -> Look:
        if node.name != "cluster" and not there:
            raise ClusterGone("there is no cluster yet")
        return node.look(session.box)

    return engine.plan(
        graph, graph.names, look=look, jobs=session.box.settings.jobs, emit=Emitter(), cancel=session.box.cancel
    )


def show(session: Session, *, as_json: bool) -> None:
    """Print what a run would do: per component, then what would be fetched."""
    planned, fetch, origin = _look(session), session.box.source.estimate(), provenance.of(session.box)
    if as_json:
        _write({**origin.facts(), "components": [vars(each) for each in planned], "fetch": fetch})
        return
    usual = runs.history(session.box.root)
    width = max(len(each.name) for each in planned)
    for each in planned:
        took = (
            f"~{report.duration(usual[each.name])}" if each.action in {"apply", "repair"} and each.name in usual else ""
        )
        sys.stdout.write(f"  {each.action:<9} {each.name:<{width}}  {took:>6}  {each.reason}".rstrip() + "\n")
        for line in each.changes[:_MOST_LINES]:
            sys.stdout.write(f"{'':<14}{line}\n")
        if len(each.changes) > _MOST_LINES:
            sys.stdout.write(f"{'':<14}and {len(each.changes) - _MOST_LINES} more\n")
    sys.stdout.write(_fetching(fetch) + origin.text())


def status(session: Session, *, as_json: bool) -> bool:
    """Print each component's state; return whether everything is ready."""
    planned, origin = _look(session), provenance.of(session.box)
    words = {"skip": "ready", "apply": "to do", "repair": "not ready"}
    if as_json:
        rows = [
            {"name": each.name, "state": words.get(each.action, each.action), "reason": each.reason} for each in planned
        ]
        _write({**origin.facts(), "components": rows})
    else:
        width = max(len(each.name) for each in planned)
        for each in planned:
            state = words.get(each.action, each.action)
            sys.stdout.write(f"  {state:<9} {each.name:<{width}}  {each.reason}".rstrip() + "\n")
        for key, value in session.box.provider.info().items():
            sys.stdout.write(f"{key}: {value}\n")
        sys.stdout.write(origin.text())
    return all(each.action in {"skip", "left out"} for each in planned)


def render(session: Session) -> None:
    """Write the objects of every component, one file each; also what is drawn and not applied, which says so."""
    folder = session.box.root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in session.graph.names:
        node = session.graph[name]
        path, objects = folder / f"{name}.yaml", _objects(node, session)
        if not objects:  # nothing of an earlier rendering is left to be taken for this one's
            path.unlink(missing_ok=True)
            continue
        note = f"# {node.left_out}\n" if node.left_out else ""
        path.write_text(note + yamlfile.dump_all(objects), encoding="utf-8")
        told = f"  ({node.left_out})" if node.left_out else ""
        sys.stdout.write(f"{path.relative_to(session.box.root)}{told}\n")


def _objects(node: Component, session: Session) -> list[Obj]:
    if isinstance(node, ObjectsComponent):
        return node.objects(session.box)
    return node.draw(session.box) if isinstance(node, Later) else []


def _write(whole: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(whole, indent=2) + "\n")


def _fetching(fetch: dict[str, float | None]) -> str:
    if not fetch:
        return "nothing to fetch\n"
    lines = [f"  {name}" + (f"  ~{report.duration(seconds)}" if seconds else "") for name, seconds in fetch.items()]
    return f"to fetch or build: {len(fetch)}\n" + "\n".join(lines) + "\n"
