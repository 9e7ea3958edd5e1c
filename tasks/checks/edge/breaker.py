"""A model that is asked by more callers than it can take: those beyond are refused at once, and nobody else notices."""

import secrets
import selectors
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from tasks.checks import echoes
from tasks.checks.echoes import Ears
from tasks.checks.edge import answers, meanwhile
from tasks.checks.edge.answers import Answer
from tasks.checks.trust import crowd
from tasks.checks.trust.forge import Forge, Target
from tasks.lib import gateway, ground as grounds, names, rawhttp, routes
from tasks.lib.checks import Check, Result, Scene, failed, passed, skipped
from tasks.lib.errors import NotReady
from tasks.lib.ground import Ground
from tasks.lib.kube.api import Ref
from tasks.lib.kube.follow import Recording
from tasks.lib.rawhttp import Address

ID = "edge.circuit-breaker"
STAGE = "edge"

_LIMITS = routes.PROTECTION["circuitBreaker"]
ABREAST, WAITING = int(_LIMITS["maxConnections"]), int(_LIMITS["maxPendingRequests"])
TAKEN = ABREAST + WAITING
"""Calls that one model's route takes: so many go on, and so many wait for one of those to end."""

BEYOND = 40
HOLD_S = 20.0
"""Seconds that the model takes over each call that goes on; all others have come long before the first is answered."""

SLACK = 4
"""Calls by which more may be taken: the proxy's threads count for themselves when all come at once."""

ANSWERED_S = 90.0
SETTLE_S = 30.0
_OK, _REFUSED = 200, 503
_STEP_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """What came of a crowd; of calls to the other tenant's model meanwhile (seconds, or -1); and of one call after it.

    `held` is how many of the calls that may go on the model had before the others were made, `reached` how many it was
    asked in all, `overflows` how many refusals the edge logged as its own.
    """

    answers: Sequence[Answer]
    others: Sequence[float]
    held: int
    reached: int
    overflows: int
    afterwards: int


def checks(ground: Ground) -> list[Check]:
    """Return the claim."""
    return [
        Check(
            id=ID, stage=STAGE, needs=("edge", "ingress-gateway"), probe=partial(_probe, ground), timeout_s=480,
            claim=f"{ABREAST} calls at once go on to a model and {WAITING} wait; the next get 503 at once, and another "
            "model's callers are answered meanwhile",
            fix="invoke tenants --force",
        )
    ]  # fmt: skip


def _probe(ground: Ground, scene: Scene) -> Result:
    ground.open(scene)
    if crowd.room() < TAKEN + BEYOND:
        return skipped(f"this machine does not let us open {TAKEN + BEYOND} connections: ulimit -n {TAKEN * 2}")
    box, (one, two) = scene.box, ground.models[:2]
    target = Target.of(one, two, box.settings.domain, ground.token(one.tenant))
    forge = Forge(target=target, run=f"crowd-{secrets.token_hex(3)}")
    mark = forge.mark("crowd", "held")
    others: list[float] = []

    def call() -> None:
        others.append(echoes.seconds(scene, ground, two))

    def request(hold_s: float) -> bytes:
        return forge.marked(forge.whole(target=f"{one.predict_path}?hold={hold_s}"), "crowd", "held")

    with closing(Ears(scene, [one], mark)) as ears, closing(_edge_log(scene, mark)) as log:
        with meanwhile.doing(call, _STEP_S), crowd.opened(Address.of(gateway.url(box)), TAKEN + BEYOND) as sockets:
            crowd.send(sockets[:ABREAST], request(HOLD_S))
            held = _held(scene, ears)
            crowd.send(sockets[ABREAST:], request(0))
            came = list(_answers(scene, sockets))
        afterwards = grounds.ask(box, one, ground.token(one.tenant), {"User-Agent": echoes.end(mark)})
        reached, overflows = ears.reached(mark), _overflows(scene, log, len(came))
    return judge(
        Crowd(answers=came, others=others, held=held, reached=reached, overflows=overflows, afterwards=afterwards)
    )


def _held(scene: Scene, ears: Ears) -> int:
    """Wait until the model has all calls that may go on; return how many it has.

    One that comes while the edge still connects for another counts as waiting
    (https://github.com/envoyproxy/envoy/issues/11326): who sends all at once measures how fast it connects.
    """
    scene.observe(lambda: ears.other_than(ABREAST), HOLD_S)
    return len(ears.heard())


