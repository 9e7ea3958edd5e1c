"""The matrix: what it asks, how it reads who decided, what it takes for wrong, and what mutants take away."""

import copy
import dataclasses
import json
from typing import Any

import pytest

from tasks.checks.trust import cells, layers, matrix, mutants, mutation, seats, tls, walls
from tasks.checks.trust.cells import ACTIVATOR, AT_EDGE, AT_MODEL, EDGE, LOCAL, POD, Cell, Seat, Target
from tasks.checks.trust.changes import judge_rotation, unlike
from tasks.checks.trust.layers import Layer, Line, Logs, Seen, layer_of
from tasks.checks.trust.mutants import Mutant
from tasks.checks.trust.mutation import Fate
from tasks.checks.trust.seats import Proxy, Readers, Verdict
from tasks.lib.checks import Result, Verdict as Came
from tasks.lib.ground import Ground
from tasks.lib.kube.api import Ref
from tasks.lib.probepods import Attempt, Way
from tasks.lib.tokenkinds import Kind
from tests import boxes
from tests.fakes import FakeKube

GROUND = Ground()
CALLERS = [each.name for each in GROUND.tenants]
DOMAIN, NOW = "example.com", 1_800_000_000.0
TARGETS = [
    Target(
        model=model, revision="echo-predictor-00001", label=model.tenant, callers=CALLERS, mint=GROUND.mint,
    ) for model in GROUND.models
]  # fmt: skip
ONE, TWO = CALLERS


def everything() -> list[Cell]:
    found: list[Cell] = []
    for target, other in zip(TARGETS, (TWO, ONE), strict=True):
        found += cells.product(target, DOMAIN, NOW)
        found += cells.edge_cells(target, other, DOMAIN, NOW)
        found += cells.inner_cells(target, other, DOMAIN, NOW)
    return [*found, *walls.cells(TARGETS)]


# what is asked


def test_there_are_enough_cells_and_each_has_a_name_of_its_own() -> None:
    found = everything()
    assert len(found) >= 150
    assert len({each.name for each in found}) == len(found)
    assert all(each.control in {other.name for other in found} for each in found if each.control)


def test_every_way_caller_and_kind_is_there() -> None:
    asked = {(each.path, each.pair, each.kind) for each in everything() if each.path}
    for path in (EDGE, LOCAL, ACTIVATOR, POD):
        for target in (ONE, TWO):
            for kind in Kind:
                callers = ["nobody"] if kind in {Kind.NONE, Kind.MALFORMED} else [ONE, TWO]
                assert {(path, f"{caller} → {target}", kind.value) for caller in callers} <= asked


@pytest.mark.parametrize(
    ("path", "kind", "own", "expected"),
    [
        (EDGE, Kind.NONE, False, (Layer.GATEWAY_JWT, AT_EDGE, 401)),
        (EDGE, Kind.WRONG_AUDIENCE, True, (Layer.GATEWAY_JWT, AT_EDGE, 403)),
        (EDGE, Kind.REVOKED, True, (Layer.GATEWAY_AUTHORIZATION, AT_EDGE, 403)),
        (EDGE, Kind.RIGHT, False, (Layer.GATEWAY_AUTHORIZATION, AT_EDGE, 403)),
        (EDGE, Kind.OTHER_MODEL, True, (Layer.MESH_RBAC, AT_MODEL, 403)),
        (POD, Kind.NONE, False, (Layer.MESH_RBAC, AT_MODEL, 403)),
        (POD, Kind.EXPIRED, True, (Layer.MESH_JWT, AT_MODEL, 401)),
        (ACTIVATOR, Kind.RIGHT, False, (Layer.MESH_RBAC, AT_MODEL, 403)),
        (LOCAL, Kind.RIGHT, True, (Layer.ANSWERED, "", 200)),
        (LOCAL, Kind.NEXT, True, (Layer.ANSWERED, "", 200)),
    ],
)
def test_who_has_to_decide(path: str, kind: Kind, own: bool, expected: tuple[Layer, str, int]) -> None:
    assert cells.expected(path, kind, own=own) == expected


def test_no_token_is_in_what_is_shown_of_a_cell() -> None:
    for cell in everything():
        assert "eyJ" not in repr(dataclasses.replace(cell, way=dataclasses.replace(cell.way, path="/")))


def test_every_layer_that_refuses_is_expected_somewhere() -> None:
    assert {each.layer for each in everything()} == set(Layer) - {Layer.UNKNOWN}


def test_pods_that_nobody_selects_are_not_closed_by_an_allowance() -> None:
    """Any policy that selects a pod closes it to all others: the one for the lonely pod would hide what is missing."""
    for policy in walls.allowances(TARGETS, "verify-outside"):
        selector = policy["spec"]["podSelector"]
        closed = policy["metadata"]["namespace"] == "envoy-gateway-system"
        assert closed or selector


