"""Tenants by command: what is refused before anything is touched, what the record keeps, what the list shows."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.lib import converge, preflight, routes, tenancy, tenants
from tasks.lib.component import Outcome, Status
from tasks.lib.errors import BadInput
from tasks.lib.session import Session
from tasks.lib.tenancy import Tenant
from tests import boxes
from tests.fakes import FakeKube

ROOT = Path(__file__).parents[2]
QUOTA = dict.fromkeys(tenancy.QUOTA_KEYS, "1")
A = Tenant(name="a", quota=QUOTA, requests_per_minute=900)
ADDED = Tenant(name="d", summary="by command", quota=QUOTA, requests_per_minute=30, configured=False)


class Runs:
    """What was asked of the runs that these commands start."""

    def __init__(self) -> None:
        self.changed: list[Tenant] = []

    def up(self, session: Session, targets: list[str], **_: object) -> Any:
        self.changed += session.changed
        return SimpleNamespace(error=None, outcomes={targets[0]: Outcome(status=Status.CHANGED)})


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(preflight, "require", lambda _: None)
    monkeypatch.setattr(converge, "awake", lambda session, *_, **__: session)
    monkeypatch.setattr(converge, "up", made.up)
    return made


@pytest.fixture
def opened(tmp_path: Path) -> Session:
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config/models.yaml", tmp_path / "config")
    kube = FakeKube(tenancy.tenant_objects(A)[0], tenancy.tenant_objects(ADDED)[0])
    provider = SimpleNamespace(exists=lambda: True, owned=True)
    return Session(box=boxes.box(kube, root=tmp_path, provider=provider), configured=[A])


def add(opened: Session, name: str, requests: str = "", quota: str = "") -> None:
    tenants.add(opened, name, summary="", quota=quota, requests=requests)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "1e3", " 7", "٣", "4294967296", "99999999999"])
def test_a_limit_that_cannot_be_is_refused_before_anything_is_touched(opened: Session, runs: Runs, text: str) -> None:
    with pytest.raises(BadInput, match=r"--requests-per-minute: .* is not a whole number from 1 to 4294967295"):
        add(opened, "new", text)
    assert runs.changed == []


@pytest.mark.parametrize(
    ("name", "requests", "wanted"),
    [
        ("new", "", tenancy.REQUESTS_PER_MINUTE),
        ("new", "7", 7),
        ("d", "7", 7),
        ("d", "", 30),
        ("d", "4294967295", 2**32 - 1),
    ],
)
def test_a_limit_is_what_is_said_or_what_it_was(
    opened: Session, runs: Runs, name: str, requests: str, wanted: int
) -> None:
    add(opened, name, requests)
    (made,) = runs.changed
    assert (made.name, made.requests_per_minute, made.configured) == (name, wanted, False)


def test_the_record_keeps_it_and_the_edge_counts_by_it() -> None:
    kept = tenancy.from_namespace(tenancy.tenant_objects(ADDED)[0])
    assert kept == ADDED
    (policy,) = (
        each for each in routes.tenant_objects(ADDED, "example.com", {"keys": []}, [])
        if each["kind"] == "BackendTrafficPolicy"
    )  # fmt: skip
    (rule,) = policy["spec"]["rateLimit"]["global"]["rules"]
    assert rule["limit"] == {"requests": 30, "unit": "Minute"}


def test_a_tenant_of_the_file_is_changed_there(opened: Session, runs: Runs) -> None:
    with pytest.raises(BadInput, match=r"a is in config/tenants\.yaml, and so are its quota and its limit"):
        add(opened, "a", "901")
    assert runs.changed == []
    add(opened, "a", "900")
    assert runs.changed == [A]


def test_the_list_shows_it(opened: Session, capsys: pytest.CaptureFixture[str]) -> None:
    tenants.show(opened, as_json=True)
    assert {row["name"]: row["requests_per_minute"] for row in json.loads(capsys.readouterr().out)} == {
        "a": 900,
        "d": 30,
    }
    tenants.show(opened, as_json=False)
    head, *rows = capsys.readouterr().out.splitlines()
    at = head.index("REQ/MIN")
    assert [row[at:].split()[0] for row in rows] == ["900", "30"]
