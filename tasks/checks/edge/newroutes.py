"""A route that has just been made tells a stranger nothing of other routes.

Until the edge's proxy knows what to ask the callers of a route for, Envoy's own answer to them lists the routes of all
tenants. A stranger asks from before the route is there; and because the moment may be missed, two answers like that are
had on purpose.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from tasks.checks import echoes
from tasks.checks.edge import answers, meanwhile
from tasks.checks.edge.answers import Answer
from tasks.lib import ground as grounds
from tasks.lib.checks import Check, Result, Scene, failed, passed
from tasks.lib.ground import Ground
from tasks.lib.kube.api import Obj
from tasks.lib.modelling import Model
from tasks.lib.scratch import Scratch

ID = "edge.new-routes"
STAGE = "edge"

NAME = "new-route"
TELLING = {"few": 1, "many": 60}
"""How many routes an answer names: so that it is short, and so that it is long."""

LONGEST = 100
"""Characters of an error that names nobody."""

MADE_S = 60.0
_OK, _UNKNOWN, _DENIED, _NOT_YET = 200, 401, 403, 503
_STEP_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the new route answered to whoever has no token, from before it was there; and what came of `TELLING`."""

    strangers: Collection[Answer]
    telling: Collection[Answer]


def checks(ground: Ground) -> list[Check]:
    """Return the claim."""
    return [
        Check(
            id=ID, stage=STAGE, needs=("edge", "ingress-gateway"), probe=partial(_probe, ground), timeout_s=420,
            claim="a route that has just been made tells a stranger nothing of other routes",
            fix="invoke gateway --force",
        )
    ]  # fmt: skip


def _probe(ground: Ground, scene: Scene) -> Result:
    ground.open(scene)
    model, domain = ground.models[0], scene.box.settings.domain
    token, host = ground.token(model.tenant), {"Host": echoes.host(model, domain, NAME)}

    def obstacle() -> str:
        status = grounds.ask(scene.box, model, token, host)
        return "" if status == _OK else f"the new route does not answer yet: HTTP {status}"

    strangers = set[Answer]()

    def ask() -> None:
        strangers.add(answers.read(grounds.post(scene.box, model, "", host)))

    with Scratch(scene.box.kube, "new-routes", scene.box.cancel) as scratch, meanwhile.doing(ask, _STEP_S):
        scratch.put(*objects(model, domain))
        if why := scene.observe(obstacle, MADE_S):
            return failed(why)
        telling = [answers.read(grounds.post(scene.box, model, token, {**host, NAME: each})) for each in TELLING]
    return judge(Seen(strangers=strangers, telling=telling))


def objects(model: Model, domain: str) -> list[Obj]:
    """Return the new route. With a header it answers by itself, naming routes as Envoy would."""
    made = echoes.route(model, domain, NAME)
    filters = []
    for which, count in TELLING.items():
        listed = "httproute/tenant-a/iris/rule/0/match/1," * count
        name = f"{NAME}-{which}"
        answer = {
            "contentType": "text/plain", "statusCode": _DENIED,
            "body": {"type": "Inline", "inline": f"Wrong requirement_name: x. It should be one of [{listed}]"},
        }  # fmt: skip
        group, kind = "gateway.envoyproxy.io", "HTTPRouteFilter"
        meta = {"name": name, "namespace": model.namespace}
        filters.append(
            {"apiVersion": f"{group}/v1alpha1", "kind": kind, "metadata": meta, "spec": {"directResponse": answer}}
        )
        path = {"type": "Exact", "value": model.predict_path}
        made["spec"]["rules"].append(
            {
                "matches": [{"path": path, "method": "POST", "headers": [{"name": NAME, "value": which}]}],
                "filters": [{"type": "ExtensionRef", "extensionRef": {"group": group, "kind": kind, "name": name}}],
            }
        )
    return [*filters, made]


def judge(seen: Seen) -> Result:
    """Judge what was seen."""
    wrong = []
    for who, found, right in (
        ("a stranger", seen.strangers, (_UNKNOWN, _NOT_YET)),
        ("an answer that names routes", seen.telling, (_NOT_YET,)),
    ):
        wrong += [
            f"{who}: {each}; {' or '.join(map(str, right))} in JSON, and no names, is right"
            for each in found
            if not (each.status in right and each.typed and len(each.body) <= LONGEST)
        ]
    if not seen.strangers or len(seen.telling) != len(TELLING):
        wrong.append("not everything was asked")
    if wrong:
        return failed("a new route tells of others", "\n".join(wrong))
    told = ", ".join(sorted({f"{each.status} {each.body}" for each in seen.strangers}))
    return passed(f"a stranger was told {told}; answers that name routes came as {_NOT_YET}")
