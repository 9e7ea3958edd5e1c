"""Models by command: list and predict."""

import json
import sys
from pathlib import Path
from typing import Any

from tasks.lib import predict as prediction
from tasks.lib.errors import BadInput, NotReady
from tasks.lib.kube import status
from tasks.lib.kube.api import Ref
from tasks.lib.modelling import Model
from tasks.lib.session import Session
from tasks.lib.tenants import columns


def show(session: Session, *, as_json: bool) -> None:
    """Print the models: state, pods, URLs."""
    rows = [_row(session, model) for model in session.models]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = [("NAME", "TENANT", "FORMAT", "STATE", "PODS", "URL")]
    table += [(row["name"], row["tenant"], row["format"], row["state"], str(row["pods"]), row["url"]) for row in rows]
    sys.stdout.write(columns(table))


def _row(session: Session, model: Model) -> dict[str, Any]:
    state, pods = "absent", 0
    if session.box.cluster_there():
        kube = session.box.kube
        found = kube.get(Ref("serving.kserve.io/v1beta1", "InferenceService", model.namespace, model.name))
        if found:
            state = str(status.compute(found).state).lower().replace("current", "ready")
            pods = len(running_pods(session, model))
    return {
        "name": model.name,
        "tenant": model.tenant,
        "format": model.format,
        "state": state,
        "pods": pods,
        "url": prediction.url(session.box, model),
        "cluster_url": f"http://{model.inside}",
    }


def running_pods(session: Session, model: Model) -> list[dict[str, Any]]:
    """Return the model's pods that are not on their way out."""
    selector = f"serving.kserve.io/inferenceservice={model.name}"
    found = session.box.kube.list("v1", "Pod", model.namespace, selector)
    return [each for each in found if not each["metadata"].get("deletionTimestamp")]


def predict(session: Session, name: str, *, data: str, protocol: str) -> None:
    """Print a model's predictions. Raises BadInput for data that is not a list of instances, NotReady for no answer."""
    model = session.model(name)
    if protocol not in prediction.PROTOCOLS:
        raise BadInput(f"--protocol: {protocol!r} is not spoken", facts={"known": ", ".join(prediction.PROTOCOLS)})
    instances = _instances(data) if data else list(model.instances)
    reply = prediction.ask(session.box, model, instances, protocol=protocol)
    if reply.obstacle:
        raise NotReady(reply.obstacle, hint="invoke status")
    sys.stderr.write(f"{model.tenant}/{model.name} answered by {protocol} in {reply.elapsed_s:.2f} s\n")
    sys.stdout.write(json.dumps(reply.predictions) + "\n")


def _instances(data: str) -> list[Any]:
    text = data
    if data.startswith("@"):
        path = Path(data[1:]).expanduser()
        if not path.is_file():
            raise BadInput(f"--data: there is no file {path}")
        text = path.read_text()
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"--data: line {error.lineno}: not JSON: {error.msg}") from None
    if isinstance(found, dict) and "instances" in found:
        found = found["instances"]
    if not isinstance(found, list) or not found or not all(isinstance(each, list) for each in found):
        raise BadInput("--data: not a list of instances", hint="--data '[[5.1, 3.5, 1.4, 0.2]]'")
    return found
