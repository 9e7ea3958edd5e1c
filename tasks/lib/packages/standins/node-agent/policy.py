"""NetworkPolicies as one nftables table for one node. Pure: objects in, a script for `nft -f` out.

A pod that a policy selects gets a chain for each direction it is isolated in; what no rule of any of its policies lets
through is dropped there. Egress is judged on the node of the sender, ingress on the node of the receiver, both on the
addresses after Services are resolved (hook forward). What a node itself sends to its own pods (the kubelet's probes)
does not pass that hook, as Kubernetes wants it.

Left untested by it: a pod that talks to itself through a Service; SCTP; IPv6; the moment between a pod's start and its
address being known to the API server, in which it is not yet isolated.
"""

from collections.abc import Iterable
from typing import Any

TABLE = "inet node_agent_policy"

_INGRESS, _EGRESS = "Ingress", "Egress"
_OVER = ("Succeeded", "Failed")

Obj = dict[str, Any]


def script(node: str, pods: Iterable[Obj], namespaces: Iterable[Obj], policies: Iterable[Obj]) -> str:
    """Return the script that replaces the node's table in one transaction."""
    world = _World(pods, namespaces)
    chains: list[str] = []
    maps: dict[str, list[str]] = {_INGRESS: [], _EGRESS: []}
    known = sorted(policies, key=lambda each: (each["metadata"]["namespace"], each["metadata"]["name"]))
    for pod in sorted(world.pods, key=_address):
        if pod["spec"].get("nodeName") != node:
            continue
        mine = [each for each in known if _selected_by(pod, each)]
        for direction, prefix in ((_EGRESS, "out"), (_INGRESS, "in")):
            isolating = [each for each in mine if direction in _types(each["spec"])]
            if isolating:
                name = f"{prefix}_{_address(pod).replace('.', '_')}"
                chains.append(_chain(name, pod, direction, isolating, world))
                maps[direction].append(f"{_address(pod)} : jump {name}")
    return _table(chains, maps)


class _World:
    """The pods with an address of their own, and the labels of their namespaces."""

    def __init__(self, pods: Iterable[Obj], namespaces: Iterable[Obj]) -> None:
        # An address that is given again belongs to the newest pod, however long the old one takes to go.
        newest = sorted(filter(_on_the_network, pods), key=lambda each: str(each["metadata"].get("creationTimestamp")))
        self.pods = list({_address(each): each for each in newest}.values())
        self.namespaces = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in namespaces}

    def peers(self, peer: Obj, home: str) -> list[Obj]:
        """Return the pods that a peer's selectors name, seen from a policy in namespace `home`."""
        return [each for each in self.pods if self._is_peer(each, peer, home)]

    def _is_peer(self, pod: Obj, peer: Obj, home: str) -> bool:
        where = pod["metadata"]["namespace"]
        if "namespaceSelector" in peer:
            if not matches(peer["namespaceSelector"], self.namespaces.get(where, {})):
                return False
        elif where != home:
            return False
        return matches(peer.get("podSelector"), pod["metadata"].get("labels") or {})


def matches(selector: Obj | None, labels: dict[str, str]) -> bool:
    """Whether a label selector selects these labels; an empty one selects everything."""
    selector = selector or {}
    if any(labels.get(name) != value for name, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or [])


def _holds(expression: Obj, labels: dict[str, str]) -> bool:
    there = expression["key"] in labels
    among = labels.get(expression["key"]) in (expression.get("values") or [])
    return {"In": there and among, "NotIn": not among, "Exists": there, "DoesNotExist": not there}[
        expression["operator"]
    ]


def _on_the_network(pod: Obj) -> bool:
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and not pod["spec"].get("hostNetwork") and status.get("phase") not in _OVER


def _address(pod: Obj) -> str:
    return str(pod["status"]["podIP"])


