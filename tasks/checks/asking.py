"""Asking a model from inside the cluster: the ways there are, and whether it answered."""

import json
from collections.abc import Sequence

from tasks.lib import names
from tasks.lib.box import Box
from tasks.lib.kube.api import Obj
from tasks.lib.modelling import Model
from tasks.lib.probepods import ROUNDS, Attempt, Rounds, Way

INSIDE, GATEWAY = "cluster-local URL", "ingress gateway"

_HTTP, _OK = 80, 200


def ways(model: Model, domain: str, token: str) -> list[Way]:
    """Return the two ways through the mesh: the model's cluster-local URL, and its external one on the gateway."""
    gateway = names.service_host(names.INGRESS_GATEWAY, names.ISTIO_NAMESPACE)
    hosts = {INSIDE: (model.inside, ""), GATEWAY: (gateway, model.host(domain))}
    return [
        Way(
            name=name, host=host, port=_HTTP, host_header=header, method="POST",
            path=model.predict_path, body={"instances": list(model.instances)}, token=token,
        ) for name, (host, header) in hosts.items()
    ]  # fmt: skip


def pod_labels(model: Model) -> dict[str, str]:
    """Return the labels of the model's pods."""
    return {"serving.kserve.io/inferenceservice": model.name}


def pods(box: Box, model: Model) -> list[Obj]:
    """Return every pod of the model, those on their way out included."""
    selector = ",".join(f"{key}={value}" for key, value in pod_labels(model).items())
    return box.kube.list("v1", "Pod", model.namespace, selector)


def unanswered(rounds: Rounds, names_: Sequence[str], model: Model, who: str) -> str:
    """Return what stands in the way of: in the newest rounds, the model answered right on each way. Empty: nothing."""
    newest = rounds[-ROUNDS:]
    if len(newest) < ROUNDS:
        return f"{who}: has not asked often enough yet"
    for each in newest:
        for way in names_:
            if why := wrong(each.get(way), model):
                return f"{who}: {way}: {why}"
    return ""


def wrong(attempt: Attempt | None, model: Model) -> str:
    """Return what is wrong with an answer; empty when it is the right one."""
    if attempt is None:
        return "not tried"
    if attempt.status != _OK:
        return str(attempt).removeprefix(f"{attempt.way}: ")
    try:
        predictions = json.loads(attempt.body)["predictions"]
    except (ValueError, KeyError, TypeError):
        return f"not a prediction: {attempt.body[:120]}"
    return "" if predictions == list(model.predictions) else f"{predictions} instead of {list(model.predictions)}"
