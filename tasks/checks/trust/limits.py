"""A tenant's limit counts: so many requests pass and the next gets 429, of that tenant alone, for as long as it says.

One scratch tenant gets a small limit for a while. In one window of the limiter its requests are sent one after the
other, with one of the other tenant and one that is to be refused between them. Then it is read where the limiter
counts, and the tenant comes back when the answer said that it may.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from tasks.lib import ground as grounds, limiter, routes
from tasks.lib.checks import Check, Result, Scene, failed, passed
from tasks.lib.errors import NotReady
from tasks.lib.ground import Ground
from tasks.lib.kube.api import Obj
from tasks.lib.modelling import Model
from tasks.lib.scratch import Scratch
from tasks.lib.tenancy import Tenant
from tasks.lib.tokenkinds import Kind

STAGE = "trust"
ID = "trust.limits"

LIMIT = 20
BEYOND = 3
"""Requests that are sent when the limit is reached."""

WINDOW_S = 60
APPLIED_S = 60.0
ROUNDS = 4
"""Windows that are begun at most, when one after the other says nothing of the limit."""

ROOM_S = 5
"""Seconds that have to be left of a window when all has been sent: for coming back just before it ends."""

SAME_S = 5
"""Seconds by which answers of one window may differ about its end: they say it in whole ones."""

REFUSED = (Kind.NONE, Kind.MALFORMED, Kind.EXPIRED, Kind.HMAC, Kind.WRONG_ISSUER)
"""Tokens that nobody's limit may pay for."""

EARLY_S, LATE_S = 1.5, 2.0
"""How far from what `Retry-After` says the tenant may be let in: it is whole seconds, and an answer takes a while."""

