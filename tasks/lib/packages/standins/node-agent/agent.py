"""Stands for kindnet and local-path-provisioner, whose modules are not served: network, NetworkPolicy and volumes.

One on each node, on the node's own network. Pods are connected by Debian's CNI plugins (network.py), NetworkPolicies
become nftables rules (policy.py), claims become folders (volumes.py).

Left untested by it: kindnet's and local-path-provisioner's own code; what policy.py names.
"""

import logging
import os
import subprocess
import time

import kubeapi
import network
import policy
import volumes
from kubeapi import Api, Mirror, Obj, Refused

COLLECTIONS = {
    "nodes": "/api/v1/nodes",
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
    "claims": "/api/v1/persistentvolumeclaims",
    "volumes": "/api/v1/persistentvolumes",
}
VOLUMES = COLLECTIONS["volumes"]

_CONFLICT, _NOT_FOUND = 409, 404
_RESYNC_S = 60.0
_AGAIN_S = 1.0

log = logging.getLogger("node-agent")


class Agent:
    """What this node has been told, so that only differences are acted on."""

    def __init__(self, api: Api, me: str) -> None:
        self._api = api
        self._me = me
        self._script = ""
        self._routes: dict[str, str] = {}

    def bring_about(self, found: dict[str, list[Obj]]) -> None:
        """Make the node what the cluster wants. Safe to repeat."""
        network.write_config(found["nodes"], self._me)
        self._route(network.routes(found["nodes"], self._me))
        self._enforce(policy.script(self._me, found["pods"], found["namespaces"], found["policies"]))
        self._provide(found)

    def _route(self, wanted: dict[str, str]) -> None:
        for cidr, via in wanted.items():
            if self._routes.get(cidr) != via:
                subprocess.run(["ip", "route", "replace", cidr, "via", via], check=True)
        for cidr in self._routes.keys() - wanted.keys():
            subprocess.run(["ip", "route", "delete", cidr], check=True)
        self._routes = wanted

    def _enforce(self, script: str) -> None:
        if script != self._script:
            nft(script)
            self._script = script
            log.info("policies: %d chains", script.count("counter drop"))

    def _provide(self, found: dict[str, list[Obj]]) -> None:
        for claim in volumes.wanted(found["claims"], self._me):
            made = volumes.volume(claim, self._me)
            volumes.make_folder(made["metadata"]["name"])
            self._allow(_CONFLICT, "POST", VOLUMES, made)
        for gone in volumes.released(found["volumes"], self._me):
            volumes.remove_folder(gone["metadata"]["name"])
            self._allow(_NOT_FOUND, "DELETE", f"{VOLUMES}/{gone['metadata']['name']}")

    def _allow(self, status: int, method: str, path: str, body: Obj | None = None) -> None:
        """Send a request; this refusal of it means that it was done before."""
        try:
            self._api.call(method, path, body)
        except Refused as error:
            if error.status != status:
                raise
        else:
            log.info("%s %s", method, path)


def nft(script: str) -> None:
    """Have the kernel take a script, all of it or nothing."""
    subprocess.run(["nft", "-f", "-"], input=script.encode(), check=True)


def main() -> None:
    """Run until told to end."""
    api, me = Api(), os.environ["NODE_NAME"]
    nft(network.masquerade(os.environ["POD_SUBNET"]))
    agent, mirror = Agent(api, me), Mirror(api, COLLECTIONS)
    while True:
        revision, found = mirror.read()
        try:
            agent.bring_about(found)
        except (OSError, subprocess.CalledProcessError) as error:
            log.warning("%s", error)
            time.sleep(_AGAIN_S)  # nothing tells when the kernel or the API server takes it
        else:
            mirror.wait(revision, _RESYNC_S)


if __name__ == "__main__":
    kubeapi.run(main)
