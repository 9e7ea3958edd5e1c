"""Stands for net-istio's translation: one Knative Ingress in, one VirtualService out. Pure.

Left untested by it: net-istio's own translation (it writes separate VirtualServices for the mesh and for gateways).
"""

from dataclasses import dataclass
from typing import Any

_SUFFIXES = ("", ".cluster.local", ".svc.cluster.local")
_HASH = "K-Network-Hash"
_LONGEST_S = "600s"


@dataclass(frozen=True)
class IstioNames:
    """Where Istio's gateway is, and which Gateways stand for outside and inside."""

    namespace: str = "istio-system"
    gateway_service: str = "istio-ingressgateway"
    local_service: str = "knative-local-gateway"
    external_gateway: str = "knative-serving/knative-ingress-gateway"
    local_gateway: str = "knative-serving/knative-local-gateway"
    external_port: int = 80

    def host(self, service: str) -> str:
        """Return a Service's name in the cluster."""
        return f"{service}.{self.namespace}.svc.cluster.local"


def virtual_service(ingress: dict[str, Any], names: IstioNames, digest: str) -> dict[str, Any]:
    """Return the VirtualService of an Ingress; `digest` is what a probe gets back when this version is in force."""
    meta = ingress["metadata"]
    hosts: dict[str, None] = {}
    gateways: dict[str, None] = {}
    routes: list[dict[str, Any]] = []
    for rule in ingress["spec"].get("rules", []):
        external = rule.get("visibility", "ExternalIP") == "ExternalIP"
        gateway = names.external_gateway if external else names.local_gateway
        spread = [name for host in rule.get("hosts", []) for name in _expanded(host, external=external)]
        hosts.update(dict.fromkeys(spread))
        gateways[gateway] = None
        paths = rule.get("http", {}).get("paths", [])
        routes += [_route(path, spread, gateway, probe=digest) for path in paths]
        routes += [_route(path, spread, gateway) for path in paths]
    return {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": {
            "name": f"{meta['name']}-ingress",
            "namespace": meta["namespace"],
            "labels": {
                "networking.internal.knative.dev/ingress": meta["name"],
                **{
                    key: value
                    for key, value in meta.get("labels", {}).items()
                    if key.startswith("serving.knative.dev/")
                },
            },
            "ownerReferences": [
                {
                    "apiVersion": "networking.internal.knative.dev/v1alpha1",
                    "kind": "Ingress",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {"hosts": list(hosts), "gateways": list(gateways), "http": routes},
    }


def _expanded(host: str, *, external: bool) -> list[str]:
    """A name inside the cluster is also known by its shorter forms (those with a dot: Istio takes no bare label)."""
    if external:
        return [host]
    short = [host.removesuffix(suffix) for suffix in _SUFFIXES if host.endswith(suffix)]
    return list(dict.fromkeys(name for name in short if "." in name))


def _route(path: dict[str, Any], hosts: list[str], gateway: str, probe: str = "") -> dict[str, Any]:
    headers = {name: {"exact": match["exact"]} for name, match in path.get("headers", {}).items()}
    added = dict(path.get("appendHeaders", {}))
    if probe:
        headers[_HASH] = {"exact": "override"}
        added[_HASH] = probe
    route: dict[str, Any] = {
        "match": [_match(path, host, gateway, headers) for host in hosts],
        "route": [_destination(split) for split in path.get("splits", [])],
        "timeout": path.get("timeout") or _LONGEST_S,
        "retries": {"attempts": 0},
    }
    if added:
        route["headers"] = {"request": {"set": added}}
    if path.get("rewriteHost"):
        route["rewrite"] = {"authority": path["rewriteHost"]}
    return route


def _match(path: dict[str, Any], host: str, gateway: str, headers: dict[str, Any]) -> dict[str, Any]:
    match: dict[str, Any] = {"gateways": [gateway], "authority": {"regex": rf"{host.replace('.', '[.]')}(?::\d+)?"}}
    if path.get("path"):
        match["uri"] = {"prefix": path["path"]}
    if headers:
        match["headers"] = headers
    return match


def _destination(split: dict[str, Any]) -> dict[str, Any]:
    host = f"{split['serviceName']}.{split['serviceNamespace']}.svc.cluster.local"
    port = split["servicePort"]
    made: dict[str, Any] = {
        "destination": {"host": host, "port": {"number": int(port)} if str(port).isdigit() else {"number": 80}},
        "weight": int(split.get("percent", 100)),
    }
    if split.get("appendHeaders"):
        made["headers"] = {"request": {"set": split["appendHeaders"]}}
    return made
