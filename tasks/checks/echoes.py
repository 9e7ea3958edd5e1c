"""The scratch tenants' models: what they say of what reached them (manifests/verify/echo.py), and routes to them."""

import copy
import json
from collections.abc import Iterator

from tasks.lib import routes
from tasks.lib.checks import Scene
from tasks.lib.errors import NotReady
from tasks.lib.kube import follow
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.modelling import Model

SETTLE_S = 60.0

_CONTAINER = "kserve-container"
_REVISION = "serving.knative.dev/revision"


def end(mark: str) -> str:
    """Return the mark of a call that is made last: when a model has logged it, all before it is there."""
    return f"{mark}-end"


def logs(scene: Scene, model: Model, since_s: float) -> Iterator[str]:
    """Yield the log of each of a model's pods, as it was written in about so many seconds."""
    for pod in scene.box.kube.list("v1", "Pod", model.namespace, _REVISION, heads=True):
        yield follow.read(scene.box.kube, Ref.of(pod), _CONTAINER, sinceSeconds=int(since_s) + 30)


def reached(scene: Scene, model: Model, mark: str, since_s: float) -> int:
    """Return how many calls with this mark, a User-Agent, reached a model before the one that was made last.

    Raises NotReady when that is not in its log.
    """
    found: list[str] = []

    def obstacle() -> str:
        lines = [line for text in logs(scene, model, since_s) for line in text.splitlines() if mark in line]
        found[:] = [str(json.loads(line)["cell"]) for line in lines]
        return "" if end(mark) in found else f"{model.namespace}: the last call is not in the model's log"

    if why := scene.observe(obstacle, SETTLE_S):
        raise NotReady(why)
    return found.count(mark)


def host(model: Model, domain: str, name: str) -> str:
    """Return the host name of another route."""
    return f"{name}.{model.namespace}.{domain}"


def route(model: Model, domain: str, name: str) -> Obj:
    """Return another route of the edge to a model, like the model's own."""
    made = copy.deepcopy(routes.model_route(model, domain))
    made["metadata"]["name"] = name
    made["spec"]["hostnames"] = [host(model, domain, name)]
    return made
