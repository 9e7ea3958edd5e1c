"""Adversarial input at the edge: it reaches no model that it should not, nothing falls over, errors stay typed.

Each case is one connection with a mark of its own. What reached a model is read from both echo models' logs, up to a
right call that is sent last: a request that was smuggled shows there, however it was answered.
"""

import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial

from tasks.checks import echoes
from tasks.checks.echoes import Ears, Line
from tasks.checks.trust import crowd, forge as forging, malice
from tasks.checks.trust.crowd import Crowd, Slow, typed
from tasks.checks.trust.forge import INNER, Case, Forge, Target, Want
from tasks.lib import gateway, ground as grounds, names, rawhttp, trust
from tasks.lib.checks import Check, Result, Scene, failed, passed
from tasks.lib.errors import NotReady
from tasks.lib.ground import Ground
from tasks.lib.rawhttp import Address, Heard

STAGE = "trust"
ID = "trust.adversarial"

ANSWER_S = 8.0
LINGER_S = 0.3
"""Seconds in which an answer to what was smuggled would come."""

CALM_S = 30.0
HANDS = 4

CERTIFIED_S = 60.0
"""Seconds for a scratch tenant's certificate to be at the gateway."""

NOT_FOUND = 404
NOT_IMPLEMENTED = 501
"""The right answer to a transfer coding that is not known (RFC 9112, section 6.1), and no failure of a server's."""

_OVER = ("closed", "reset")

Pods = Mapping[str, tuple[str, int]]
"""Each pod's uid, and how often its containers were started again."""


