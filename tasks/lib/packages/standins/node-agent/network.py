"""Pods on the network of the node: the CNI plugins' configuration, routes to the other nodes' pods, masquerading."""

import json
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/cni/net.d/10-node-agent.conflist")
_MTU = Path("/sys/class/net/eth0/mtu")
_NAT = "ip node_agent_nat"

Obj = dict[str, Any]


def conflist(pod_cidr: str, mtu: int) -> str:
    """Return the configuration of the CNI plugins: a veth pair for each pod, addresses from the node's own range."""
    ipam = {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": pod_cidr}]],
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "mtu": mtu, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "0.3.1", "name": "node-agent", "plugins": plugins}, indent=1)


def write_config(nodes: list[Obj], me: str, path: Path = CONFIG) -> None:
    """Write the configuration once this node has its range of addresses. The kubelet is ready from then on."""
    mine = next((each["spec"].get("podCIDR") for each in nodes if each["metadata"]["name"] == me), None)
    if not mine:
        return
    text = conflist(mine, int(_MTU.read_text()))
    if not path.exists() or path.read_text() != text:
        work = path.with_suffix(".new")
        work.write_text(text)
        work.rename(path)


def routes(nodes: list[Obj], me: str) -> dict[str, str]:
    """Return the way to the pods of every other node: range of addresses → address of the node."""
    found: dict[str, str] = {}
    for node in nodes:
        cidr = node["spec"].get("podCIDR")
        inside = [each["address"] for each in node["status"].get("addresses", []) if each["type"] == "InternalIP"]
        if node["metadata"]["name"] != me and cidr and inside:
            found[cidr] = inside[0]
    return found


def masquerade(pod_subnet: str) -> str:
    """Return the nftables script that hides pods behind their node on the way out of the cluster."""
    return (
        f"add table {_NAT}\ndelete table {_NAT}\ntable {_NAT} {{\n  chain postrouting {{\n"
        "    type nat hook postrouting priority srcnat; policy accept;\n"
        f"    ip saddr {pod_subnet} ip daddr != {pod_subnet} masquerade\n  }}\n}}\n"
    )
