"""Asking a model for a prediction, the way a client does: by its host name, through every gateway, with a token."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.lib import gateway, identity, keys, tokens
from tasks.lib.box import Box
from tasks.lib.modelling import Model

PROTOCOLS = ("v1", "v2")
UNAUTHORIZED = 401
COLD_S = 120.0
"""Seconds for an answer: a model at zero starts first."""
_TTL_S = 300


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back. `obstacle` is empty exactly when `predictions` were returned."""

    status: int = 0
    predictions: list[Any] = field(default_factory=list)
    elapsed_s: float = 0.0
    obstacle: str = ""
    url: str = ""


def url(box: Box, model: Model) -> str:
    """Return the model's external URL."""
    return f"http://{model.host(box.settings.domain)}"


def mint(box: Box, model: Model) -> str:
    """Mint a token of a few minutes for one model. It is kept nowhere."""
    said = tokens.claims(model.tenant, ttl_s=_TTL_S, now=time.time(), jti=tokens.new_jti(), model=model.name)
    return keys.sign(said, identity.ring(box).current)


def ask(
    box: Box, model: Model, instances: Sequence[Any], *,
    protocol: str = "v1", token: str | None = None, timeout_s: float = COLD_S,
) -> Reply:  # fmt: skip
    """Send one predict call by protocol v1 or v2 and read the answer.

    Without `token` one is minted; with an empty one none is sent. The request goes to the gateway's own address with
    the model's host name, so that no name has to resolve. A connection that fails, a status other than 200 and a body
    that is not a prediction are obstacles, told apart.
    """
    import requests

    path, body = _request(model, instances, protocol)
    where = f"{gateway.url(box)}{path}"
    headers = {"Host": model.host(box.settings.domain), "Content-Type": "application/json"}
    bearer = mint(box, model) if token is None else token
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    begun = time.monotonic()
    try:
        found = requests.post(where, data=json.dumps(body), headers=headers, timeout=(5, timeout_s))
    except requests.RequestException as error:
        return Reply(obstacle=f"{model.name}: no answer from {where}: {type(error).__name__}", url=where)
    elapsed = time.monotonic() - begun
    if found.status_code != requests.codes.ok:
        text = " ".join(found.text.split())[:120]
        return Reply(
            status=found.status_code, elapsed_s=elapsed, url=where,
            obstacle=f"{model.name}: HTTP {found.status_code} {text}".rstrip(),
        )  # fmt: skip
    try:
        predictions = _read(found.json(), protocol)
    except (ValueError, KeyError, IndexError, TypeError):
        return Reply(status=found.status_code, obstacle=f"{model.name}: the answer is not a prediction", url=where)
    return Reply(status=found.status_code, predictions=predictions, elapsed_s=elapsed, url=where)


def _request(model: Model, instances: Sequence[Any], protocol: str) -> tuple[str, dict[str, Any]]:
    if protocol == "v1":
        return model.predict_path, {"instances": list(instances)}
    width = len(instances[0]) if instances else 0
    data = [value for instance in instances for value in instance]
    tensor = {"name": "input-0", "shape": [len(instances), width], "datatype": "FP32", "data": data}
    return f"/v2/models/{model.name}/infer", {"inputs": [tensor]}


def _read(answer: dict[str, Any], protocol: str) -> list[Any]:
    return list(answer["predictions"] if protocol == "v1" else answer["outputs"][0]["data"])
