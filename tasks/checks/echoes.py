"""The scratch tenants' models: what they say of what reached them (manifests/verify/echo.py), and routes to them."""

import copy
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.lib import ground as grounds, routes
from tasks.lib.checks import Scene
from tasks.lib.ground import Ground
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.kube.follow import Recording
from tasks.lib.modelling import Model

SETTLE_S = 60.0

Line = Mapping[str, Any]
"""What a model logged of a call: `cell` (its mark), `path`, `headers`, and the `tenant` whose model it is."""

_OK = 200
_CONTAINER = "kserve-container"
_REVISION = "serving.knative.dev/revision"


def end(mark: str) -> str:
    """Return the mark of a call that is made last: when a model has logged it, all before it is there."""
    return f"{mark}-end"


class Ears:
    """Hears what models log of a run, a part of its calls' marks, until they are closed.

    A log that is read when all is over may have been rotated, and not have it any more.
    """

    def __init__(self, scene: Scene, models: Iterable[Model], run: str) -> None:
        self._scene, self._run = scene, run
        self._recordings = {model.tenant: _recording(scene, model, run) for model in models}

    def heard(self) -> list[Line]:
        """Return what the models were asked by now."""
        return [
            {"cell": line["cell"], "path": line["path"], "headers": line["headers"], "tenant": tenant}
            for tenant, recording in self._recordings.items()
            for line in map(json.loads, recording.lines())
        ]

    def other_than(self, wanted: int) -> str:
        """Return how many calls came when they are not so many; empty when they are."""
        count = len(self.heard())
        return "" if count == wanted else f"{count} of {wanted} calls have reached the model"

    def all(self) -> list[Line]:
        """Return what they were asked before the call of each that was made last. Raises NotReady without that."""
        found: list[Line] = []

        def obstacle() -> str:
            found[:] = self.heard()
            missing = {*self._recordings} - {each["tenant"] for each in found if each["cell"] == end(self._run)}
            return f"{min(missing)}: the last call is not in the model's log" if missing else ""

        self._scene.require(obstacle, SETTLE_S)
        return found

    def reached(self, mark: str) -> int:
        """Return how many calls with a mark reached the models. Raises NotReady as `all`."""
        return sum(each["cell"] == mark for each in self.all())

    def close(self) -> None:
        """Hear no more."""
        for each in self._recordings.values():
            each.close()


def _recording(scene: Scene, model: Model, run: str) -> Recording:
    kube = scene.box.kube
    pods = kube.list("v1", "Pod", model.namespace, _REVISION, heads=True)
    return Recording(kube, [(Ref.of(each), _CONTAINER) for each in pods], run)


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
