"""The table of claims: every id is documented, every need is known, and the command around it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast
from xml.etree import ElementTree as ET

import pytest

from tasks import checks as tables, components
from tasks.lib import checkreport, checkrun, converge, lease, runlock, verifying
from tasks.lib.checks import Check, Result, Scene, failed, passed, skipped
from tasks.lib.errors import BadInput, ClusterGone
from tasks.lib.modelling import Model
from tasks.lib.session import STAGES_BUILT, Session
from tasks.lib.tenancy import Tenant
from tests import boxes
from tests.fakes import FakeKube

QUOTA = dict.fromkeys(("requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "pods", "models"), "1")


def session(tenants: Sequence[str] = ("a", "b"), models: Sequence[str] = ("iris", "other"), **box: Any) -> Session:
    """Return a session with these tenants and models of tenant a."""
    found = [Tenant(name=name, quota=QUOTA) for name in tenants]
    served = [
        Model(name=name, tenant="a", format="sklearn", trainer="x", instances=[[1]], predictions=[1]) for name in models
    ]
    made = SimpleNamespace(
        box=boxes.box(**box), tenants=found, models=served, graph=components.platform(found, served)
    )  # fmt: skip
    return cast("Session", made)


def headings() -> list[str]:
    text = (boxes.ROOT / checkreport.DOCS).read_text(encoding="utf-8")
    return re.findall(r"^## (.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("given", [session(), session(("a",)), session((), ()), session(("a", "b"), ())])
def test_every_check_is_documented_and_nothing_else_is(given: Session) -> None:
    ids = list(dict.fromkeys(each.id for each in tables.table(given, mutate=True)))
    stages = {each for each in STAGES_BUILT if given.tenants or each != "tenants"}
    missing = {f"{stage}.ready" for stage in STAGES_BUILT} - {f"{stage}.ready" for stage in stages}
    missing |= set() if given.models else {"models.ready"}
    assert sorted(ids) == sorted(set(headings()) - missing)


def test_headings_are_in_the_order_of_the_table() -> None:
    ids = list(dict.fromkeys(each.id for each in tables.table(session(), mutate=True)))
    assert headings() == ids


def test_names_are_unique_and_needs_are_known() -> None:
    given = session()
    table = tables.table(given, mutate=True)
    ids = {each.id for each in table}
    assert len({each.name for each in table}) == len(table)
    for each in table:
        assert all(need in given.graph or need in given.graph.stages or need in ids for need in each.needs), each
        assert all(other in ids for other in each.after), each
        assert all(name in given.graph for name in each.looks), each
        assert each.timeout_s > 0
        assert each.claim == each.claim.strip()


def test_what_a_check_waits_for_fits_its_time_limit() -> None:
    from tasks.checks import echoes, models, network
    from tasks.checks.edge import breaker, longcalls, newroutes, retries
    from tasks.checks.trust import adversarial, crowd, limits
    from tasks.lib import ground, limiter, predict, probepods

    times = {each.id: each.timeout_s for each in tables.table(session())}
    assert times[models.ANSWERS] >= 2 * predict.COLD_S
    assert times[models.ZERO] >= predict.COLD_S + models.ZERO_S + predict.COLD_S
    assert times[network.ENFORCED] >= probepods.START_S + 3 * network.SPREAD_S
    assert times[network.APART] >= predict.COLD_S + probepods.START_S + 7 * network.SPREAD_S
    assert times[network.APART] <= probepods.LIFE_S
    scratch_s = ground.READY_S + probepods.START_S
    once_s = limits.WINDOW_S + limits.WINDOW_S
    assert times[limits.ID] >= scratch_s + limits.APPLIED_S + limits.ROUNDS * limits.WINDOW_S + once_s
    assert limits.APPLIED_S + limits.ROUNDS * limits.WINDOW_S + once_s <= limiter.LIFE_S
    held_s = crowd.BODY_S + crowd.SLACK_S + adversarial.CALM_S
    assert times[adversarial.ID] >= ground.READY_S + held_s + echoes.SETTLE_S
    crowd_s = breaker.HOLD_S + breaker.ANSWERED_S
    assert times[breaker.ID] >= ground.READY_S + crowd_s + echoes.SETTLE_S + breaker.SETTLE_S
    assert times[retries.ID] >= ground.READY_S + 2 * retries.APPLIED_S + echoes.SETTLE_S
    assert times[newroutes.ID] >= ground.READY_S + newroutes.MADE_S
    before_s = longcalls.BEGUN_S + longcalls.CHANGED_S
    assert times[longcalls.ID] >= ground.READY_S + before_s + longcalls.TOO_LONG_S


def test_the_claims_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    verifying.claims(session(), ["network.enforced", "versions"], mutate=False)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["network.enforced", "versions.locked"]
    with pytest.raises(BadInput):
        verifying.claims(session(), ["nothing"], mutate=False)


# the command


class NoLease:
    """The lease of a run, without a cluster."""

    lost = None

    def __init__(self, *_: object, **__: object) -> None:
        self.acquired = False

    def acquire(self, **_: object) -> None:
        self.acquired = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.acquired


@pytest.fixture(name="given")
def _given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session whose cluster has nothing, in a folder of its own."""
    monkeypatch.setattr(lease, "Lease", NoLease)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CI", "")
    provider = SimpleNamespace(
        exists=lambda: True, owned=True, name="kind", info=lambda: {"provider": "kind"}, gateway_url=lambda **_: ""
    )  # fmt: skip
    return session(kube=FakeKube(), root=tmp_path, provider=provider)