def checks(ground: Ground) -> list[Check]:
    """Return the claim about adversarial input. It runs alone: it takes all the room there is."""
    return [
        Check(
            id=ID, stage=STAGE, needs=("edge", "ingress-gateway"), probe=partial(_probe, ground), timeout_s=600,
            claim="hostile input at the edge gets typed errors, reaches no model and stops nobody else's calls",
            exclusive=True, fix="invoke gateway --force",
        )
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What came of everything."""

    heard: Sequence[tuple[Case, Heard]]
    lines: Sequence[Line]
    crowd: Crowd
    before: Pods
    after: Pods
    last: Sequence[int]


def _probe(ground: Ground, scene: Scene) -> Result:
    ground.open(scene)
    box, run = scene.box, f"adversarial-{secrets.token_hex(3)}"
    one, two = ground.models[:2]
    target = Target.of(one, two, box.settings.domain, ground.token(one.tenant))
    plain, encrypted = Address.of(gateway.url(box)), _encrypted(scene, target.host)
    sent = [
        *((plain, each) for each in malice.cases(target, f"{run}-http")),
        *((encrypted, each) for each in _over_tls(target, f"{run}-https")),
    ]
    before = _pods(scene, ground)
    end = {"User-Agent": echoes.end(run)}
    with closing(Ears(scene, (one, two), run)) as ears:
        with ThreadPoolExecutor(HANDS) as hands:
            heard = list(hands.map(_send, sent))
        scene.say(f"{len(sent)} requests were sent; now slow clients and {crowd.room()} connections")
        became = _crowd(ground, scene, (plain, encrypted), Forge(target=target, run=run))
        last = [grounds.ask(box, each, ground.token(each.tenant), end) for each in (one, two)]
        lines = ears.all()
    return judge(Seen(heard=heard, lines=lines, crowd=became, before=before, after=_pods(scene, ground), last=last))


def _encrypted(scene: Scene, host: str) -> Address:
    """Return where the gateway speaks TLS for a scratch tenant's host. Raises NotReady when it does not come to it."""
    address = Address.of(gateway.url(scene.box, tls=True), trust.client(scene.box), host)

    def obstacle() -> str:
        try:
            address.dial().close()
        except OSError as error:
            return str(error)
        return ""

    if why := scene.observe(obstacle, CERTIFIED_S):
        raise NotReady(f"the edge does not speak TLS for {host}: {why}")
    return address


def _over_tls(target: Target, run: str) -> Iterator[Case]:
    for case in malice.cases(replace(target, apart=NOT_FOUND), run):
        yield replace(case, name=f"{case.name}, over TLS")


def _send(sent: tuple[Address, Case]) -> tuple[Case, Heard]:
    address, case = sent
    expect = forging.expected(case)
    return case, rawhttp.exchange(address, [case.sent], wait_s=ANSWER_S, expect=expect, linger_s=LINGER_S)


def _crowd(ground: Ground, scene: Scene, doors: tuple[Address, Address], forge: Forge) -> Crowd:
    """Let slow clients and many connections hold, and make right calls meanwhile."""
    plain, encrypted = doors
    wanted = crowd.room()
    few = int(wanted * crowd.ENCRYPTED)
    slow_head = forge.marked(forge.lines().removesuffix(b"\r\n\r\n"), "crowd", "head")
    slow_body = forge.marked(forge.lines(["Content-Length: 100000"], b"{"), "crowd", "body")
    unread = forge.marked(forge.whole(), "crowd", "unread")
    stranger = forge.marked(forge.whole(token=""), "crowd", "stranger")
    calls: list[float] = []
    with ExitStack() as held:
        heads = [Slow(door, slow_head, crowd.SLOW) for door in doors]
        bodies = [Slow(door, slow_body, crowd.SLOW) for door in doors]
        slow = [*heads, *bodies]
        for each in slow:
            held.callback(each.close)
        held.enter_context(crowd.not_reading(plain, unread))
        sockets = [
            *held.enter_context(crowd.opened(encrypted, few)), *held.enter_context(crowd.opened(plain, wanted - few))
        ]  # fmt: skip
        calls += _calls(ground, scene)
        answers, untyped = crowd.ask_all(sockets[: crowd.ASKING], stranger, CALM_S)
        until = time.monotonic() + crowd.BODY_S + crowd.SLACK_S
        while min(len(each.ended) for each in slow) < crowd.SLOW and time.monotonic() < until:
            for each in slow:
                each.step()
            calls += _calls(ground, scene)
            scene.pause(0.2)
    return Crowd(
        heads=[ended for each in heads for ended in each.ended],
        bodies=[ended for each in bodies for ended in each.ended],
        opened=len(sockets), wanted=wanted, answers=answers, untyped=untyped, calls=calls,
    )  # fmt: skip


def _calls(ground: Ground, scene: Scene) -> list[float]:
    return [echoes.seconds(scene, ground, each) for each in ground.models[:2]]


def _pods(scene: Scene, ground: Ground) -> Pods:
    places = (names.ISTIO_NAMESPACE, names.GATEWAY_NAMESPACE, *(each.namespace for each in ground.models[:2]))
    found = {}
    for pod in (each for place in places for each in scene.box.kube.list("v1", "Pod", place)):
        status = pod.get("status") or {}
        states = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        found[name] = (pod["metadata"]["uid"], sum(each["restartCount"] for each in states))
    return found


def judge(seen: Seen) -> Result:
    """Judge what came of everything."""
    wrong = [why for case, heard in seen.heard if (why := misdone(case, heard, seen.lines))]
    wrong += crowd.wrong(seen.crowd)
    wrong += _changed(seen.before, seen.after)
    if not seen.last or any(each != 200 for each in seen.last):  # noqa: PLR2004
        wrong.append(f"right calls afterwards: HTTP {list(seen.last)}")
    if wrong:
        return failed(f"{len(wrong)} observations are wrong, in {len(seen.heard)} cases", "\n".join(wrong))
    families = Counter(case.family for case, _ in seen.heard)
    slowest = max(seen.crowd.calls)
    return passed(
        f"{', '.join(f'{name} {count}' for name, count in families.items())}, half of each over TLS; "
        f"{len(seen.crowd.heads)} slow heads and "
        f"{len(seen.crowd.bodies)} slow bodies ended, {seen.crowd.opened} connections held; meanwhile "
        f"{len(seen.crowd.calls)} right calls, the slowest in {slowest:.2f} s",
        measured={
            "cases": len(seen.heard), "connections": seen.crowd.opened, "calls": len(seen.crowd.calls),
            "slowest_call_s": round(slowest, 3),
            "slow_head_s": round(max(each.after_s for each in seen.crowd.heads), 1),
            "slow_body_s": round(max(each.after_s for each in seen.crowd.bodies), 1),
        },
    )  # fmt: skip


def _changed(before: Pods, after: Pods) -> list[str]:
    return [
        f"{name}: {before.get(name)} before, {after.get(name)} after (uid, restarts)"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def misdone(case: Case, heard: Heard, lines: Iterable[Line]) -> str:
    """Return what is wrong with what came of a case; empty when nothing is."""
    mine = [each for each in lines if each["cell"] in {case.mark, case.mark + INNER}]
    why = _answered_wrong(case, heard) or _reached_wrong(case, heard, mine)
    return f"{case.family}, {case.name}: {why}" if why else ""


def _answered_wrong(case: Case, heard: Heard) -> str:
    if not heard.responses and heard.ended in _OVER:
        may = case.want is Want.CLOSED or (case.want in {Want.REFUSED, Want.EITHER} and not heard.rest)
        return "" if may and not case.statuses else f"{heard}; {_right(case)}"
    if case.want is Want.CLOSED or len(heard.responses) != forging.expected(case) or heard.rest:
        return f"{heard}; {forging.expected(case)} times {_right(case)}"
    return "" if all(_fits(case, each) for each in heard.responses) else f"{heard}; {_right(case)}"


def _right(case: Case) -> str:
    return f"{case.want} is right{f', {case.statuses}' if case.statuses else ''}"


def _fits(case: Case, response: rawhttp.Response) -> bool:
    if case.statuses and response.status not in case.statuses:
        return False
    if response.status == 200:  # noqa: PLR2004
        return case.want is not Want.REFUSED
    return case.want in {Want.REFUSED, Want.EITHER} and _proper(case, response)


def _proper(case: Case, response: rawhttp.Response) -> bool:
    """Whether an answer is a typed error, and of the client's making."""
    mine = 400 <= response.status < 500 or (response.status == NOT_IMPLEMENTED and NOT_IMPLEMENTED in case.statuses)  # noqa: PLR2004
    return mine and typed(response)


def _reached_wrong(case: Case, heard: Heard, mine: Sequence[Line]) -> str:
    if any(each["cell"].endswith(INNER) for each in mine):
        return f"what was smuggled reached a model: {mine}"
    served = heard.statuses.count(200)
    if len(mine) != served:
        return f"{len(mine)} requests reached a model, and {served} were answered by one"
    for each in mine:
        if each["path"].partition("?")[0] not in malice.PATHS:
            return f"a model was asked for {each['path']}"
        if found := sorted({*case.never} & {*each["headers"]}):
            return f"a model was sent {', '.join(found)}"
    return ""
