"""The claim about adversarial input can fail: it is shown each wrong answer, and each thing that reached a model."""

import json
import resource
import socket
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tasks.checks import echoes
from tasks.checks.echoes import Ears, Line
from tasks.checks.trust import adversarial, crowd, forge as forging, frames, malice
from tasks.checks.trust.adversarial import Seen
from tasks.checks.trust.crowd import Crowd, Ended
from tasks.checks.trust.forge import INNER, Case, Target, Want
from tasks.lib import quantity, rawhttp, routes
from tasks.lib.checks import Verdict
from tasks.lib.errors import NotReady
from tasks.lib.ground import Ground
from tasks.lib.rawhttp import Heard, Response
from tests import boxes
from tests.fakes import FakeKube

TARGET = Target(host="one.example", path="/v1/models/echo:predict", token="t.t.t", other="two.example")  # noqa: S106 (nobody's)
CASES = malice.cases(TARGET, "run-1")
JSON = {"content-type": "application/json"}
BAD = Response(status=400, headers=JSON, body=b'{"error":"bad request"}')
OK = Response(status=200, headers=JSON, body=b"{}")


def case(want: Want = Want.REFUSED, *, statuses: tuple[int, ...] = (), never: tuple[str, ...] = ()) -> Case:
    return Case(family="f", name="n", mark="m", sent=b"", want=want, statuses=statuses, never=never)


def heard(*responses: Response, **more: Any) -> Heard:
    return Heard(responses=responses, **more)


def line(cell: str = "m", path: str = TARGET.path, **headers: str) -> Line:
    return {"cell": cell, "path": path, "headers": headers}


@pytest.mark.parametrize(
    ("given", "came", "lines"),
    [
        (case(), heard(BAD), []),
        (case(), heard(ended="closed"), []),
        (case(), heard(ended="reset"), []),
        (case(statuses=(400, 501)), heard(replace(BAD, status=501)), []),
        (case(statuses=(413,)), heard(replace(BAD, status=413), ended="reset"), []),
        (case(Want.SERVED), heard(OK), [line()]),
        (case(Want.EITHER), heard(OK), [line(path=f"{TARGET.path}?x=1")]),
        (case(Want.EITHER, never=("x-tenant",)), heard(OK), [line(host="one")]),
        (case(Want.EITHER), heard(BAD), []),
        (case(Want.TWICE), heard(OK, OK), [line(), line()]),
        (case(), heard(BAD), [line("another")]),
        (case(Want.CLOSED), heard(rest=b"frames", ended="closed"), []),
        (case(Want.CLOSED), heard(ended="reset"), []),
    ],
)
def test_what_is_right_passes(given: Case, came: Heard, lines: Sequence[Line]) -> None:
    assert adversarial.misdone(given, came, lines) == ""


