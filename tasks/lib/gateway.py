"""Where this machine reaches the ingress gateway."""

from tasks.lib import names
from tasks.lib.box import Box
from tasks.lib.errors import NotReady
from tasks.lib.kube.api import Ref

_SERVICE = Ref("v1", "Service", names.ISTIO_NAMESPACE, names.INGRESS_GATEWAY)


def url(box: Box) -> str:
    """Return the gateway's address for plain HTTP.

    The provider knows it when it publishes ports; otherwise the Service's load balancer has it. Raises NotReady when
    the load balancer has no address yet.
    """
    if known := box.provider.gateway_url():
        return known
    service = box.kube.get(_SERVICE) or {}
    for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress") or []:
        if address := entry.get("ip") or entry.get("hostname"):
            return f"http://{address}"
    raise NotReady(
        f"{_SERVICE} has no address",
        facts={"cause": "its load balancer has not been given one"},
        hint=f"kubectl --namespace {names.ISTIO_NAMESPACE} port-forward service/{names.INGRESS_GATEWAY} 8080:80",
    )
