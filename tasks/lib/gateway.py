"""Where this machine reaches the ingress gateway, and what answers there when nothing else does."""

from tasks.lib import names, routes
from tasks.lib.box import Box
from tasks.lib.errors import NotReady
from tasks.lib.kube.api import Ref

_SERVICE = Ref("v1", "Service", names.ISTIO_NAMESPACE, names.INGRESS_GATEWAY)


def url(box: Box, *, tls: bool = False) -> str:
    """Return the gateway's address for plain HTTP, or for TLS.

    The provider knows it when it publishes ports; otherwise the Service's load balancer has it. Raises NotReady when
    the load balancer has no address yet.
    """
    if known := box.provider.gateway_url(tls=tls):
        return known
    service = box.kube.get(_SERVICE) or {}
    for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress") or []:
        if address := entry.get("ip") or entry.get("hostname"):
            return f"{'https' if tls else 'http'}://{address}"
    raise NotReady(
        f"{_SERVICE} has no address",
        facts={"cause": "its load balancer has not been given one"},
        hint=f"kubectl --namespace {names.ISTIO_NAMESPACE} port-forward service/{names.INGRESS_GATEWAY} 8080:80",
    )


def default_answers(box: Box) -> str | None:
    """What no route matches gets the edge's own answer: it went through Istio's gateway and Envoy Gateway's."""
    import requests

    where = f"{url(box)}/"
    try:
        found = requests.get(where, headers={"Host": f"nobody.{box.settings.domain}"}, timeout=(5, 10))
    except requests.RequestException as error:
        return f"no answer from {where}: {type(error).__name__}"
    if (found.status_code, found.text) != (requests.codes.not_found, routes.NOT_FOUND):
        return f"{where}: HTTP {found.status_code} {found.text[:80]!r} instead of the edge's own 404"
    return None
