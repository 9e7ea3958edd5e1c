"""A whole run around components that do as they are told: how it ends, and what it leaves on disk and on screen."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.lib import converge, lease, provenance
from tasks.lib.component import Changes, Look, Outcome, State
from tasks.lib.errors import Busy, ClusterGone, NotReady, Unexpected
from tasks.lib.graph import Graph
from tasks.lib.provenance import Provenance
from tasks.lib.session import Session
from tasks.lib.versions import Outside, Overlaid
from tests import boxes
from tests.fakes import FakeKube

OVERLAID = (
    Overlaid(key="charts.istiod.version", pin="1.26.2", used="1.31.0", why="no record"),
    Overlaid(key="charts.istiod.repo", pin="a", used="b", why="no record"),
    Overlaid(key="images.webhook", pin="1", used="nothing", why="none"),
)
OUTSIDE = (Outside(key="charts.istiod", version="1.31.0", allowed="<1.27", by="what kiali supports", why="no record"),)
PACKAGES = Provenance(
    source="built here", name="packages", overlaid=OVERLAID, outside=OUTSIDE, standins={"net-istio": "its own code"}
)
LINE = (
    "source packages: 2 versions differ from the pins (1 time outside what vendors support), 1 stand-in; "
    "invoke versions.list   shows them"
)


@dataclass
class Piece:
    """A component that makes one object."""

    name: str
    needs: tuple[str, ...] = ()
    stage: str = "cluster"
    exclusive: bool = False
    left_out: str = ""
    summary: str = ""
    timeout_s: float = 1.0
    does: Callable[[], object] = field(default=lambda: None)

    def look(self, _: object) -> Look:
        return Look(state=State.ABSENT)

    def act(self, _box: object, _say: object) -> Changes:
        self.does()
        return Changes(created=[self.name])


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(converge, "prune", lambda _: {})
    monkeypatch.setattr(lease.Lease, "acquire", lambda *_, **__: None)
    source = SimpleNamespace(name="packages", describe=lambda: "built here", standins=dict, prepare=lambda *_: None)
    provider = SimpleNamespace(owned=True, exists=lambda: True)
    session = Session(
        box=boxes.box(FakeKube(), root=tmp_path, source=source, provider=provider), configured=[], read=[]
    )
    vars(session)["graph"] = Graph([Piece("cluster"), Piece("certs", ("cluster",), stage="certs")])
    return session


def left(opened: Session) -> dict[str, Any]:
    """Return what the only run has written down."""
    (folder,) = (opened.box.root / ".box/runs").iterdir()
    found: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
    return found


def test_a_run_is_told_and_written_down(opened: Session, capsys: pytest.CaptureFixture[str]) -> None:
    run = converge.up(opened, next_command="invoke verify")
    assert run.error is None
    assert run.changes == 2
    found = left(opened)
    assert (found["command"], found["error"], found["source"]) == ("invoke up", "", "built here")
    assert {name: each["status"] for name, each in found["outcomes"].items()} == dict.fromkeys(
        ("cluster", "certs"), "changed"
    )
    err = capsys.readouterr().err
    assert "2 changes in" in err
    assert err.endswith("Next: invoke verify\n")
    assert "from the pins" not in err
    assert "\x1b" not in err, "no colours where it is no terminal"


def test_what_is_not_as_it_is_pinned_is_in_both(
    opened: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "of", lambda _: PACKAGES)
    converge.up(opened, next_command="invoke verify")
    found = left(opened)
    assert found["overlaid"][0] == {
        "key": "charts.istiod.version",
        "pin": "1.26.2",
        "used": "1.31.0",
        "why": "no record",
    }
    assert found["outside"] == [
        {
            "key": "charts.istiod",
            "version": "1.31.0",
            "allowed": "<1.27",
            "by": "what kiali supports",
            "why": "no record",
        }
    ]
    assert found["standins"] == {"net-istio": "its own code"}
    assert capsys.readouterr().err.endswith(f"\n{LINE}\nNext: invoke verify\n")


def test_pruning_that_fails_is_the_run_s_error_and_the_run_is_told_all_the_same(
    opened: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prune(_: Session) -> dict[str, Outcome]:
        raise NotReady("tenant-b does not go", facts={"object": "Namespace tenant-b"})

    monkeypatch.setattr(converge, "prune", prune)
    run = converge.up(opened, next_command="invoke verify")
    assert isinstance(run.error, NotReady)
    assert left(opened)["error"] == "tenant-b does not go\n  object  Namespace tenant-b"
    assert left(opened)["outcomes"]["certs"]["status"] == "changed"
    err = capsys.readouterr().err
    assert "2 changes in" in err
    assert "Next:" not in err


def test_a_fault_of_ours_in_pruning_is_told_too_with_its_traceback_beside_the_logs(
    opened: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: dict[str, Any] = {}
    monkeypatch.setattr(converge, "prune", lambda _: nothing["a bug"])
    error = converge.up(opened).error
    assert isinstance(error, Unexpected)
    assert error.code == 70
    path = Path(str(error.facts["traceback"]))
    assert path.parent.parent == opened.box.root / ".box/runs"
    assert "KeyError: 'a bug'" in path.read_text()
    assert "unexpected KeyError" in left(opened)["error"]


def test_pruning_is_for_a_whole_run_that_went_well(opened: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converge, "prune", lambda _: pytest.fail("pruned"))
    converge.up(opened, ["certs"])

    def fails() -> None:
        raise NotReady("certs: no")

    vars(opened)["graph"] = Graph([Piece("cluster"), Piece("certs", ("cluster",), does=fails)])
    run = converge.up(opened)
    assert run.error is not None
    assert run.error.what == "certs: no"


def test_an_interrupted_run_is_told_and_written_down(opened: Session, capsys: pytest.CaptureFixture[str]) -> None:
    vars(opened)["graph"] = Graph([Piece("cluster", does=opened.box.cancel.set), Piece("certs", ("cluster",))])
    error = converge.up(opened, next_command="invoke verify").error
    assert error is not None
    assert (error.what, error.code) == ("interrupted", 130)
    assert left(opened)["outcomes"]["cluster"]["status"] == "changed"
    assert left(opened)["error"].startswith("interrupted\n")
    assert "2 components: " in capsys.readouterr().err


def test_a_run_that_may_not_begin_leaves_no_outcome(opened: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def taken(*_: object, **__: object) -> Iterator[None]:
        raise Busy("another run is at work")
        yield

    monkeypatch.setattr(converge, "turn", taken)
    with pytest.raises(Busy):
        converge.up(opened)
    assert not list((opened.box.root / ".box/runs").glob("*/outcome.json"))


def test_a_lease_that_was_lost_is_the_run_s_error(opened: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease.Lease, "release", lambda self: setattr(self, "lost", Busy("another run took over")))
    assert str(converge.up(opened).error) == "another run took over"
    assert left(opened)["error"] == "another run took over"


def test_nothing_is_said_of_a_source_that_has_what_is_pinned() -> None:
    assert Provenance(source="upstream", name="upstream").line() == ""
    one = replace(PACKAGES, overlaid=OVERLAID[2:], outside=(), standins={})
    assert one.line() == "source packages: 1 version differs from the pins; invoke versions.list   shows them"
    assert replace(one, overlaid=(), standins={"a": "b", "c": "d"}).line().startswith("source packages: 2 stand-ins; ")


def test_prefetching_that_fails_is_a_note_and_nothing_more(opened: Session, capsys: pytest.CaptureFixture[str]) -> None:
    tried = threading.Event()

    def prepare(stages: list[str], *_: object) -> None:
        tried.set()
        raise OSError(f"{stages[0]}: the disk is full") if stages == ["cluster"] else ClusterGone("no answer")

    vars(opened.box.source)["prepare"] = prepare
    vars(opened)["graph"] = Graph([Piece("cluster", does=lambda: tried.wait(60)), Piece("certs", stage="certs")])
    assert converge.up(opened).error is None
    assert "prefetch of cluster: OSError('cluster: the disk is full')" in capsys.readouterr().err
