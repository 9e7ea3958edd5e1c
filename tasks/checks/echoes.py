"""The scratch tenants' models: what they say of what reached them (manifests/verify/echo.py), and routes to them."""

import copy
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tasks.lib import ground as grounds, routes
from tasks.lib.checks import Scene
from tasks.lib.errors import NotReady
from tasks.lib.ground import Ground
from tasks.lib.kube import follow
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.modelling import Model

SETTLE_S = 60.0

Line = Mapping[str, Any]
"""What a model logged of a call: `cell` (its mark), `path`, `headers`."""

_OK = 200
_CONTAINER = "kserve-container"
_REVISION = "serving.knative.dev/revision"


def end(mark: str) -> str:
    """Return the mark of a call that is made last: when a model has logged it, all before it is there."""
    return f"{mark}-end"


def logs(scene: Scene, model: Model, since_s: float) -> Iterator[str]:
    """Yield the log of each of a model's pods, as it was written in about so many seconds."""
    for pod in scene.box.kube.list("v1", "Pod", model.namespace, _REVISION, heads=True):
        yield follow.read(scene.box.kube, Ref.of(pod), _CONTAINER, sinceSeconds=int(since_s) + 30)


def heard(scene: Scene, models: Iterable[Model], run: str, since_s: float) -> list[Line]:
    """Return what models logged of a run (a part of its marks), up to the call of each that was made last.

    Raises NotReady when that is not in a model's log.
    """
    found: list[Line] = []

    def obstacle() -> str:
        found.clear()
        for model in models:
            lines = [each for text in logs(scene, model, since_s) for each in read_log(text, run)]
            if not any(each["cell"] == end(run) for each in lines):
                return f"{model.namespace}: the last call is not in the model's log"
            found.extend({**each, "tenant": model.tenant} for each in lines)
        return ""

    if why := scene.observe(obstacle, SETTLE_S):
        raise NotReady(why)
    return found


def reached(scene: Scene, model: Model, mark: str, since_s: float) -> int:
    """Return how many calls with this mark, a User-Agent, reached a model before the one that was made last.

    Raises NotReady when that is not in its log.
    """
    return sum(each["cell"] == mark for each in heard(scene, [model], mark, since_s))


def read_log(text: str, run: str) -> list[Line]:
    """Return the lines of a model's log that are of a run."""
    found: list[Line] = []
    for raw in text.splitlines():
        if run in raw:
            line = json.loads(raw)
            found.append({"cell": line["cell"], "path": line["path"], "headers": line["headers"]})
    return found


def seconds(scene: Scene, ground: Ground, model: Model) -> float:
    """Call a model as its tenant does; return the seconds that it took, below 0 when it was not answered."""
    begun = time.monotonic()
    right = grounds.ask(scene.box, model, ground.token(model.tenant)) == _OK
    return time.monotonic() - begun if right else -1.0


def host(model: Model, domain: str, name: str) -> str:
    """Return the host name of another route."""
    return f"{name}.{model.namespace}.{domain}"


def route(model: Model, domain: str, name: str) -> Obj:
    """Return another route of the edge to a model, like the model's own."""
    made = copy.deepcopy(routes.model_route(model, domain))
    made["metadata"]["name"] = name
    made["spec"]["hostnames"] = [host(model, domain, name)]
    return made