_OK, _TOO_MANY = 200, 429
_DENIED = (401, 403)
_STEP_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of one request. `at` is when, in seconds of a clock that never goes back."""

    status: int
    limit: int = -1
    left: int = -1
    resets_in: int = -1
    retry_after: str = ""
    at: float = 0.0

    @property
    def ends(self) -> float:
        """When its window ends, to a second."""
        return self.at + self.resets_in

    @property
    def uncounted(self) -> bool:
        """Whether it passed because the limiter did not answer in time: it is told of no limit (docs/adr/0016)."""
        return self.status == _OK and self.limit < 0

    def __str__(self) -> str:
        left = f", {self.left} of {self.limit} left for {self.resets_in} s" if self.limit >= 0 else ""
        return f"HTTP {self.status or 'nothing'}{left}{f', Retry-After {self.retry_after}' if self.retry_after else ''}"


@dataclass(frozen=True, kw_only=True)
class Window:
    """What was seen of one window: answers to the limited tenant, to the other one, and to whoever has no right token.

    `counted` is by the limiter; `let_in_s` is after how many seconds from the last refusal the tenant was let in again,
    or 0 when it was not in time.
    """

    mine: Sequence[Answer]
    other: Sequence[Answer] = ()
    refused: Mapping[str, Sequence[Answer]] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)
    let_in_s: float = 0.0


def checks(ground: Ground) -> list[Check]:
    """Return the claim about limits. It runs alone: whatever else asks the scratch tenants would be counted."""
    return [
        Check(
            id=ID, stage=STAGE, needs=("edge", "envoy-gateway"), probe=partial(_probe, ground), timeout_s=900,
            claim=f"of {LIMIT + BEYOND} requests in a window {LIMIT} pass and the rest get 429, of that tenant alone",
            exclusive=True, fix="invoke gateway --force",
        )
    ]  # fmt: skip


def limited(tenant: Tenant, ground: Ground, domain: str, requests: int) -> Obj:
    """Return the policy of a scratch tenant with another limit."""
    admission = ground.admission
    record = replace(tenant, requests_per_minute=requests)
    made = routes.tenant_objects(record, domain, admission.jwks, admission.revoked)
    return next(each for each in made if each["kind"] == "BackendTrafficPolicy")


def _probe(ground: Ground, scene: Scene) -> Result:
    ground.open(scene)
    with Scratch(scene.box.kube, "limits", scene.box.cancel) as scratch:
        counters = limiter.start(scene, scratch, [each.name for each in ground.tenants])
        with _small(ground, scene):
            trial = Trial(scene=scene, ground=ground, counters=counters)
            if why := scene.observe(trial.not_applied, APPLIED_S):
                return failed(f"{APPLIED_S:.0f} s after a limit of {LIMIT} was applied, it does not count", why)
            window = trial.window()
    return judge(window)


@contextmanager
def _small(ground: Ground, scene: Scene) -> Iterator[None]:
    """Give the first scratch tenant a small limit, and its own again."""
    tenant, domain = ground.tenants[0], scene.box.settings.domain
    ground.scratch.put(limited(tenant, ground, domain, LIMIT))
    try:
        yield
    finally:
        ground.scratch.put(limited(tenant, ground, domain, tenant.requests_per_minute))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Asks the scratch tenants' models, the first one's under a small limit."""

    scene: Scene
    ground: Ground
    counters: limiter.Counters

    def ask(self, model: Model, kind: Kind = Kind.RIGHT) -> Answer:
        """Send one request to a model, with a token of its tenant."""
        found = grounds.post(self.scene.box, model, self.ground.token(model.tenant, kind))
        if found is None:
            return Answer(status=0, at=time.monotonic())
        return read(found.status_code, found.headers, time.monotonic())

    def not_applied(self) -> str:
        """Return what shows that the small limit does not count yet."""
        found = self.ask(self.ground.models[0])
        return "" if found.limit == LIMIT and found.status in {_OK, _TOO_MANY} else str(found)

    def window(self) -> Window:
        """Use up one whole window, from its first request on. Raises NotReady when none says anything of the limit."""
        mine, why = self.ground.models[0], ""
        for _ in range(ROUNDS):
            self.scene.pause(self.ask(mine).ends - time.monotonic() + 0.1)  # the next window begins then
            begun = self.counters.read()
            window = self._use_up()
            counted = self.counters.read()
            if not (why := spoiled(window, time.monotonic())):
                names = [each.name for each in self.ground.tenants]
                there = {name: counted.since(begun, name) for name in names}
                return replace(window, counted=there, let_in_s=self._come_back(window.mine[-1]))
            self.scene.say(f"this window says nothing of the limit, {why}: once more")
        raise NotReady(f"{ROUNDS} windows of the limiter say nothing of the limit; of the last: {why}")

    def _use_up(self) -> Window:
        one, two = self.ground.models[:2]
        mine: list[Answer] = []
        other: list[Answer] = []
        refused: dict[str, list[Answer]] = {kind.value: [] for kind in REFUSED}
        for number in range(LIMIT + BEYOND):
            kind = REFUSED[number % len(REFUSED)]
            refused[kind.value].append(self.ask(one, kind))
            mine.append(self.ask(one))
            other.append(self.ask(two))
        return Window(mine=mine, other=other, refused=refused)

    def _come_back(self, last: Answer) -> float:
        """Ask again from shortly before the time that a refusal named on; return when one was let in.

        Return 0 when one was still refused that was sent too late for it: an answer may take its time.
        """
        told = int(last.retry_after) if last.retry_after.isdigit() else WINDOW_S
        self.scene.pause(last.at + told - 3 - time.monotonic())
        sent_s = 0.0
        while sent_s <= told + LATE_S:
            sent_s = time.monotonic() - last.at
            found = self.ask(self.ground.models[0])
            if found.status != _TOO_MANY and not found.uncounted:
                return found.at - last.at if found.status == _OK else 0.0
            self.scene.pause(_STEP_S)
        return 0.0