def table(*given: Check) -> Any:
    return lambda *_, **__: list(given)


GOOD = Check(id="a.good", claim="good", stage="a", probe=lambda _: passed("yes", measured={"some_s": 1.5}))
BAD = Check(id="a.bad", claim="bad", stage="a", probe=lambda _: failed("no", "seen"))
CANNOT = Check(id="b.cannot", claim="cannot", stage="b", probe=lambda _: skipped("why"))
WRONG = Check(id="b.wrong", claim="wrong", stage="b", probe=lambda _: passed(str(1 // 0)))


def test_a_false_claim_makes_the_command_fail_and_a_skip_does_not(
    given: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "table", table(GOOD, CANNOT))
    assert verifying.verify(given, verifying.Wanted()) is True
    assert capsys.readouterr().out.endswith("1 of 2 checks passed, 1 skipped\n")
    monkeypatch.setattr(tables, "table", table(CANNOT))
    assert verifying.verify(given, verifying.Wanted()) is True
    monkeypatch.setattr(tables, "table", table(GOOD, BAD, CANNOT, WRONG))
    assert verifying.verify(given, verifying.Wanted()) is False
    out, err = capsys.readouterr()
    assert out.endswith("2 of 4 checks failed, 1 skipped\n")
    assert "unexpected ZeroDivisionError" in out
    assert "Traceback" not in out + err


def test_json_is_all_that_is_on_standard_output_and_junit_is_a_file(
    given: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(tables, "table", table(GOOD, BAD))
    path = tmp_path / "reports/verify.xml"
    verifying.verify(given, verifying.Wanted(as_json=True, junit=str(path)))
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert [each["verdict"] for each in told["checks"]] == ["passed", "failed"]
    assert told["checks"][0]["measured"] == {"some_s": 1.5}
    assert told["cluster"] == {"provider": "kind"}
    assert ET.parse(path).getroot().attrib["failures"] == "1"  # noqa: S314 (our own text)
    last = err.rpartition("\n\n")[2]
    assert last.startswith("a\n  ✗ bad ")
    assert last.endswith("\n      no\n      seen\n      docs/reference/checks.md#abad\n1 of 2 checks failed\n")
    verifying.verify(given, verifying.Wanted(only=["a.good"], as_json=True))
    assert "\n\n" not in capsys.readouterr().err


def test_what_stands_in_the_way_is_found_before_anything_is_done(
    given: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []
    monkeypatch.setattr(tables, "table", table(GOOD))
    monkeypatch.setattr(checkrun, "run", lambda *_, **__: made.append("run"))
    with pytest.raises(BadInput, match="unknown checks: x"):
        verifying.verify(given, verifying.Wanted(only=["x"]))
    with pytest.raises(BadInput, match="--junit"):
        verifying.verify(given, verifying.Wanted(junit=str(tmp_path)))
    none = session(root=tmp_path, provider=SimpleNamespace(exists=lambda: False, name="kind"))
    with pytest.raises(ClusterGone, match="there is no cluster to verify") as caught:
        verifying.verify(none, verifying.Wanted())
    assert "invoke up" in caught.value.hint
    assert made == []


def test_it_takes_its_turn(given: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    turn = converge.turn

    def watched(session: Session, command: str, *, wait: bool) -> Any:
        turns.append(f"{command} {wait}")
        return turn(session, command, wait=wait)

    held: list[int] = []

    def probe(_: Scene) -> Result:
        held.append(len(runlock._held))
        return passed()

    look = Check(id="a.look", claim="held", stage="a", probe=probe)
    monkeypatch.setattr(converge, "turn", watched)
    monkeypatch.setattr(tables, "table", table(look))
    verifying.verify(given, verifying.Wanted(), wait=False)
    assert turns == ["invoke verify False"]
    assert held == [1]
