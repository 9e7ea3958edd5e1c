"""The claims about crowds, retries and long calls can fail: each is shown what would be wrong."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

from tasks.checks.edge import breaker, longcalls, newroutes, retries
from tasks.checks.edge.answers import Answer
from tasks.components import mesh
from tasks.lib import routes
from tasks.lib.checks import Verdict
from tasks.lib.ground import Ground
from tests import boxes, programs

SERVED = Answer(status=200, after_s=17.0)
REFUSED = Answer(status=503, after_s=1.5, typed=True)


# a crowd


def crowd(**more: Any) -> breaker.Crowd:
    right: dict[str, Any] = {
        "answers": [SERVED] * breaker.TAKEN + [REFUSED] * breaker.BEYOND, "others": [0.1, 0.4],
        "held": breaker.ABREAST, "reached": breaker.TAKEN, "overflows": breaker.BEYOND, "afterwards": 200,
    }  # fmt: skip
    return breaker.Crowd(**{**right, **more})


def test_a_crowd_that_is_kept_off_passes_with_its_figures() -> None:
    found = breaker.judge(crowd())
    assert found.verdict is Verdict.PASSED
    assert found.measured == {
        "answered": 512, "refused": 40, "refused_within_s": 1.5, "others": 2, "slowest_other_s": 0.4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"answers": [SERVED] * 552, "reached": 552, "overflows": 0}, "552 calls were taken, 512 is right"),
        ({"answers": [REFUSED] * 552, "reached": 0, "overflows": 552}, "0 calls were taken"),
        (
            {"answers": [*crowd().answers[:-1], replace(REFUSED, status=0)], "overflows": 39},
            "answers were nothing",
        ),
        ({"answers": [*crowd().answers[:-1], replace(REFUSED, status=504)]}, "answers were 504, too"),
        (
            {"answers": [*crowd().answers[:-1], replace(REFUSED, after_s=17.1)]},
            "1 refusals came after the first answer, the last in 17.1 s",
        ),
        ({"answers": [*crowd().answers[:-1], replace(REFUSED, typed=False)]}, "1 refusals are no errors in JSON"),
        ({"answers": crowd().answers[:-1]}, "551 calls were made"),
        ({"overflows": 0}, "40 calls were refused, 0 by the edge's limits"),
        ({"held": 255}, "255 calls were at the model before the others were made, 256 is right"),
        ({"reached": 513}, "the model was asked 513 times, and 512 calls were answered"),
        ({"others": [0.1, -1.0]}, "1 of 2 calls to another model were not answered"),
        ({"others": []}, "0 of 0 calls to another model"),
        ({"afterwards": 503}, "a call afterwards: HTTP 503"),
    ],
)
def test_one_that_is_not_fails(wrong: dict[str, Any], why: str) -> None:
    found = breaker.judge(crowd(**wrong))
    assert found.verdict is Verdict.FAILED
    assert why in found.evidence


def test_two_calls_more_than_the_limit_are_the_proxys_threads() -> None:
    found = breaker.judge(
        crowd(answers=[SERVED] * (breaker.TAKEN + 2) + [REFUSED] * 38, reached=breaker.TAKEN + 2, overflows=38)
    )
    assert found.verdict is Verdict.PASSED


# retries


def tried(**more: Any) -> retries.Seen:
    right: dict[str, Any] = {"without": {200: 21, 503: 19}, "own": {200: retries.CALLS}, "broken": 502, "reached": 1}
    return retries.Seen(**{**right, **more})


def test_what_is_tried_again_passes_with_its_figures() -> None:
    found = retries.judge(tried())
    assert found.verdict is Verdict.PASSED
    assert found.measured == {"calls": 40, "answered": 40, "answered_without": 21, "broken_reached": 1}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"without": {200: 40}}, "with nothing tried again, 40 times HTTP 200"),
        ({"without": {503: 40}}, "with nothing tried again, 40 times HTTP 503"),
        ({"own": {200: 39, 503: 1}}, "by the mesh's own policy, 39 times HTTP 200, 1 times HTTP 503"),
        ({"own": {}}, "by the mesh's own policy"),
        ({"broken": 200}, "a call that the model broke off: HTTP 200"),
        ({"broken": 0}, "a call that the model broke off: HTTP nothing"),
        ({"reached": 3}, "reached it 3 times"),
        ({"reached": 0}, "reached it 0 times"),
    ],
)
def test_what_is_not_fails(wrong: dict[str, Any], why: str) -> None:
    found = retries.judge(tried(**wrong))
    assert found.verdict is Verdict.FAILED
    assert why in found.evidence


def test_the_second_address_is_the_only_difference_to_the_real_way() -> None:
    model = Ground().models[0]
    real = {
        "endpoints": [{"addresses": ["10.0.0.5"], "targetRef": {"kind": "Pod"}}],
        "ports": [{"name": "http2", "port": 8081, "protocol": "TCP"}],
    }
    made = retries.objects(model, "example.com", [real], "192.0.2.7")
    here, dead = (each for each in made if each["kind"] == "EndpointSlice")
    assert [each["addresses"] for each in (*here["endpoints"], *dead["endpoints"])] == [["10.0.0.5"], ["192.0.2.7"]]
    assert here["ports"] == real["ports"]
    assert [each["port"] for each in dead["ports"]] == [retries.DISCARD_PORT]
    (own, off) = (retries.way(model, again=again)["spec"]["http"][0] for again in (True, False))
    assert {**own, "retries": {"attempts": 0}} == off
    assert own["rewrite"] == {"authority": model.inside}
    assert routes.model_route(model, "example.com")["metadata"]["name"] == model.name


def test_the_mesh_tries_again_what_reached_nobody_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("tasks.lib.helm.template", lambda *_, values, **__: given.update(values) or [])
    mesh.istiod_objects(boxes.box())
    policy = given["meshConfig"]["defaultHttpRetryPolicy"]
    assert policy == {"attempts": 2, "retryOn": "connect-failure,refused-stream"}


# long calls


LONG = Answer(status=200, after_s=longcalls.HOLD_S)
TOO_LONG = Answer(status=504, typed=True, after_s=longcalls.GIVEN_UP_S + 0.2)


def waited(**more: Any) -> longcalls.Seen:
    right: dict[str, Any] = {"long": LONG, "too_long": TOO_LONG, "changed_after_s": 9.0}
    return longcalls.Seen(**{**right, **more})


def test_long_calls_that_are_waited_for_pass_with_their_figures() -> None:
    found = longcalls.judge(waited())
    assert found.verdict is Verdict.PASSED
    assert found.measured == {"long_s": 100.0, "changed_s": 9.0, "given_up_s": 150.2}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"long": replace(LONG, status=503, after_s=36.0)}, "a call of 100 s: HTTP 503 after 36.0 s"),
        ({"changed_after_s": 101.0}, "in force after 101 s, when the call was over"),
        ({"too_long": replace(TOO_LONG, after_s=61.0)}, "a call that takes too long: HTTP 504 after 61.0 s"),
        ({"too_long": replace(TOO_LONG, after_s=170.0)}, "a call that takes too long: HTTP 504 after 170.0 s"),
        ({"too_long": replace(TOO_LONG, status=503)}, "a call that takes too long: HTTP 503"),
        ({"too_long": replace(TOO_LONG, typed=False)}, "in JSON"),
    ],
)
def test_those_that_are_not_fail(wrong: dict[str, Any], why: str) -> None:
    found = longcalls.judge(waited(**wrong))
    assert found.verdict is Verdict.FAILED
    assert why in found.evidence


def test_proxies_drain_for_longer_than_any_call_takes() -> None:
    assert routes.DRAIN_S > longcalls.GIVEN_UP_S > longcalls.HOLD_S > 60


# new routes


NOT_YET = Answer(status=503, typed=True, body='{"error":"not ready yet"}')
UNKNOWN = Answer(status=401, typed=True, body='{"error":"Jwt is missing"}')


def new(**more: Any) -> newroutes.Seen:
    right: dict[str, Any] = {"strangers": {NOT_YET, UNKNOWN}, "telling": [NOT_YET, NOT_YET]}
    return newroutes.Seen(**{**right, **more})


def test_a_new_route_that_names_nobody_passes() -> None:
    assert newroutes.judge(new()).verdict is Verdict.PASSED
    assert newroutes.judge(new(strangers={UNKNOWN})).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"strangers": {replace(NOT_YET, body="httproute/tenant-a/" * 9)}}, "a stranger: HTTP 503"),
        ({"strangers": {replace(UNKNOWN, typed=False)}}, "a stranger: HTTP 401"),
        ({"strangers": {replace(UNKNOWN, status=200)}}, "a stranger: HTTP 200"),
        ({"strangers": set()}, "not everything was asked"),
        ({"telling": [NOT_YET]}, "not everything was asked"),
        ({"telling": [NOT_YET, UNKNOWN]}, "an answer that names routes: HTTP 401"),
        ({"telling": [NOT_YET, replace(NOT_YET, typed=False)]}, "an answer that names routes: HTTP 503"),
        ({"telling": [NOT_YET, replace(NOT_YET, body="a" * 101)]}, "an answer that names routes: HTTP 503"),
    ],
)
def test_one_that_names_somebody_fails(wrong: dict[str, Any], why: str) -> None:
    found = newroutes.judge(new(**wrong))
    assert found.verdict is Verdict.FAILED
    assert why in found.evidence


def test_answers_that_name_routes_are_short_and_long_and_fit_into_a_filter() -> None:
    made = newroutes.objects(Ground().models[0], "example.com")
    few, many = (
        len(each["spec"]["directResponse"]["body"]["inline"]) for each in made if each["kind"] == "HTTPRouteFilter"
    )
    assert few < 1024 < many < 4096  # the edge's Lua reads the short ones; Envoy Gateway takes no longer ones


# the model that says what reached it


@pytest.fixture(name="echo", scope="module")
def _echo() -> Iterator[str]:
    module = programs.load(boxes.ROOT / "manifests/verify/echo.py")
    server = module.Server(("127.0.0.1", 0), module.Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_an_echo_takes_its_time_when_it_is_told_to(echo: str) -> None:
    found = requests.post(f"{echo}/x?hold=0.2", json={}, timeout=5)
    assert found.json()["echo"]["path"] == "/x?hold=0.2"
    assert found.elapsed.total_seconds() >= 0.2


def test_an_echo_closes_without_an_answer_when_it_is_told_to(echo: str) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{echo}/x?drop", json={}, timeout=5)
    assert requests.post(f"{echo}/x", json={}, timeout=5).ok
