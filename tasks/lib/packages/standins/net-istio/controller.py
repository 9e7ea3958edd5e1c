"""Stands for net-istio 1.14.1, whose module is not served: turns Knative Ingresses into Istio VirtualServices.

It drives the real Istio: for each Ingress of Istio's class it writes one VirtualService (hosts, splits, header matches,
header changes, timeouts, host rewrites), then asks every ready gateway pod for the new configuration with Knative's own
probe (K-Network-Probe, K-Network-Hash), and only then says Ready. Hosts inside the cluster are not asked for: like
net-istio's, the probe speaks no mutual TLS, and the cluster-local gateway takes nothing else. Ready then means that the
VirtualService is there, and whoever waits for a model asks the model.

Left untested by it: net-istio's own code and its webhook; TLS on the gateways (external-domain-tls, cluster-local TLS);
HTTP options other than Enabled; gateways chosen by label; leader election (one replica, Recreate).
"""

import hashlib
import http.client
import json
import logging
from datetime import UTC, datetime
from typing import Any

import kubeapi
from kubeapi import Api, Mirror, key
from objects import IstioNames, virtual_service

API = "/apis/networking.internal.knative.dev/v1alpha1"
ISTIO = "/apis/networking.istio.io/v1beta1"
CLASS_ANNOTATION = "networking.knative.dev/ingress.class"
CLASS = "istio.ingress.networking.knative.dev"
NAMES = IstioNames()

INGRESSES = "ingresses"
RESYNC_S = 30.0
PROBE_S = 2.0
AGAIN_S = 0.25
MANAGER = "net-istio-stand-in"

log = logging.getLogger("net-istio")


class Controller:
    """Works off the Ingresses whose generation has not been dealt with."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._mirror = Mirror(api, {INGRESSES: f"{API}/ingresses"})
        self._done: dict[str, tuple[str, int, str]] = {}

    def work(self) -> None:
        """Reconcile what is not done; what is not there yet is tried again soon. Everything, now and then."""
        while True:
            revision, todo = self._todo()
            for ingress in todo:
                try:
                    self._reconcile(ingress)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    log.warning("%s: %s", key(ingress), error)
            news = self._mirror.wait(revision, AGAIN_S if todo else RESYNC_S)
            if not todo and not news:
                self._done.clear()

    def _todo(self) -> tuple[int, list[dict[str, Any]]]:
        revision, found = self._mirror.read()
        seen = {key(each): each for each in found[INGRESSES]}
        self._done = {name: mark for name, mark in self._done.items() if name in seen}
        return revision, [each for each in seen.values() if self._pending(each)]

    def _pending(self, ingress: dict[str, Any]) -> bool:
        if ingress["metadata"].get("annotations", {}).get(CLASS_ANNOTATION) != CLASS:
            return False
        return self._done.get(key(ingress)) != self._mark(ingress)

    def _mark(self, ingress: dict[str, Any]) -> tuple[str, int, str]:
        meta = ingress["metadata"]
        return meta["uid"], meta["generation"], self._ready_word(ingress)

    @staticmethod
    def _ready_word(ingress: dict[str, Any]) -> str:
        status = ingress.get("status", {})
        words = [each["status"] for each in status.get("conditions", []) if each["type"] == "Ready"]
        fresh = status.get("observedGeneration") == ingress["metadata"]["generation"]
        return (words or [""])[0] if fresh else ""

    def _reconcile(self, ingress: dict[str, Any]) -> None:
        if ingress["metadata"].get("deletionTimestamp"):
            return
        digest = hashlib.sha256((json.dumps(ingress["spec"], sort_keys=True) + key(ingress)).encode()).hexdigest()
        wanted = virtual_service(ingress, NAMES, digest)
        meta = wanted["metadata"]
        path = (
            f"{ISTIO}/namespaces/{meta['namespace']}/virtualservices/{meta['name']}?fieldManager={MANAGER}&force=true"
        )
        self._api.call("PATCH", path, wanted, kubeapi.APPLY)
        obstacle = self._unprobed(ingress, digest)
        after = self._report(ingress, obstacle)
        if not obstacle:
            self._done[key(after)] = self._mark(after)

    def _unprobed(self, ingress: dict[str, Any], digest: str) -> str:
        """Return which gateway pod does not answer with the new configuration yet; empty when all do."""
        pods = self._gateway_pods()
        if not pods:
            return "no gateway pod is ready"
        for rule in ingress["spec"].get("rules", []):
            if rule.get("visibility", "ExternalIP") != "ExternalIP":
                continue
            for host in rule.get("hosts", [])[:1]:
                for pod in pods:
                    if reason := _probe(pod, NAMES.external_port, host, digest):
                        return f"gateway pod {pod}, host {host}: {reason}"
        return ""

    def _gateway_pods(self) -> list[str]:
        found = self._api.call("GET", f"/api/v1/namespaces/{NAMES.namespace}/endpoints/{NAMES.gateway_service}")
        return [
            address["ip"] for subset in found.get("subsets", []) or [] for address in subset.get("addresses", []) or []
        ]

    def _report(self, ingress: dict[str, Any], obstacle: str) -> dict[str, Any]:
        status = _status(ingress, obstacle)
        if _same(ingress.get("status", {}), status):
            return ingress
        meta = ingress["metadata"]
        path = f"{API}/namespaces/{meta['namespace']}/ingresses/{meta['name']}/status"
        body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": status}
        return dict(self._api.call("PATCH", path, body, kubeapi.MERGE))


def _status(ingress: dict[str, Any], obstacle: str) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    load = {"type": "LoadBalancerReady", "status": "True", "lastTransitionTime": now}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
    if obstacle:
        why = {"status": "Unknown", "reason": "Uninitialized", "message": "Waiting for load balancer to be ready"}
        load, ready = {**load, **why}, {**ready, **why}
    network = {"type": "NetworkConfigured", "status": "True", "lastTransitionTime": now}
    return {
        "observedGeneration": ingress["metadata"]["generation"],
        "conditions": [load, network, ready],
        "publicLoadBalancer": {"ingress": [{"domainInternal": NAMES.host(NAMES.gateway_service)}]},
        "privateLoadBalancer": {"ingress": [{"domainInternal": NAMES.host(NAMES.local_service)}]},
    }


def _same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether nothing but times differs."""

    def bare(status: dict[str, Any]) -> object:
        conditions = [
            {k: v for k, v in each.items() if k != "lastTransitionTime"} for each in status.get("conditions", [])
        ]
        return {**status, "conditions": sorted(conditions, key=lambda each: each["type"])}

    return bool(bare(before) == bare(after))


def _probe(pod: str, port: int, host: str, digest: str) -> str:
    """Ask one gateway pod; return what is wrong, empty when it has the new configuration."""
    connection = http.client.HTTPConnection(pod, port, timeout=PROBE_S)
    try:
        headers = {
            "Host": host,
            "K-Network-Probe": "probe",
            "K-Network-Hash": "override",
            "User-Agent": "Knative-Ingress-Probe",
        }
        connection.request("GET", "/healthz", headers=headers)
        reply = connection.getresponse()
        reply.read()
    except OSError as error:
        return str(error)
    finally:
        connection.close()
    if reply.status != http.client.OK:
        return f"HTTP {reply.status}"
    return "" if reply.getheader("K-Network-Hash") == digest else "an older configuration answers"


def main() -> None:
    """Run for ever."""
    Controller(Api()).work()


if __name__ == "__main__":
    kubeapi.run(main)
