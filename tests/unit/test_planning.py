"""`plan` and `status`: what they print, for people and for programs."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.components.later import Later
from tasks.lib import planning, provenance
from tasks.lib.component import Look, State
from tasks.lib.graph import Graph
from tasks.lib.objects import ObjectsComponent
from tasks.lib.session import Session
from tests import boxes
from tests.unit.test_converge import PACKAGES


def opened(monkeypatch: pytest.MonkeyPatch, *, ready: bool) -> Session:
    monkeypatch.setattr(provenance, "of", lambda _: PACKAGES)
    source = SimpleNamespace(estimate=lambda: {"image a": None})
    provider = SimpleNamespace(exists=lambda: True, info=lambda: {"provider": "kind"})
    node: Any = SimpleNamespace(
        name="cluster", stage="cluster", needs=(), exclusive=False, left_out="",
        look=lambda _: Look(state=State.READY if ready else State.ABSENT, reason="2 nodes"),
    )  # fmt: skip
    session = Session(box=boxes.box(source=source, provider=provider), configured=[], read=[])
    vars(session)["graph"] = Graph([node])
    return session


def test_both_end_with_what_they_are_worth(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    planning.show(opened(monkeypatch, ready=False), as_json=False)
    told = capsys.readouterr().out
    assert told.startswith("  apply     cluster")
    assert told.endswith(f"to fetch or build: 1\n  image a\n{PACKAGES.text()}")

    assert planning.status(opened(monkeypatch, ready=True), as_json=False)
    assert capsys.readouterr().out == f"  ready     cluster  2 nodes\nprovider: kind\n{PACKAGES.text()}"
    for part in ("instead of 1.26.2", "charts.istiod 1.31.0 is outside <1.27", "net-istio: its own code"):
        assert part in PACKAGES.text()


def test_so_they_do_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    planning.show(opened(monkeypatch, ready=False), as_json=True)
    plan = json.loads(capsys.readouterr().out)
    assert plan["fetch"] == {"image a": None}
    assert not planning.status(opened(monkeypatch, ready=False), as_json=True)
    status = json.loads(capsys.readouterr().out)
    assert status["components"] == [{"name": "cluster", "state": "to do", "reason": "2 nodes"}]
    for found in (plan, status):
        assert {key: found[key] for key in PACKAGES.facts()} == PACKAGES.facts()


def test_a_rendering_says_what_is_not_applied_and_leaves_nothing_of_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    opened_now = opened(monkeypatch, ready=True)
    thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    rest: Any = {"stage": "s", "summary": "", "needs": ()}
    drawn = [thing]
    nodes = [
        ObjectsComponent(name="one", build=lambda _: [thing], **rest),
        Later(name="two", left_out="not yet", draw=lambda _: drawn, **rest),
        Later(name="three", left_out="nothing known", **rest),
    ]
    vars(opened_now)["graph"] = Graph(nodes)
    vars(opened_now)["box"] = boxes.box(root=tmp_path)

    planning.render(opened_now)

    assert capsys.readouterr().out == ".box/rendered/one.yaml\n.box/rendered/two.yaml  (not yet)\n"
    written = {path.name: path.read_text() for path in (tmp_path / ".box/rendered").iterdir()}
    assert set(written) == {"one.yaml", "two.yaml"}
    assert written["two.yaml"].startswith("# not yet\napiVersion: v1\n")
    drawn.clear()
    planning.render(opened_now)
    assert [path.name for path in (tmp_path / ".box/rendered").iterdir()] == ["one.yaml"]