# who decided


def attempt(**given: Any) -> Attempt:
    return Attempt(**{"round": 1, "way": "w", "connect": "connected", **given})


def line(proxy: str, code: int, details: str) -> Line:
    return Line(proxy=proxy, code=code, details=details)


VIA = line("the ingress", 403, "via_upstream")


@pytest.mark.parametrize(
    ("seen", "lines", "layer", "at"),
    [
        (attempt(connect="timed out"), [], Layer.NETWORK, ""),
        (attempt(connect="refused"), [], Layer.UNKNOWN, ""),
        (attempt(connect="no such name: x"), [], Layer.UNKNOWN, ""),
        (attempt(), [], Layer.CONNECTED, ""),
        (attempt(error="TimeoutError: timed out"), [], Layer.UNKNOWN, ""),
        (attempt(error="reset", tls=layers.NO_CERTIFICATE), [], Layer.MTLS, ""),
        (attempt(status=200, tls=layers.NO_CERTIFICATE), [], Layer.UNKNOWN, ""),
        (attempt(error="reset", tls="closed"), [], Layer.UNKNOWN, ""),
        (attempt(status=200, body="{}"), [], Layer.ANSWERED, ""),
        (attempt(status=403), [VIA, line(AT_EDGE, 403, "rbac_access_denied_matched_policy[x]")],
         Layer.GATEWAY_AUTHORIZATION, AT_EDGE),
        (attempt(status=401), [line(AT_EDGE, 401, "jwt_authn_access_denied{x}")], Layer.GATEWAY_JWT, AT_EDGE),
        (attempt(status=403), [VIA, line(AT_MODEL, 403, "rbac_access_denied_matched_policy[none]")],
         Layer.MESH_RBAC, AT_MODEL),
        (attempt(status=401), [line(AT_MODEL, 401, "jwt_authn_access_denied{x}")], Layer.MESH_JWT, AT_MODEL),
        (attempt(status=404), [line(AT_EDGE, 404, "direct_response")], Layer.ROUTE, AT_EDGE),
        (attempt(status=404), [line(AT_MODEL, 404, "via_upstream")], Layer.UNKNOWN, ""),
        (attempt(status=403), [VIA], Layer.UNKNOWN, ""),
        (attempt(status=503), [line(AT_MODEL, 503, "upstream_reset")], Layer.UNKNOWN, ""),
        (attempt(status=403), [], Layer.UNKNOWN, ""),
    ],
)  # fmt: skip
def test_the_layer_is_read_from_answer_and_logs(seen: Attempt, lines: list[Line], layer: Layer, at: str) -> None:
    found = layer_of(seen, lines, AT_EDGE)
    assert (found.layer, found.at) == (layer, at)
    assert found.blind is (seen.status == 403 and not lines)


def test_lines_of_both_proxies_are_read_and_told_apart_by_round() -> None:
    logs = Logs()
    for number in (1, 2, 30):
        agent = f"{layers.agent('edge/a-b/none')}/{number}"
        logs.take("edge", json.dumps({"user-agent": agent, "response_code": 401, "response_code_details": "jwt"}))
    logs.take(
        "model",
        json.dumps({"user_agent": f"{layers.agent('x')}/7", "response_code": 403, "response_code_details": "r"}),
    )
    logs.take("model", "not json invoke-verify/")
    logs.take("model", '{"user_agent": "invoke-verify/x/8", "cut')
    assert logs.of("edge/a-b/none", 30) == [Line(proxy="edge", code=401, details="jwt")]
    assert logs.of("edge/a-b/none", 1) == []  # long past
    assert [each.proxy for each in logs.of("x", 7)] == ["model"]


# what is wrong


def cell(**given: Any) -> Cell:
    way = Way(name="c", host="h", port=80, headers={"x-user": "forged"})
    return Cell(**{"name": "c", "seat": Seat.OUTSIDE, "way": way, "layer": Layer.ANSWERED, "status": 200, **given})


ANSWER = {"echo": {"path": "/p", "authorized": True}}


def echoed(**headers: str) -> Attempt:
    return attempt(status=200, body=json.dumps({"echo": {"path": "/p", "authorized": True, "headers": headers}}))