def _selected_by(pod: Obj, policy: Obj) -> bool:
    if pod["metadata"]["namespace"] != policy["metadata"]["namespace"]:
        return False
    return matches(policy["spec"].get("podSelector"), pod["metadata"].get("labels") or {})


def _types(spec: Obj) -> list[str]:
    return spec.get("policyTypes") or [_INGRESS, *([_EGRESS] if spec.get("egress") else [])]


def _chain(name: str, pod: Obj, direction: str, policies: list[Obj], world: _World) -> str:
    lines: list[str] = []
    for policy in policies:
        for rule in policy["spec"].get(direction.lower()) or []:
            lines += _rule(rule, pod, direction, policy["metadata"]["namespace"], world)
    body = "".join(f"    {line} return\n" for line in dict.fromkeys(lines))
    comment = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    return f"  chain {name} {{ # {comment}\n{body}    counter drop\n  }}\n"


def _rule(rule: Obj, pod: Obj, direction: str, home: str, world: _World) -> list[str]:
    """Return the matches of one rule: every peer with every port."""
    side = "saddr" if direction == _INGRESS else "daddr"
    peers = rule.get("from" if direction == _INGRESS else "to") or []
    ports = rule.get("ports") or []
    if not peers:
        ends = [pod] if direction == _INGRESS else world.pods
        return [text.strip() for text in _with_ports("", ports, ends, named_at=direction)]
    lines: list[str] = []
    for peer in peers:
        if "ipBlock" in peer:
            lines += _with_ports(_block(peer["ipBlock"], side), ports, [pod], named_at=direction)
            continue
        found = world.peers(peer, home)
        if direction == _INGRESS:
            lines += _with_ports(_among(found, side), ports, [pod], named_at=direction) if found else []
        else:
            lines += _with_ports(_among(found, side), ports, found, named_at=direction) if found else []
    return lines


def _among(pods: list[Obj], side: str) -> str:
    return f"ip {side} {{ {', '.join(sorted({_address(each) for each in pods}))} }}"


def _block(block: Obj, side: str) -> str:
    excepted = block.get("except") or []
    without = f" ip {side} != {{ {', '.join(excepted)} }}" if excepted else ""
    return f"ip {side} {block['cidr']}{without}"


def _with_ports(peer: str, ports: list[Obj], receivers: list[Obj], *, named_at: str) -> list[str]:
    """Return the peer's match with each port. A port's name means what the receiving pod says it does."""
    if not ports:
        return [peer]
    lines: list[str] = []
    for port in ports:
        protocol = port.get("protocol", "TCP").lower()
        number = port.get("port")
        if number is None:
            lines.append(f"{peer} meta l4proto {protocol}")
        elif isinstance(number, int):
            last = port.get("endPort", number)
            lines.append(f"{peer} {protocol} dport {number}{f'-{last}' if last != number else ''}")
        else:
            lines += _named(peer, protocol, number, receivers, named_at)
    return [line.strip() for line in lines]


def _named(peer: str, protocol: str, name: str, receivers: list[Obj], named_at: str) -> list[str]:
    lines: list[str] = []
    for pod in receivers:
        for container in pod["spec"].get("containers") or []:
            for port in container.get("ports") or []:
                if port.get("name") == name and port.get("protocol", "TCP").lower() == protocol:
                    to = peer if named_at == _INGRESS else f"ip daddr {_address(pod)}"
                    lines.append(f"{to} {protocol} dport {port['containerPort']}")
    return lines


def _table(chains: list[str], maps: dict[str, list[str]]) -> str:
    steps = ["    ct state established,related accept\n"]
    for direction, side in ((_EGRESS, "saddr"), (_INGRESS, "daddr")):
        if maps[direction]:
            steps.append(f"    ip {side} vmap {{ {', '.join(maps[direction])} }}\n")
    forward = (
        f"  chain forward {{\n    type filter hook forward priority filter; policy accept;\n{''.join(steps)}  }}\n"
    )
    return f"add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n{''.join(chains)}{forward}}}\n"