@pytest.mark.parametrize(
    ("given", "came", "lines", "why"),
    [
        (case(), heard(OK), [line()], "an error of the edge is right"),
        (case(), heard(replace(BAD, status=500)), [], "an error of the edge is right"),
        (case(), heard(replace(BAD, status=503)), [], "an error of the edge is right"),
        (case(), heard(replace(BAD, status=501)), [], "an error of the edge is right"),
        (case(Want.CLOSED), heard(rest=b"frames"), [], "a closed connection is right"),
        (case(Want.CLOSED), heard(BAD, ended="closed"), [], "1 times a closed connection is right"),
        (case(Want.CLOSED), heard(ended="closed"), [line()], "1 requests reached a model, and 0"),
        (case(statuses=(413,)), heard(BAD), [], "is right, (413,)"),
        (case(statuses=(413,)), heard(ended="closed"), [], "is right, (413,)"),
        (case(), heard(replace(BAD, headers={"content-type": "text/plain"})), [], "an error of the edge is right"),
        (case(), heard(replace(BAD, body=b"bad request")), [], "an error of the edge is right"),
        (case(), heard(replace(BAD, body=b'{"error":""}')), [], "an error of the edge is right"),
        (case(), heard(ended="silent"), [], "1 times an error of the edge is right"),
        (case(), heard(ended="refused: no"), [], "1 times an error of the edge is right"),
        (case(), heard(rest=b"<html>", ended="closed"), [], "an error of the edge is right"),
        (case(), heard(BAD, OK), [], "1 times an error of the edge is right"),
        (case(), heard(BAD, rest=b"x"), [], "1 times an error of the edge is right"),
        (case(), heard(BAD), [line()], "1 requests reached a model, and 0 were answered"),
        (case(), heard(BAD), [line(f"m{INNER}")], "what was smuggled reached a model"),
        (case(Want.EITHER), heard(OK), [line(), line(f"m{INNER}")], "what was smuggled reached a model"),
        (case(Want.SERVED), heard(OK), [], "0 requests reached a model, and 1 were answered"),
        (case(Want.SERVED), heard(OK), [line(), line()], "2 requests reached a model"),
        (case(Want.SERVED), heard(BAD), [], "the model's answer, once is right"),
        (case(Want.TWICE), heard(OK), [line()], "2 times the model's answer, twice is right"),
        (case(Want.EITHER), heard(OK), [line(path="/metrics")], "a model was asked for /metrics"),
        (case(Want.EITHER, never=("x-tenant",)), heard(OK), [line(**{"x-tenant": "b"})], "a model was sent x-tenant"),
    ],
)
def test_what_is_wrong_fails(given: Case, came: Heard, lines: Sequence[Line], why: str) -> None:
    assert why in adversarial.misdone(given, came, lines)


def a_crowd(**more: Any) -> Crowd:
    right: dict[str, Any] = {
        "heads": [Ended(status=408, typed=True, after_s=10.1)], "bodies": [Ended(status=408, typed=True, after_s=30.1)],
        "opened": 2000, "wanted": 2000, "answers": {401: 400}, "calls": [0.02, 0.3],
    }  # fmt: skip
    return Crowd(**{**right, **more})


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"heads": [Ended()]}, "slow head: Ended(status=0"),
        ({"heads": [Ended(status=408, typed=True, after_s=31)]}, "slow head: Ended(status=408"),
        ({"heads": [Ended(status=408, after_s=10)]}, "slow head: Ended(status=408, typed=False"),
        ({"bodies": [Ended(status=503, typed=True, after_s=30)]}, "slow body: Ended(status=503"),
        ({"bodies": []}, "there were no slow clients"),
        ({"opened": 1999}, "1999 of 2000 connections"),
        ({"opened": 0, "wanted": 0}, "0 of 0 connections"),
        ({"answers": {401: 399, 0: 1}}, "{401: 399, 0: 1} by status"),
        ({"answers": {}}, "{} by status"),
        ({"untyped": 3}, "3 not typed"),
        ({"calls": [0.1, -1.0]}, "1 of 2 right calls were not answered"),
        ({"calls": []}, "0 of 0 right calls"),
    ],
)
def test_a_crowd_that_disturbs_fails(wrong: dict[str, Any], why: str) -> None:
    assert crowd.wrong(a_crowd()) == []
    (found,) = crowd.wrong(a_crowd(**wrong))
    assert why in found


def seen(**more: Any) -> Seen:
    pods = {"tenant-x/echo": ("uid", 0)}
    right: dict[str, Any] = {
        "heard": [(case(), heard(BAD))], "lines": [], "crowd": a_crowd(), "before": pods, "after": pods,
        "last": [200, 200],
    }  # fmt: skip
    return Seen(**{**right, **more})