@pytest.mark.parametrize(
    ("asked", "came", "said"),
    [
        (cell(answer=ANSWER), echoed(), ""),
        (cell(answer=ANSWER), attempt(status=200, body='{"predictions": []}'), "answered"),
        (cell(answer=ANSWER), attempt(status=200, body="<html>"), "not JSON"),
        (cell(absent=["x-user"], answer=ANSWER), echoed(), ""),
        (cell(absent=["x-user"], answer=ANSWER), echoed(**{"x-user": "forged"}), "the model got x-user"),
        (cell(absent=["x-user"], answer=ANSWER), echoed(**{"x-tenant": "a"}), "the limiter's alone"),
        (cell(limited=True), echoed(), "no limit was counted"),
        (cell(layer=Layer.NETWORK, status=0, control="d"), attempt(connect="timed out"), "so it is for the control"),
        (cell(layer=Layer.NETWORK, status=0), attempt(connect="refused"), "refused"),
        (cell(layer=Layer.MESH_RBAC, status=403), attempt(status=403), "nothing that can be named"),
    ],
)
def test_what_is_wrong_with_a_cell(asked: Cell, came: Attempt, said: str) -> None:
    found = seats.wrong(asked, came, layer_of(came, [], AT_EDGE), None)
    assert (said in found) if said else not found


def test_a_control_that_connects_makes_a_time_out_a_closed_way() -> None:
    closed, came = cell(layer=Layer.NETWORK, status=0, control="d"), attempt(connect="timed out")
    assert seats.wrong(closed, came, layer_of(came, [], AT_EDGE), attempt()) == ""


def test_the_log_of_a_pod_that_comes_later_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[str] = []
    monkeypatch.setattr(seats, "Follower", lambda _, pod, container, __: followed.append(f"{pod.name} {container}"))
    there = [Proxy(what=AT_MODEL, pod=Ref("v1", "Pod", "tenant-a", "one"))]
    readers = Readers(FakeKube(), Logs(), lambda: there)
    readers.refresh()
    there.append(Proxy(what=AT_MODEL, pod=Ref("v1", "Pod", "tenant-a", "two")))
    readers.refresh()
    readers.refresh()
    assert followed == ["one istio-proxy", "two istio-proxy"]


def test_a_cell_that_was_not_asked_is_wrong() -> None:
    (verdict,) = seats.verdicts([cell()], {}, Logs())
    assert verdict.wrong == "not asked"


# verdicts


def verdict(name: str, wrong: str = "", layer: Layer = Layer.ANSWERED) -> Verdict:
    made = cell(name=name, path=EDGE, pair="a → b", kind=Kind.RIGHT.value)
    return Verdict(cell=made, seen=Seen(layer=layer, status=200), wrong=wrong)


def test_one_wrong_cell_makes_the_matrix_false_and_is_shown() -> None:
    good = matrix.judge([verdict("x"), verdict("y")], "")
    assert (good.verdict, good.says, len(good.parts)) == (Came.PASSED, "2 cells, 0 wrong", 2)
    bad = matrix.judge([verdict("x"), verdict("y", "200 instead of 403")], "y: 200 instead of 403")
    assert bad.verdict is Came.FAILED
    assert "✗ y: 200 instead of 403" in bad.evidence
    assert [part.wrong for part in bad.parts] == ["", "200 instead of 403"]
    flaky = matrix.judge([verdict("x")], "x: wrong in the round before")
    assert flaky.verdict is Came.FAILED


def test_a_call_that_was_not_made_for_want_of_a_name_is_told_from_one_that_failed() -> None:
    nameless, late = attempt(connect="no such name: Temporary failure in name resolution"), attempt(connect="timed out")
    calls = [(cell(path=path, kind="right"), attempt(status=200)) for path in cells.PATHS]
    found = judge_rotation([*calls, (cell(path=EDGE), nameless)], 10)
    assert found.verdict is Came.PASSED
    assert found.measured == {"calls": 4, "failed": 0, "nameless": 1, "seconds": 10}
    assert judge_rotation([*calls, (cell(path=EDGE), late)], 10).says.endswith("1 of 5 failed")
    assert "no call by edge" in judge_rotation([*calls[1:], (cell(path=EDGE), nameless)], 10).says


def test_a_single_call_that_fails_is_noticed() -> None:
    calls = [(cell(path=path, kind="right"), attempt(status=200)) for path in cells.PATHS]
    assert judge_rotation(calls, 10).verdict is Came.PASSED
    assert judge_rotation([*calls, (cell(path=EDGE), attempt(status=503))], 10).says.endswith("1 of 5 failed")
    assert "no call by pod" in judge_rotation(calls[:-1], 10).says