def _answers(scene: Scene, sockets: Iterable[socket.socket]) -> Iterator[Answer]:
    """Yield what comes from now on on each connection, as it comes. Raises NotReady when the run is to stop."""
    begun = time.monotonic()
    with selectors.DefaultSelector() as selector:
        heard = dict.fromkeys(sockets, b"")
        for each in heard:
            selector.register(each, selectors.EVENT_READ)
        while heard and (left := begun + ANSWERED_S - time.monotonic()) > 0:
            if scene.box.cancel.is_set():
                raise NotReady("stopped")
            ready = selector.select(min(left, 1.0))
            for each in [key.fileobj for key, _ in ready if isinstance(key.fileobj, socket.socket)]:
                piece, ended = rawhttp.receive(each, 0.01)
                heard[each] += piece
                found, _ = rawhttp.parse(heard[each], closed=ended == "closed")
                if found or ended:
                    selector.unregister(each)
                    del heard[each]
                    yield answers.of(found[0] if found else None, time.monotonic() - begun)
        yield from (Answer(after_s=ANSWERED_S) for _ in heard)


def _edge_log(scene: Scene, mark: str) -> Recording:
    """Record what the edge's proxies log of calls with a mark."""
    kube = scene.box.kube
    pods = kube.list("v1", "Pod", names.GATEWAY_NAMESPACE, f"{names.GATEWAY_LABEL}={names.EDGE}", heads=True)
    return Recording(kube, [(Ref.of(each), "envoy") for each in pods], f'"{mark}"')


def _overflows(scene: Scene, log: Recording, calls: int) -> int:
    """Return how many refusals the edge's proxy logged as a crowd's; wait until it has logged every call."""

    def obstacle() -> str:
        count = len(log.lines())
        return "" if count >= calls else f"{count} of {calls} calls are in the edge's log"

    scene.require(obstacle, SETTLE_S)
    return sum("{overflow}" in line for line in log.lines())


def judge(seen: Crowd) -> Result:
    """Judge what came of a crowd."""
    served = [each for each in seen.answers if each.status == _OK]
    refused = [each for each in seen.answers if each.status == _REFUSED]
    wrong = [*_wrong_answers(seen, served, refused), *_wrong_others(seen)]
    if wrong:
        return failed(f"the crowd was not kept off: {len(wrong)} observations are wrong", "\n".join(wrong))
    last = max(each.after_s for each in refused)
    return passed(
        f"{len(served)} calls were answered, {len(refused)} refused by the edge within {last:.1f} s; meanwhile "
        f"{len(seen.others)} calls to another model, the slowest in {max(seen.others):.2f} s",
        measured={
            "answered": len(served), "refused": len(refused), "refused_within_s": round(last, 2),
            "others": len(seen.others), "slowest_other_s": round(max(seen.others), 3),
        },
    )  # fmt: skip


def _wrong_answers(seen: Crowd, served: Sequence[Answer], refused: Sequence[Answer]) -> Iterator[str]:
    if len(seen.answers) != TAKEN + BEYOND:
        yield f"{len(seen.answers)} calls were made, {TAKEN + BEYOND} were to be"
    if strange := sorted({each.status for each in seen.answers} - {_OK, _REFUSED}):
        yield f"answers were {', '.join(str(each or 'nothing') for each in strange)}, too"
    if not TAKEN <= len(served) <= TAKEN + SLACK:
        yield f"{len(served)} calls were taken, {TAKEN} is right"
    if seen.held != ABREAST:
        yield f"{seen.held} calls were at the model before the others were made, {ABREAST} is right"
    first = min((each.after_s for each in served), default=0.0)
    if late := [each for each in refused if each.after_s >= first]:
        yield f"{len(late)} refusals came after the first answer, the last in {late[-1].after_s:.1f} s"
    if plain := sum(not each.typed for each in refused):
        yield f"{plain} refusals are no errors in JSON"
    if seen.overflows != len(refused):
        yield f"{len(refused)} calls were refused, {seen.overflows} by the edge's limits"
    if seen.reached != len(served):
        yield f"the model was asked {seen.reached} times, and {len(served)} calls were answered"


def _wrong_others(seen: Crowd) -> Iterator[str]:
    bad = sum(each < 0 for each in seen.others)
    if bad or not seen.others:
        yield f"{bad} of {len(seen.others)} calls to another model were not answered meanwhile"
    if seen.afterwards != _OK:
        yield f"a call afterwards: HTTP {seen.afterwards or 'nothing'}"
