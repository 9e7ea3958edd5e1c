"""A call that takes long is answered whatever is changed meanwhile, and given up when its time is over.

A proxy's listener is another one after a change. What the old one has in hand goes on for as long as proxies drain; the
first of two calls takes longer than that is by default (45 s in Istio, 60 s in Envoy Gateway).
"""

import secrets
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from tasks.checks import echoes
from tasks.checks.echoes import Ears
from tasks.checks.edge import answers
from tasks.checks.edge.answers import Answer
from tasks.lib import ground as grounds, routes
from tasks.lib.checks import Check, Result, Scene, failed, passed
from tasks.lib.ground import Ground
from tasks.lib.kube.api import Obj
from tasks.lib.modelling import Model
from tasks.lib.scratch import Scratch

ID = "edge.long-calls"
STAGE = "edge"

NAME = "while-calling"
HOLD_S, TOO_LONG_S = 100.0, 190.0
GIVEN_UP_S = float(routes.REQUEST_TIME.removesuffix("s"))
LATE_S = 5.0
"""Seconds by which a call may be given up too late, on a busy machine."""

BEGUN_S, CHANGED_S = 30.0, 60.0
_OK, _DENIED, _GIVEN_UP = 200, 403, 504


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What came of a long call, and of one that is too long; when what was changed meanwhile was in force."""

    long: Answer
    too_long: Answer
    changed_after_s: float


def checks(ground: Ground) -> list[Check]:
    """Return the claim."""
    return [
        Check(
            id=ID, stage=STAGE, needs=("edge", "ingress-gateway", "istiod"), probe=partial(_probe, ground),
            timeout_s=600, fix="invoke mesh gateway --force",
            claim=f"a call of {HOLD_S:.0f} s is answered though routes and policies change meanwhile; one that takes "
            f"longer than {GIVEN_UP_S:.0f} s gets 504",
        )
    ]  # fmt: skip


def _probe(ground: Ground, scene: Scene) -> Result:
    ground.open(scene)
    model, domain, mark = ground.models[0], scene.box.settings.domain, f"long-{secrets.token_hex(3)}"
    begun, found = time.monotonic(), dict[float, Answer]()

    def call(hold_s: float) -> None:
        came = grounds.post(
            scene.box, model, ground.token(model.tenant), {"User-Agent": mark},
            query=f"?hold={hold_s}", within_s=TOO_LONG_S,
        )  # fmt: skip
        found[hold_s] = answers.read(came, time.monotonic() - begun)

    for each in (HOLD_S, TOO_LONG_S):
        threading.Thread(target=call, args=(each,), name=f"{each:.0f} s call", daemon=True).start()
    with closing(Ears(scene, [model], mark)) as ears:
        scene.require(lambda: ears.other_than(2), BEGUN_S)
    with Scratch(scene.box.kube, "long-calls", scene.box.cancel) as scratch:
        scratch.put(policy(model), echoes.route(model, domain, NAME))
        scene.require(lambda: _unchanged(ground, scene, model), CHANGED_S)
        changed = time.monotonic() - begun
    scene.require(lambda: "" if len(found) == 2 else "the calls go on", TOO_LONG_S)  # noqa: PLR2004
    return judge(Seen(long=found[HOLD_S], too_long=found[TOO_LONG_S], changed_after_s=changed))


def _unchanged(ground: Ground, scene: Scene, model: Model) -> str:
    """Return what shows that the change is not in force yet: at the model's sidecar, and at the edge."""
    token, host = ground.token(model.tenant), echoes.host(model, scene.box.settings.domain, NAME)
    if (status := grounds.ask(scene.box, model, token, {NAME: "denied"})) != _DENIED:
        return f"the new policy does not deny yet: HTTP {status}"
    if (status := grounds.ask(scene.box, model, token, {"Host": host})) != _OK:
        return f"the new route does not answer yet: HTTP {status}"
    return ""


def policy(model: Model) -> Obj:
    """Return a policy of the model's sidecar, about calls that nobody else makes."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": NAME, "namespace": model.namespace},
        "spec": {"action": "DENY", "rules": [{"when": [{"key": f"request.headers[{NAME}]", "values": ["denied"]}]}]},
    }


def judge(seen: Seen) -> Result:
    """Judge what was seen."""
    wrong = []
    if seen.long.status != _OK:
        wrong.append(f"a call of {HOLD_S:.0f} s: {seen.long}; policies changed after {seen.changed_after_s:.0f} s")
    if seen.changed_after_s >= HOLD_S:
        wrong.append(f"what was changed was in force after {seen.changed_after_s:.0f} s, when the call was over")
    on_time = GIVEN_UP_S <= seen.too_long.after_s <= GIVEN_UP_S + LATE_S
    if not (seen.too_long.status == _GIVEN_UP and seen.too_long.typed and on_time):
        wrong.append(f"a call that takes too long: {seen.too_long}; HTTP 504 in JSON after {GIVEN_UP_S:.0f} s is right")
    if wrong:
        return failed("long calls are not treated as they should be", "\n".join(wrong))
    return passed(
        f"answered after {seen.long.after_s:.0f} s, a route and a policy being new after {seen.changed_after_s:.0f} s; "
        f"given up after {seen.too_long.after_s:.1f} s",
        measured={
            "long_s": round(seen.long.after_s, 1), "changed_s": round(seen.changed_after_s, 1),
            "given_up_s": round(seen.too_long.after_s, 1),
        },
    )  # fmt: skip