def test_what_was_not_asked_is_neither_accepted_nor_refused() -> None:
    own = cell(path=EDGE, kind=Kind.REVOKED, pair="a → a")
    foreign = cell(path=EDGE, kind=Kind.REVOKED, pair="b → a")
    assert "not asked" in unlike([], EDGE, Kind.REVOKED, (200,))
    assert "not asked" in unlike([(foreign, attempt(status=200))], EDGE, Kind.REVOKED, (200,))
    assert "not asked" in unlike([(own, attempt(status=200))], POD, Kind.REVOKED, (200,))
    assert unlike([(own, attempt(status=200))], EDGE, Kind.REVOKED, (200,)) == ""
    assert "HTTP 200" in unlike(
        [(own, attempt(status=200)), (foreign, attempt(status=403))], EDGE, Kind.REVOKED, (401, 403)
    )
    assert "timed out" in unlike([(own, attempt(connect="timed out"))], EDGE, Kind.REVOKED, (401, 403))


# mutants


def planned() -> list[Mutant]:
    box = boxes.box()
    ground = Ground()
    ground.admission = ground.after
    first, last = (ground.objects(tenant, box) for tenant in ground.tenants)
    last += ground.model_objects(ground.models[-1], box)
    return [*mutants.of_tenants(first, last, ground.before), *mutants.widened("tenant-verify-two", "verify-outside")]


def test_each_mutant_changes_something_and_has_a_name_of_its_own() -> None:
    found = planned()
    assert len({each.name for each in found}) == len(found) > 40
    for each in found:
        assert each.before != each.after, each.name
        assert not each.borrowed


def test_every_policy_of_a_tenant_is_taken_away() -> None:
    kinds = {"NetworkPolicy", "AuthorizationPolicy", "RequestAuthentication", "SecurityPolicy", "BackendTrafficPolicy"}
    gone = {
        (each.before["kind"], each.before["metadata"]["name"])
        for each in planned() if each.before and each.after is None
    }  # fmt: skip
    ground = Ground()
    ground.admission = ground.after
    box = boxes.box()
    objects = [*ground.objects(ground.tenants[0], box), *ground.model_objects(ground.models[0], box)]
    assert {(each["kind"], each["metadata"]["name"]) for each in objects if each["kind"] in kinds} <= gone


def test_what_is_the_platforms_is_borrowed() -> None:
    spec = {"headers": {"earlyRequestHeaders": {"remove": ["x"]}, "other": 1}}
    objects = [
        {"kind": "PeerAuthentication", "metadata": {"name": "default"}},
        {"kind": "SecurityPolicy", "metadata": {"name": "edge"}},
        {"kind": "ClientTrafficPolicy", "metadata": {"name": "edge"}, "spec": spec},
    ]
    before = copy.deepcopy(objects)
    found = list(mutants.of_platform(objects))
    assert all(each.borrowed for each in found)
    assert objects == before
    assert found[-1].after
    assert found[-1].after["spec"] == {"headers": {"other": 1}}


def test_a_survivor_fails_the_run() -> None:
    killed = Fate(
        mutant=Mutant(name="x", before=None, after=None), by="edge/none: 200 instead of 401", cells=3, seconds=4
    )
    survivor = dataclasses.replace(killed, mutant=Mutant(name="y", before=None, after=None), by="")
    good: Result = mutation.judge([killed, killed])
    assert (good.verdict, good.measured["score"]) == (Came.PASSED, 100.0)
    bad = mutation.judge([killed, survivor])
    assert bad.verdict is Came.FAILED
    assert "kill score 50 %: 1 of 2" in bad.says
    assert "✗ y: SURVIVED" in bad.evidence


# TLS


@pytest.mark.parametrize(
    ("own", "none", "stranger", "said"),
    [
        ((200, '{"predictions": [1]}'), (401, ""), (0, "CERTIFICATE_VERIFY_FAILED"), "verified against"),
        ((200, '{"predictions": [2]}'), (401, ""), (0, "CERTIFICATE_VERIFY_FAILED"), "no right answer over TLS: 200"),
        ((200, "<html>"), (401, ""), (0, "CERTIFICATE_VERIFY_FAILED"), "no right answer"),
        ((0, "refused"), (401, ""), (0, "CERTIFICATE_VERIFY_FAILED"), "no connection"),
        ((200, '{"predictions": [1]}'), (200, ""), (0, "CERTIFICATE_VERIFY_FAILED"), "200 instead of 401"),
        ((200, '{"predictions": [1]}'), (401, ""), (401, ""), "trusts nobody"),
        ((200, '{"predictions": [1]}'), (401, ""), (0, "refused"), "trusts nobody"),
    ],
)
def test_tls_at_the_edge(own: tuple[int, str], none: tuple[int, str], stranger: tuple[int, str], said: str) -> None:
    model = dataclasses.replace(GROUND.models[0], predictions=[1])
    found = tls.judge(model, own, none, stranger)
    assert said in found.says
    assert (found.verdict is Came.PASSED) is (said == "verified against")
