"""Stands for net-istio 1.14.1, whose module is not served: turns Knative Ingresses into Istio VirtualServices.

It drives the real Istio: for each Ingress of Istio's class it writes one VirtualService (hosts, splits, header matches,
header changes, timeouts, host rewrites), then asks every ready gateway pod for the new configuration with Knative's own
probe (K-Network-Probe, K-Network-Hash), and only then says Ready.

Left untested by it: net-istio's own code and its webhook; TLS on the gateways (external-domain-tls, cluster-local TLS);
HTTP options other than Enabled; gateways chosen by label; leader election (one replica, Recreate).
"""

import hashlib
import http.client
import json
import logging
import ssl
import threading
import time
import urllib.parse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from objects import IstioNames, virtual_service

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API = "/apis/networking.internal.knative.dev/v1alpha1"
ISTIO = "/apis/networking.istio.io/v1beta1"
CLASS_ANNOTATION = "networking.knative.dev/ingress.class"
CLASS = "istio.ingress.networking.knative.dev"
NAMES = IstioNames()

WATCH_S = 240
RESYNC_S = 30.0
PROBE_S = 2.0
AGAIN_S = 0.25
MANAGER = "net-istio-stand-in"

log = logging.getLogger("net-istio")


class Api:
    """The API server, with the pod's own token."""

    def __init__(self) -> None:
        self._context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))

    def connect(self, timeout_s: float) -> http.client.HTTPSConnection:
        """Open a connection."""
        return http.client.HTTPSConnection("kubernetes.default.svc", 443, timeout=timeout_s, context=self._context)

    def headers(self, content_type: str = "application/json") -> dict[str, str]:
        """Return the headers of a request; the token is read each time, because it is renewed."""
        token = (ACCOUNT / "token").read_text().strip()
        return {"Authorization": f"Bearer {token}", "Accept": "application/json", "Content-Type": content_type}

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """Send a request and return the answer. Raises OSError with the status for anything but success."""
        connection = self.connect(15)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, self.headers(content_type))
            reply = connection.getresponse()
            data = reply.read()
        finally:
            connection.close()
        if reply.status >= 300:
            raise OSError(f"{method} {path}: HTTP {reply.status} {data[:300]!r}")
        return json.loads(data)


class Controller:
    """Keeps the newest version of each Ingress, and works off those whose generation has not been dealt with."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Condition()
        self._seen: dict[str, dict[str, Any]] = {}
        self._done: dict[str, tuple[str, int, str]] = {}

    def watch(self) -> None:
        """Follow the Ingresses for ever; after each break, list anew."""
        while True:
            try:
                self._follow()
            except (OSError, http.client.HTTPException, ValueError) as error:
                log.warning("watch: %s", error)
                time.sleep(1)  # nothing to wait for: the API server went away

    def _follow(self) -> None:
        found = self._api.call("GET", f"{API}/ingresses")
        with self._lock:
            self._seen = {_key(each): each for each in found["items"]}
            self._lock.notify()
        query = urllib.parse.urlencode(
            {"watch": "1", "resourceVersion": found["metadata"]["resourceVersion"], "timeoutSeconds": WATCH_S}
        )
        connection = self._api.connect(WATCH_S + 30)
        try:
            connection.request("GET", f"{API}/ingresses?{query}", headers=self._api.headers())
            for line in connection.getresponse():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self._take(event)
        finally:
            connection.close()

    def _take(self, event: dict[str, Any]) -> None:
        with self._lock:
            key = _key(event["object"])
            if event["type"] == "DELETED":
                self._seen.pop(key, None)
                self._done.pop(key, None)
            else:
                self._seen[key] = event["object"]
            self._lock.notify()

    def work(self) -> None:
        """Reconcile what is not done; what is not there yet is tried again soon."""
        while True:
            with self._lock:
                todo = [each for each in self._seen.values() if self._pending(each)]
                if not todo:
                    self._lock.wait(RESYNC_S)
                    self._done.clear() if not any(map(self._pending, self._seen.values())) else None
                    continue
            for ingress in todo:
                try:
                    self._reconcile(ingress)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    log.warning("%s: %s", _key(ingress), error)
            with self._lock:
                self._lock.wait(AGAIN_S)

    def _pending(self, ingress: dict[str, Any]) -> bool:
        if ingress["metadata"].get("annotations", {}).get(CLASS_ANNOTATION) != CLASS:
            return False
        return self._done.get(_key(ingress)) != self._mark(ingress)

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
        digest = hashlib.sha256(
            (json.dumps(ingress["spec"], sort_keys=True) + _key(ingress)).encode()
        ).hexdigest()
        wanted = virtual_service(ingress, NAMES, digest)
        meta = wanted["metadata"]
        path = f"{ISTIO}/namespaces/{meta['namespace']}/virtualservices/{meta['name']}?fieldManager={MANAGER}&force=true"
        self._api.call("PATCH", path, wanted, "application/apply-patch+yaml")
        obstacle = self._unprobed(ingress, digest)
        after = self._report(ingress, obstacle)
        if not obstacle:
            with self._lock:
                self._done[_key(after)] = self._mark(after)

    def _unprobed(self, ingress: dict[str, Any], digest: str) -> str:
        """Return which gateway pod does not answer with the new configuration yet; empty when all do."""
        pods = self._gateway_pods()
        if not pods:
            return "no gateway pod is ready"
        for rule in ingress["spec"].get("rules", []):
            port = NAMES.external_port if rule.get("visibility", "ExternalIP") == "ExternalIP" else NAMES.local_port
            for host in rule.get("hosts", [])[:1]:
                for pod in pods:
                    if reason := _probe(pod, port, host, digest):
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
        return dict(self._api.call("PATCH", path, body, "application/merge-patch+json"))


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

    def bare(status: dict[str, Any]) -> Any:
        conditions = [{k: v for k, v in each.items() if k != "lastTransitionTime"} for each in status.get("conditions", [])]
        return {**status, "conditions": sorted(conditions, key=lambda each: each["type"])}

    return bool(bare(before) == bare(after))


def _probe(pod: str, port: int, host: str, digest: str) -> str:
    """Ask one gateway pod; return what is wrong, empty when it has the new configuration."""
    connection = http.client.HTTPConnection(pod, port, timeout=PROBE_S)
    try:
        headers = {"Host": host, "K-Network-Probe": "probe", "K-Network-Hash": "override", "User-Agent": "Knative-Ingress-Probe"}
        connection.request("GET", "/healthz", headers=headers)
        reply = connection.getresponse()
        reply.read()
    except OSError as error:
        return str(error)
    finally:
        connection.close()
    if reply.status != 200:
        return f"HTTP {reply.status}"
    return "" if reply.getheader("K-Network-Hash") == digest else "an older configuration answers"


def _key(ingress: dict[str, Any]) -> str:
    return f"{ingress['metadata']['namespace']}/{ingress['metadata']['name']}"


def main() -> None:
    """Run for ever."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    controller = Controller(Api())
    threading.Thread(target=controller.watch, daemon=True).start()
    controller.work()


if __name__ == "__main__":
    main()
