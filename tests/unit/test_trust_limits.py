"""The claim about limits can fail: each way in which a limit could not count is shown to its judgement."""

import io
import json
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tasks.checks.trust import limits
from tasks.checks.trust.limits import BEYOND, LIMIT, Answer, Window
from tasks.lib import limiter
from tasks.lib.checks import Scene, Verdict
from tasks.lib.ground import Ground
from tasks.lib.kube.api import Ref
from tasks.lib.limiter import Reading
from tasks.lib.modelling import Model
from tasks.lib.tokenkinds import Kind
from tests import boxes, programs

RESET = 57


def good(number: int) -> Answer:
    """Return the right answer to a request of a window, counted from 1."""
    if number <= LIMIT:
        return Answer(status=200, limit=LIMIT, left=LIMIT - number, resets_in=RESET)
    return Answer(status=429, limit=LIMIT, left=0, resets_in=RESET, retry_after=str(RESET))


def window(**more: Any) -> Window:
    mine = [good(number) for number in range(1, LIMIT + BEYOND + 1)]
    right: dict[str, Any] = {
        "mine": mine,
        "other": [Answer(status=200, limit=600)] * len(mine),
        "refused": {"none": [Answer(status=401)] * 12, "expired": [Answer(status=401)] * 11},
        "counted": {"one": len(mine), "two": len(mine)},
        "let_in_s": RESET - 0.4,
    }
    return Window(**{**right, **more})


def changed(index: int, **what: Any) -> list[Answer]:
    mine = list(window().mine)
    mine[index] = replace(mine[index], **what)
    return mine


def test_a_limit_that_counts_passes_with_its_figures() -> None:
    found = limits.judge(window())
    assert found.verdict is Verdict.PASSED
    assert found.says.startswith(f"{LIMIT} of {LIMIT + BEYOND} passed, then 429, as counted in Redis")
    assert found.measured == {
        "passed": 20, "limited": 3, "counted": 23, "not_counted": 23, "retry_after_s": RESET, "let_in_s": 56.6,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"mine": changed(LIMIT, status=200)}, "request 21 of 23: HTTP 200"),
        ({"mine": changed(LIMIT - 1, status=429)}, "request 20 of 23: HTTP 429"),
        ({"mine": changed(3, left=12)}, "request 4 of 23: HTTP 200, 12 of 20 left"),
        ({"mine": changed(LIMIT, retry_after="")}, "Retry-After is not the seconds"),
        ({"mine": changed(LIMIT, retry_after="1")}, "Retry-After is not the seconds"),
        ({"mine": changed(LIMIT, retry_after="soon")}, "Retry-After is not the seconds"),
        ({"mine": changed(LIMIT, retry_after="61", resets_in=61)}, "Retry-After is not the seconds"),
        ({"mine": changed(0, retry_after="5")}, "it was not refused, and says Retry-After"),
        ({"mine": changed(0, status=0)}, "request 1 of 23: HTTP nothing"),
        ({"other": [Answer(status=429)] * 23}, "the other tenant: HTTP 429"),
        ({"refused": {"none": [Answer(status=429)]}}, "token none: HTTP 429"),
        ({"refused": {"none": [Answer(status=200)]}}, "token none: HTTP 200"),
        ({"counted": {"one": 46, "two": 23}}, "the limiter counted one 46, two 23"),
        ({"counted": {"one": 23, "two": 0}}, "the limiter counted one 23, two 0"),
        ({"counted": {}}, "the limiter counted nothing"),
        ({"let_in_s": 0.0}, "not let in again, and Retry-After was 57"),
        ({"let_in_s": RESET - 2.0}, "let in again after 55.0 s"),
    ],
)
def test_one_that_does_not_count_right_fails(wrong: dict[str, Any], why: str) -> None:
    found = limits.judge(window(**wrong))
    assert found.verdict is Verdict.FAILED
    assert why in found.evidence


@dataclass(frozen=True, kw_only=True)
class Waiting(limits.Trial):
    """A tenant that is refused at 0 s and let in at some time, and whose answers take a while; by its own clock."""

    let_in_at: float
    answer_s: float
    passes_at: float
    clock: list[float]

    def ask(self, model: Model, kind: Kind = Kind.RIGHT) -> Answer:
        sent = self.clock[0]
        self.clock[0] += self.answer_s
        if self.passes_at <= sent < self.passes_at + 1:
            return Answer(status=200, at=self.clock[0])
        return replace(good(1 if sent >= self.let_in_at else LIMIT + 1), at=self.clock[0])