def test_everything_right_is_told_by_family() -> None:
    found = adversarial.judge(seen())
    assert found.verdict is Verdict.PASSED
    assert found.says.startswith(
        "f 1, half of each over TLS; 1 slow heads and 1 slow bodies ended, 2000 connections held; meanwhile 2 right"
    )
    assert found.measured["slowest_call_s"] == 0.3
    assert found.measured["cases"] == 1


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"heard": [(case(), heard(OK))]}, "f, n: HTTP 200"),
        ({"crowd": a_crowd(calls=[])}, "right calls were not answered"),
        ({"after": {"tenant-x/echo": ("uid", 1)}}, "('uid', 0) before, ('uid', 1) after"),
        ({"after": {"tenant-x/echo": ("another", 0)}}, "('another', 0) after"),
        ({"after": {}}, "None after"),
        ({"last": [200, 503]}, "right calls afterwards: HTTP [200, 503]"),
        ({"last": []}, "right calls afterwards"),
    ],
)
def test_one_wrong_thing_fails(wrong: dict[str, Any], why: str) -> None:
    found = adversarial.judge(seen(**wrong))
    assert found.verdict is Verdict.FAILED
    assert why in found.evidence


def test_what_models_heard_is_all_there_when_each_has_logged_its_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(echoes, "Recording", lambda *_: SimpleNamespace(lines=lambda: logged))
    monkeypatch.setattr(echoes, "SETTLE_S", 0.0)
    ears = Ears(boxes.scene(FakeKube()), Ground().models[:1], "run-1")
    logged += [json.dumps({"cell": f"run-1-{each}", "path": "/", "headers": {}, "number": 1}) for each in "aba"]
    with pytest.raises(NotReady, match="the last call is not in the model's log"):
        ears.all()
    logged.append(json.dumps({"number": 2, "cell": "run-1-end", "path": "/", "headers": {}}))
    assert ears.reached("run-1-a") == 2
    assert ears.all()[0] == {"cell": "run-1-a", "path": "/", "headers": {}, "tenant": "verify-one"}


# the cases


def test_every_case_has_a_mark_of_its_own_and_the_models_see_it() -> None:
    assert len({each.mark for each in CASES}) == len(CASES) > 120
    assert len({(each.family, each.name) for each in CASES}) == len(CASES)
    unmarked = {each.name for each in CASES if each.mark.encode() not in each.sent}
    http2 = {"CONTINUATION first", "frame too long", "broken head", "SETTINGS flood", "PING flood"}
    assert unmarked == {"HTTP 0.9", "TLS", "binary", *http2}
    assert not any(b"~" in each.sent for each in CASES if each.name not in unmarked)


def test_what_says_how_long_it_is_says_so_truly() -> None:
    for each in CASES:
        if each.family in {"paths", "hosts", "rewrites", "bodies"}:
            head, _, body = each.sent.partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head, each.name
    (one,) = (each for each in CASES if each.name == "GET with a body")
    head, _, body = one.sent.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_what_is_smuggled_is_a_right_request_with_another_mark() -> None:
    forge = forging.Forge(target=TARGET, run="run-1")
    sent = forge.marked(forge.inner(), "a", "b")
    assert sent.startswith(b"POST /v1/models/echo:predict HTTP/1.1\r\nHost: one.example\r\n")
    assert f"User-Agent: {forge.mark('a', 'b')}{INNER}\r\n".encode() in sent
    assert sum(INNER.encode() in each.sent for each in CASES) > 25


def test_a_right_request_is_right_but_for_what_it_is_told() -> None:
    sent = forging.Forge(target=TARGET, run="r").whole(["x-a: b"], b"{}", host="", token="")
    lines = sent.split(b"\r\n")
    assert lines[0] == b"POST /v1/models/echo:predict HTTP/1.1"
    assert b"x-a: b" in lines
    assert not any(each.startswith((b"Host", b"Authorization")) for each in lines)
    assert lines[-1] == b"{}"