def read(status: int, headers: Mapping[str, str], at: float) -> Answer:
    """Read what an answer says of a limit: `20, 20;w=60`, and how much is left for how long."""

    def number(name: str) -> int:
        found = headers.get(f"x-ratelimit-{name}", "").partition(",")[0].strip()
        return int(found) if found.isdigit() else -1

    return Answer(
        status=status, limit=number("limit"), left=number("remaining"), resets_in=number("reset"),
        retry_after=headers.get("retry-after", ""), at=at,
    )  # fmt: skip


def spoiled(window: Window, now: float) -> str:
    """Return why a window says nothing of the limit, if so: it has to be one, from its first request on, and asked for.

    Any other answer without a limit is wrong, and for the judgement.
    """
    if uncounted := sum(each.uncounted for each in (*window.mine, *window.other)):
        return f"{uncounted} requests passed and were told of no limit, as when the limiter does not answer in time"
    ends = [each.ends for each in window.mine if each.resets_in >= 0]
    fresh = window.mine[0].left in {LIMIT - 1, -1}
    if ends and not (fresh and max(ends) - min(ends) < SAME_S and now < min(ends) - ROOM_S):
        return f"it ended before {LIMIT + BEYOND} requests were sent"
    return ""


def judge(window: Window) -> Result:
    """Judge what was seen of a window."""
    wrong = [*_wrong_mine(window.mine), *_wrong_others(window), *_wrong_return(window)]
    if wrong:
        return failed(
            f"the limit of {LIMIT} a minute does not hold: {len(wrong)} observations are wrong", "\n".join(wrong)
        )
    refused = sum(map(len, window.refused.values()))
    told = int(window.mine[-1].retry_after)
    return passed(
        f"{LIMIT} of {len(window.mine)} passed, then 429, as counted in Redis; another tenant's {len(window.other)} "
        f"passed; {refused} without a right token did not count; let in again after {window.let_in_s:.1f} s, "
        f"Retry-After was {told}",
        measured={
            "passed": LIMIT, "limited": len(window.mine) - LIMIT, "counted": max(window.counted.values()),
            "not_counted": refused, "retry_after_s": told, "let_in_s": round(window.let_in_s, 2),
        },
    )  # fmt: skip


def _wrong_mine(mine: Sequence[Answer]) -> Iterator[str]:
    for number, each in enumerate(mine, 1):
        where = f"request {number} of {len(mine)}: {each}"
        if number <= LIMIT and (each.status, each.left) != (_OK, LIMIT - number):
            yield f"{where}; 200 with {LIMIT - number} left is right"
        if number > LIMIT and (each.status, each.left) != (_TOO_MANY, 0):
            yield f"{where}; 429 with 0 left is right"
        if number > LIMIT and each.status == _TOO_MANY and not _true_seconds(each):
            yield f"{where}; Retry-After is not the seconds until the window ends"
        if number <= LIMIT and each.retry_after:
            yield f"{where}; it was not refused, and says Retry-After"


def _true_seconds(answer: Answer) -> bool:
    told = answer.retry_after
    return told.isdigit() and 0 < int(told) <= WINDOW_S and int(told) == answer.resets_in


def _wrong_others(window: Window) -> Iterator[str]:
    for each in window.other:
        if each.status != _OK:
            yield f"the other tenant: {each}"
    for kind, answers in window.refused.items():
        for each in answers:
            if each.status not in _DENIED:
                yield f"token {kind}: {each}"
    sent = (len(window.mine), len(window.other))
    if tuple(window.counted.values()) != sent:
        told = ", ".join(f"{name} {count}" for name, count in window.counted.items())
        yield f"the limiter counted {told or 'nothing'}; sent with a right token were {sent[0]} and {sent[1]}"


def _wrong_return(window: Window) -> Iterator[str]:
    last = window.mine[-1].retry_after
    told = int(last) if last.isdigit() else 0
    if window.let_in_s < told - EARLY_S or not window.let_in_s:
        how = f"let in again after {window.let_in_s:.1f} s" if window.let_in_s else "not let in again"
        yield f"{how}, and Retry-After was {last or 'not there'}"