@pytest.mark.parametrize(
    ("let_in_at", "answer_s", "passes_at", "came"),
    [
        (RESET - 0.9, 0.1, -1.0, pytest.approx(RESET - 0.8, abs=0.4)),
        (RESET, 3.0, -1.0, pytest.approx(RESET + 3.25, abs=0.01)),  # sent in time; its answer took long
        (RESET, 0.1, RESET - 2.0, pytest.approx(RESET, abs=0.4)),  # one passed before, and was not counted
        (RESET + 3.0, 0.1, -1.0, 0.0),
        (RESET + 9.0, 3.0, -1.0, 0.0),
    ],
)
def test_when_it_is_let_in_again_is_seen(
    let_in_at: float, answer_s: float, passes_at: float, came: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, scene = [0.0], boxes.scene()

    def pause(_: Scene, seconds: float) -> None:
        clock[0] += max(0.0, seconds)

    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(Scene, "pause", pause)
    trial = Waiting(
        scene=scene, ground=Ground(), counters=limiter.Counters(scene=scene, ref=Ref("v1", "Pod", "ns", "counters")),
        let_in_at=let_in_at, answer_s=answer_s, passes_at=passes_at, clock=clock,
    )  # fmt: skip
    assert trial._come_back(good(LIMIT + 1)) == came


def test_a_window_that_ends_in_between_says_nothing() -> None:
    mine = list(window().mine)
    later = [replace(each, at=each.at + limits.WINDOW_S) for each in mine[5:]]
    assert limits.spoiled(window(), 0.0) == ""
    assert "it ended before" in limits.spoiled(window(mine=[*mine[:5], *later]), 0.0)
    assert "it ended before" in limits.spoiled(window(mine=changed(0, left=7)), 0.0)
    assert "it ended before" in limits.spoiled(window(), RESET - limits.ROOM_S)


def test_one_in_which_the_limiter_was_not_heard_says_nothing() -> None:
    passed = Answer(status=200)
    assert "1 requests passed" in limits.spoiled(window(other=[passed, *window().other[1:]]), 0.0)
    assert "2 requests passed" in limits.spoiled(window(mine=[*window().mine[:-2], passed, passed]), 0.0)


def test_an_answer_that_is_wrong_is_not_for_another_window_to_mend() -> None:
    for status in (0, 503):
        assert limits.spoiled(window(mine=[Answer(status=status)] * 23), 100.0) == ""
        assert limits.spoiled(window(mine=[*window().mine[:-1], Answer(status=status)]), 0.0) == ""


def test_what_an_answer_says_of_its_limit_is_read() -> None:
    headers = {"x-ratelimit-limit": "20, 20;w=60", "x-ratelimit-remaining": "3", "x-ratelimit-reset": "41"}
    found = limits.read(200, headers, 100.0)
    assert (found.limit, found.left, found.resets_in, found.retry_after, found.ends) == (20, 3, 41, "", 141.0)
    assert limits.read(429, {"retry-after": "41"}, 0.0) == Answer(status=429, retry_after="41")


def test_only_the_limit_is_another_one() -> None:
    ground = Ground()
    (one, _) = ground.tenants
    small = limits.limited(one, ground, "example.com", 20)
    own = limits.limited(one, ground, "example.com", one.requests_per_minute)
    rule = small["spec"]["rateLimit"]["global"]["rules"][0]
    assert rule["limit"] == {"requests": 20, "unit": "Minute"}
    rule["limit"]["requests"] = one.requests_per_minute
    assert small == own


# what is read where the limiter counts


def line(number: int, **counted: dict[str, int]) -> str:
    return json.dumps(
        {"reading": number, "counted": {f"tenant-{name}/limits_": keys for name, keys in counted.items()}}
    )


def test_counters_are_told_apart_by_tenant_and_window() -> None:
    text = "\n".join(['ding": 1}', line(7, one={"tenant-one/limits_x_60": 4, "tenant-one/limits_y_60": 1, "odd": 9})])
    (found,) = limiter.parse(text)
    assert found == Reading(number=7, windows={"one": {60: 5}})


def test_what_was_counted_since_is_the_difference() -> None:
    (before,) = limiter.parse(line(1, one={"a_60": 4, "a_0": 9}))
    (after,) = limiter.parse(line(2, one={"a_60": 6, "a_120": 20}))
    assert after.since(before, "one") == 22
    assert after.since(before, "two") == 0


def test_the_reader_has_the_limiters_certificate_and_no_more_than_a_way_to_redis() -> None:
    pod = limiter.pod(boxes.scene())
    assert {"name": "certificates", "secret": {"secretName": "redis-client"}} in pod["spec"]["volumes"]
    assert pod["metadata"]["namespace"] == "envoy-gateway-system"
    (rule,) = limiter.allowance()["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 6379}]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"verify-role": "counters"}}}]
    assert pod["metadata"]["labels"]["verify-role"] == "counters"


@pytest.fixture(name="counters", scope="module")
def _counters() -> ModuleType:
    return programs.load(boxes.ROOT / "manifests/verify/counters.py")


class Redis(io.BytesIO):
    """Says what it was told to, and remembers what it was asked."""

    def __init__(self, says: bytes) -> None:
        super().__init__(says)
        self.asked = b""

    def write(self, data: Any, /) -> int:
        self.asked += bytes(data)
        return len(data)


def test_every_key_is_read_over_all_pages(counters: ModuleType) -> None:
    says = b"*2\r\n$1\r\n7\r\n*1\r\n$4\r\nk_60\r\n$2\r\n23\r\n*2\r\n$1\r\n0\r\n*1\r\n$4\r\ngone\r\n$-1\r\n"
    redis = Redis(says)
    assert counters.counted(redis, "k") == {"k_60": 23}
    assert redis.asked.startswith(b"*6\r\n$4\r\nSCAN\r\n$1\r\n0\r\n$5\r\nMATCH\r\n$2\r\nk*\r\n")
    assert b"SCAN\r\n$1\r\n7\r\n" in redis.asked


@pytest.mark.parametrize(("says", "error"), [(b"-NOAUTH\r\n", OSError), (b"", EOFError), (b"$5\r", EOFError)])
def test_an_answer_that_is_none_is_an_error(counters: ModuleType, says: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        counters.command(Redis(says), "GET", "k")
