"""Models answer, from outside and from inside, and sleep when nobody asks."""

import time
from collections.abc import Mapping, Sequence
from functools import partial

from tasks.checks import asking
from tasks.checks.network import APART
from tasks.components import models as components
from tasks.lib import predict, render
from tasks.lib.checks import Check, Result, Scene, failed, passed, skipped, unmade
from tasks.lib.kube.api import Obj
from tasks.lib.modelling import Model
from tasks.lib.objects import namespace
from tasks.lib.predict import Reply
from tasks.lib.probepods import call, start
from tasks.lib.scratch import Scratch

STAGE = "models"
ANSWERS, INSIDE, ZERO = "models.answers", "models.answers-inside", "models.reaches-zero"

ZERO_S = 360.0
"""Seconds to zero after the last request: Knative's window and grace (90 s), and the time the server takes to end."""

LAST = ("trust.tls", "trust.matrix", "trust.rotation", "trust.mutation")
"""Who else asks the models, and so keeps them awake."""

_INSIDE_S = 60.0


def checks(models: Sequence[Model]) -> list[Check]:
    """Return the claims about the models."""
    if not models:
        claims = {
            ANSWERS: "a model answers correctly",
            INSIDE: "a model answers on its cluster-local URL",
            ZERO: "a model without callers reaches zero, and comes back when it is asked",
        }
        return [unmade(check_id, STAGE, claim, "there is no model") for check_id, claim in claims.items()]
    made = [_checks(each) for each in models]
    return [each for column in zip(*made, strict=True) for each in column]


def _checks(model: Model) -> tuple[Check, Check, Check]:
    name, needs = f"{model.tenant}/{model.name}", (components.component_name(model),)
    return (
        Check(
            id=ANSWERS, subject=name, stage=STAGE, needs=needs, probe=partial(_answers, model), timeout_s=270,
            claim=f"{name} answers correctly by v1 and v2 through the gateway", fix="invoke models --force",
        ),
        Check(
            id=INSIDE, subject=name, stage=STAGE, needs=needs, after=(ANSWERS,), probe=partial(_inside, model),
            claim=f"{name} answers correctly on its cluster-local URL", fix="invoke serving --force", timeout_s=500,
        ),
        # Whoever asks the model keeps it awake.
        Check(
            id=ZERO, subject=name, stage=STAGE, needs=needs, after=(ANSWERS, INSIDE, APART, *LAST), timeout_s=620,
            claim=f"{name} reaches zero without callers, and comes back when it is asked", probe=partial(_zero, model),
            fix=f"kubectl -n {model.namespace} get podautoscalers   shows what keeps it up",
        ),
    )  # fmt: skip


def _answers(model: Model, scene: Scene) -> Result:
    if not model.instances:
        return skipped("config/models.yaml has no example for it")
    replies = {each: predict.ask(scene.box, model, model.instances, protocol=each) for each in predict.PROTOCOLS}
    return answered(model, replies)


def answered(model: Model, replies: Mapping[str, Reply]) -> Result:
    """Judge the answers, one for each protocol."""
    wrong = {protocol: why for protocol, reply in replies.items() if (why := _wrong(model, reply))}
    if wrong or not replies:
        evidence = "\n".join(f"{protocol}: {why}" for protocol, why in wrong.items())
        return failed(f"no right answer by {' and '.join(wrong) or 'any protocol'}", evidence)
    times = ", ".join(f"{protocol} in {reply.elapsed_s:.2f} s" for protocol, reply in replies.items())
    measured = {f"{protocol}_s": round(reply.elapsed_s, 3) for protocol, reply in replies.items()}
    return passed(f"{list(model.predictions)}: {times}", measured=measured)


def _wrong(model: Model, reply: Reply) -> str:
    if reply.obstacle:
        return reply.obstacle
    wanted = list(model.predictions)
    return "" if reply.predictions == wanted else f"{reply.predictions} instead of {wanted}"


def _inside(model: Model, scene: Scene) -> Result:
    """Ask as a part of the mesh, with a token, from a namespace that no policy closes.

    The tenants' own policies let nobody out to the mesh's gateways.
    """
    if not model.instances:
        return skipped("config/models.yaml has no example for it")
    token = predict.mint(scene.box, model)
    ways = [each for each in asking.ways(model, scene.box.settings.domain, token) if each.name == asking.INSIDE]
    owner = f"inside-{render.digest([model.tenant, model.name])[:8]}"
    with Scratch(scene.box.kube, owner, scene.box.cancel) as scratch:
        scratch.add(namespace(scratch.component))
        pod = start(scene, scratch, scratch.component, "caller", call(ways), mesh=True)
        why = scene.observe(lambda: asking.unanswered(pod.rounds(), [asking.INSIDE], model, "a pod"), _INSIDE_S)
        if why:
            return failed(f"no right answer within {_INSIDE_S:.0f} s on {ways[0].host}", why)
        took = pod.rounds()[-1][asking.INSIDE].elapsed_s
    return passed(f"in {took:.2f} s", measured={"answer_s": took})


def _zero(model: Model, scene: Scene) -> Result:
    if model.min_replicas:
        return skipped(f"it is configured to keep at least {model.min_replicas} pods")
    if not model.instances:
        return skipped("config/models.yaml has no example for it")
    awake = predict.ask(scene.box, model, model.instances)
    if awake.obstacle:
        return failed("it does not answer, so that nothing can be said of its sleep", awake.obstacle)
    if not asking.pods(scene.box, model):
        return failed("it has just answered, and has no pod: what counts its pods does not see them")
    begun = time.monotonic()
    left = scene.observe(lambda: _still_up(asking.pods(scene.box, model)), ZERO_S)
    slept_s = time.monotonic() - begun
    if left:
        return failed(f"{slept_s:.0f} s after the last request it is not at zero", left)
    reply = predict.ask(scene.box, model, model.instances)
    return cycled(model, slept_s, reply, asking.pods(scene.box, model))


def _still_up(pods: Sequence[Obj]) -> str:
    told = [
        f"{each['metadata']['name']}{' (ending)' if each['metadata'].get('deletionTimestamp') else ''}" for each in pods
    ]
    return f"up: {', '.join(told)}" if told else ""


def cycled(model: Model, slept_s: float, reply: Reply, pods: Sequence[Obj]) -> Result:
    """Judge the answer of a model that was at zero."""
    if why := _wrong(model, reply):
        return failed(f"at zero after {slept_s:.0f} s, but it did not come back", why)
    if not pods:
        return failed("it answered at zero pods: something else answers for it")
    return passed(
        f"zero {slept_s:.0f} s after the last request; the first answer then took {reply.elapsed_s:.1f} s",
        measured={"to_zero_s": round(slept_s, 1), "cold_answer_s": round(reply.elapsed_s, 2)},
    )  # fmt: skip