def test_the_limits_are_those_of_the_manifests() -> None:
    objects = list(yaml.safe_load_all((boxes.ROOT / "manifests/gateway/edge.yaml").read_text(encoding="utf-8")))
    (patches,) = (each["spec"]["configPatches"] for each in objects if each["kind"] == "EnvoyFilter")
    (client,) = (each["spec"] for each in objects if each["kind"] == "ClientTrafficPolicy")
    managers = [each["patch"]["value"]["typed_config"] for each in patches if each["patch"]["operation"] == "MERGE"
                and each["applyTo"] == "NETWORK_FILTER"]  # fmt: skip
    assert len(managers) == 2
    assert managers[0] == managers[1]
    assert managers[0]["max_request_headers_kb"] * 1024 == malice.MOST_HEAD
    assert managers[0]["request_headers_timeout"] == f"{crowd.HEAD_S:.0f}s"
    assert client["timeout"]["http"]["requestReceivedTimeout"] == f"{crowd.BODY_S:.0f}s"
    assert quantity.parse(routes.MOST_BODY, "") == malice.MOST_BODY
    (limit,) = {each["patch"]["value"]["typed_config"]["max_connections"] for each in patches
                if each["patch"]["operation"] == "INSERT_BEFORE"}  # fmt: skip
    assert limit > crowd.CONNECTIONS + 2 * crowd.SLOW


def test_a_pipelined_pair_is_answered_twice() -> None:
    assert [forging.expected(each) for each in CASES if each.name == "pipelined"] == [2]
    assert {forging.expected(each) for each in CASES} == {1, 2}


def test_frames_are_as_they_are_written_down() -> None:
    assert frames.frame(4) == b"\0\0\0\x04\0\0\0\0\0"
    assert frames.frame(1, 5, 3, b"ab") == b"\0\0\x02\x01\x05\0\0\0\x03ab"
    assert frames.text("ab") == b"\x02ab"
    assert frames.text("a" * 127)[:3] == b"\x7f\0a"
    assert frames.text("a" * 1337)[:4] == b"\x7f\xba\x09a"


# slow clients


def test_a_slow_client_drips_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "DRIP_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        slow = crowd.Slow(rawhttp.Address(host="127.0.0.1", port=server.getsockname()[1]), b"POST", 2)
        answered, left = server.accept()[0], server.accept()[0]
        slow.step()
        with answered, left:
            assert answered.recv(100).startswith(b"POST")
            body = b'{"error":"late"}'
            answered.sendall(b"HTTP/1.1 408 x\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n" + body)
            while not slow.ended:
                slow.step()
            slow.close()
    first, last = slow.ended
    assert (first.status, first.typed, first.after_s > 0) == (408, True, True)
    assert last == Ended()


def test_many_ask_at_once_and_each_answer_counts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = rawhttp.Address(host="127.0.0.1", port=server.getsockname()[1])
        with crowd.opened(address, 3) as sockets:
            one, two, three = (server.accept()[0] for _ in sockets)
            one.sendall(b"HTTP/1.1 401 x\r\ncontent-length: 4\r\n\r\nplain"[:-1])
            two.sendall(b'HTTP/1.1 401 x\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{"error":"x"}')
            three.close()
            assert crowd.ask_all(sockets, b"GET", 5) == ({401: 2, 0: 1}, 1)
            one.close()
            two.close()
    assert all(each.fileno() == -1 for each in sockets)


def test_no_more_is_opened_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, wanted in ((100, 0), (1024, 768), (100_000, 2000), (resource.RLIM_INFINITY, 2000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert crowd.room() == wanted


def test_they_run_alone_and_after_those_that_keep_asking() -> None:
    from tasks.checks import trust

    for mutate in (False, True):
        found = trust.checks(Ground(), [], [], mutate=mutate)
        alone = [each for each in found if each.exclusive]
        assert [each.id for each in alone] == [*["trust.mutation"] * mutate, "trust.limits", "trust.adversarial"]
        asking = {each.id for each in found} - {"trust.limits", "trust.adversarial"}
        assert all(set(each.after) == asking for each in alone[-2:])


def test_who_keeps_asking_is_hushed_before_a_claim_that_wants_to_be_alone() -> None:
    from tasks.checks import trust
    from tasks.lib.checks import passed

    ground, left = Ground(), list[str]()
    ground.when_hushed(lambda: left.append("stand"))
    result = trust.hushed(ground, lambda _: passed(", ".join(left)))(boxes.scene())
    assert result.says == "stand"
