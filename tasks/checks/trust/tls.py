"""TLS at the edge: a client that trusts the platform's root, and nothing else, is served under the model's own name."""

import json
import ssl
from collections.abc import Sequence
from functools import partial
from urllib.parse import urlsplit

from tasks.components import models as components
from tasks.lib import gateway, predict, trust
from tasks.lib.checks import Check, Result, Scene, failed, passed, unmade
from tasks.lib.modelling import Model

TLS = "trust.tls"

_OK = 200


def checks(models: Sequence[Model]) -> list[Check]:
    """Return the claim about each model that has an example."""
    asked = [_check(model) for model in models if model.instances]
    return asked or [unmade(TLS, "trust", "a model answers over TLS", "there is no model with an example")]


def _check(model: Model) -> Check:
    name = f"{model.tenant}/{model.name}"
    return Check(
        id=TLS, subject=name, stage="trust", needs=(components.component_name(model), "edge"),
        claim=f"{name} answers over TLS to whoever trusts the platform's root, and has its token",
        probe=partial(_probe, model), timeout_s=2 * predict.COLD_S, fix="invoke gateway tenants --force",
    )  # fmt: skip


def _probe(model: Model, scene: Scene) -> Result:
    trusted = trust.client(scene.box)
    own, none = (_ask(scene, model, trusted, token) for token in (predict.mint(scene.box, model), ""))
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
    return judge(model, own, none, _ask(scene, model, stranger, ""))


def _ask(scene: Scene, model: Model, trusted: ssl.SSLContext, token: str) -> tuple[int, str]:
    """Return the status and the body; 0 and the reason when no connection comes about.

    The name is checked, although nothing has to resolve it: the address is the gateway's own.
    """
    import urllib3

    address, host = urlsplit(gateway.url(scene.box, tls=True)), model.host(scene.box.settings.domain)
    pool = urllib3.HTTPSConnectionPool(
        str(address.hostname), address.port or 443, ssl_context=trusted, server_hostname=host, assert_hostname=host,
        retries=False, timeout=urllib3.Timeout(connect=5, read=predict.COLD_S),
    )  # fmt: skip
    headers = {"Host": host, "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps({"instances": list(model.instances)})
    try:
        reply = pool.request("POST", model.predict_path, body=body, headers=headers)
    except urllib3.exceptions.HTTPError as error:
        return 0, str(error)
    return reply.status, reply.data.decode(errors="replace")


def judge(model: Model, own: tuple[int, str], none: tuple[int, str], stranger: tuple[int, str]) -> Result:
    """Judge what was answered to the right token, to none, and to a client that trusts nobody."""
    wanted = list(model.predictions)
    try:
        right = own[0] == _OK and json.loads(own[1])["predictions"] == wanted
    except (ValueError, KeyError, TypeError):
        right = False
    if not right:
        return failed(f"no right answer over TLS: {own[0] or 'no connection'}", own[1][:300])
    if none[0] != predict.UNAUTHORIZED:
        return failed(f"without a token the answer is {none[0] or 'no connection'} instead of 401", none[1][:300])
    if stranger[0] or "CERTIFICATE_VERIFY_FAILED" not in stranger[1]:
        return failed("a client that trusts nobody was not kept from it by the certificate", stranger[1][:300])
    return passed(f"{wanted}, verified against the platform's root; 401 without a token; not trusted without the root")
