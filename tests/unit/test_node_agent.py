"""The node agent's pure parts: NetworkPolicies as nftables rules, routes, volumes."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import programs

FOLDER = Path(__file__).parents[2] / "tasks/lib/packages/standins/node-agent"

Obj = dict[str, Any]


def load(name: str) -> ModuleType:
    """Import a module of the stand-in, whose folder is no package."""
    return programs.load(FOLDER / f"{name}.py")


policy, network, volumes = load("policy"), load("network"), load("volumes")


def pod(name: str, namespace: str, ip: str, *, node: str = "here", labels: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None, created: str = "2026-01-01", **spec: Any) -> Obj:  # fmt: skip
    listed = [{"name": called, "containerPort": number} for called, number in (ports or {}).items()]
    return {
        "metadata": {
            "name": name, "namespace": namespace, "labels": dict(labels or {}), "creationTimestamp": created,
        },
        "spec": {"nodeName": node, "containers": [{"ports": listed}], **spec},
        "status": {"podIP": ip, "phase": "Running"},
    }  # fmt: skip


def rules(script: str, chain: str) -> list[str]:
    """Return the lines of one chain; fail when it is not there."""
    _, found, rest = script.partition(f"chain {chain} {{")
    assert found, script
    return [line.strip() for line in rest.split("}\n  ")[0].splitlines()[1:] if line.strip()]


PODS = [
    pod("model", "a", "10.0.0.2", labels={"app": "model"}, ports={"http": 8012}),
    pod("client", "b", "10.0.0.3", labels={"app": "client"}),
    pod("far", "b", "10.0.1.3", node="there", ports={"http": 9000}),
    pod("agent", "a", "172.18.0.2", hostNetwork=True),
]
NAMESPACES = [{"metadata": {"name": "a", "labels": {"t": "a"}}}, {"metadata": {"name": "b", "labels": {"t": "b"}}}]


def script(**spec: Any) -> str:
    one = {"metadata": {"name": "p", "namespace": "a"}, "spec": {"podSelector": {}, **spec}}
    return str(policy.script("here", PODS, NAMESPACES, [one]))


def test_without_policies_nobody_is_isolated() -> None:
    found = policy.script("here", PODS, NAMESPACES, [])

    assert "vmap" not in found
    assert "drop" not in found


def test_a_policy_without_rules_denies_everything_to_its_pods_and_to_no_others() -> None:
    found = script(policyTypes=["Ingress", "Egress"])

    assert rules(found, "in_10_0_0_2") == ["counter drop"]
    assert rules(found, "out_10_0_0_2") == ["counter drop"]
    assert "10.0.0.3" not in found
    assert "172.18.0.2" not in found
    assert found.index("ip saddr vmap") < found.index("ip daddr vmap")


def test_types_that_are_not_named_follow_from_the_rules() -> None:
    assert "chain out_" not in script()
    assert "chain out_" in script(egress=[{}])


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        ({}, ["return"]),
        ({"ports": [{"port": 80}]}, ["tcp dport 80 return"]),
        ({"ports": [{"port": "http"}]}, ["tcp dport 8012 return"]),
        ({"ports": [{"protocol": "UDP", "port": 10, "endPort": 12}]}, ["udp dport 10-12 return"]),
        ({"from": [{"podSelector": {}}]}, ["ip saddr { 10.0.0.2 } return"]),
        ({"from": [{"namespaceSelector": {"matchLabels": {"t": "b"}}}]}, ["ip saddr { 10.0.0.3, 10.0.1.3 } return"]),
        (
            {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}]},
            ["ip saddr { 10.0.0.3 } return"],
        ),
        ({"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}], "ports": [{"port": 80}]}, []),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": 1}]},
            ["ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } tcp dport 1 return"],
        ),
        ({"ports": [{"port": "no-such-name"}]}, []),
    ],
)
def test_what_a_rule_of_ingress_lets_through(rule: Obj, lines: list[str]) -> None:
    assert rules(script(ingress=[rule]), "in_10_0_0_2") == [*lines, "counter drop"]


def test_a_ports_name_in_egress_means_what_each_receiver_says() -> None:
    rule = {"to": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}

    found = rules(script(policyTypes=["Egress"], egress=[rule]), "out_10_0_0_2")

    assert found == [
        "ip daddr 10.0.0.2 tcp dport 8012 return", "ip daddr 10.0.1.3 tcp dport 9000 return", "counter drop"
    ]  # fmt: skip


def test_policies_add_up() -> None:
    deny = {"metadata": {"name": "deny", "namespace": "a"}, "spec": {"podSelector": {}}}
    allow = {
        "metadata": {"name": "allow", "namespace": "a"},
        "spec": {"podSelector": {"matchLabels": {"app": "model"}}, "ingress": [{"ports": [{"port": 1}]}]},
    }

    found = policy.script("here", PODS, NAMESPACES, [deny, allow])

    assert rules(found, "in_10_0_0_2") == ["tcp dport 1 return", "counter drop"]


def test_each_node_isolates_its_own_pods() -> None:
    deny = {"metadata": {"name": "deny", "namespace": "b"}, "spec": {"podSelector": {}}}

    assert "in_10_0_0_3" in policy.script("here", PODS, NAMESPACES, [deny])
    assert "in_10_0_1_3" not in policy.script("here", PODS, NAMESPACES, [deny])
    assert "in_10_0_1_3" in policy.script("there", PODS, NAMESPACES, [deny])


def test_an_address_given_again_is_the_newest_pods() -> None:
    old = pod("old", "a", "10.0.0.9", created="2026-01-01")
    new = pod("new", "b", "10.0.0.9", created="2026-01-02")
    deny = {"metadata": {"name": "deny", "namespace": "a"}, "spec": {"podSelector": {}}}

    for order in ([old, new], [new, old]):
        assert "10.0.0.9" not in policy.script("here", order, NAMESPACES, [deny])


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ({"key": "t", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "t", "operator": "In", "values": ["b"]}, False),
        ({"key": "t", "operator": "NotIn", "values": ["b"]}, True),
        ({"key": "other", "operator": "NotIn", "values": ["b"]}, True),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "other", "operator": "DoesNotExist"}, True),
    ],
)
def test_expressions_of_a_selector(expression: Obj, matches: bool) -> None:
    assert policy.matches({"matchExpressions": [expression]}, {"t": "a"}) is matches


def node(name: str, cidr: str, address: str) -> Obj:
    return {
        "metadata": {"name": name},
        "spec": {"podCIDR": cidr} if cidr else {},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


def test_routes_lead_to_every_other_node_that_has_pods() -> None:
    nodes = [
        node("here", "10.0.0.0/24", "1.1.1.1"),
        node("there", "10.0.1.0/24", "1.1.1.2"),
        node("new", "", "1.1.1.3"),
    ]

    assert network.routes(nodes, "here") == {"10.0.1.0/24": "1.1.1.2"}


def test_the_configuration_is_written_once_the_node_has_its_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mtu").write_text("1400\n")
    monkeypatch.setattr(network, "_MTU", tmp_path / "mtu")
    path = tmp_path / "10-node-agent.conflist"

    network.write_config([node("here", "", "1.1.1.1")], "here", path)
    assert not path.exists()
    network.write_config([node("here", "10.0.0.0/24", "1.1.1.1")], "here", path)

    assert json.loads(path.read_text())["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.0.0.0/24"}]]


def claim(**change: Any) -> Obj:
    meta = {
        "name": "data", "namespace": "a", "uid": "u1",
        "annotations": {
            "volume.kubernetes.io/selected-node": "here",
            "volume.kubernetes.io/storage-provisioner": volumes.PROVISIONER,
        },
    }  # fmt: skip
    spec = {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "standard",
        "resources": {"requests": {"storage": "1Gi"}},
    }  # fmt: skip
    return {"metadata": meta, "spec": {**spec, **change}}


def test_a_claim_gets_its_volume_on_the_node_that_was_chosen() -> None:
    assert volumes.wanted([claim()], "here") == [claim()]
    assert volumes.wanted([claim()], "there") == []
    assert volumes.wanted([claim(volumeName="pvc-u1")], "here") == []
    made = volumes.volume(claim(), "here")
    assert made["metadata"]["name"] == "pvc-u1"
    assert made["spec"]["claimRef"]["uid"] == "u1"


def test_a_volume_goes_when_its_claim_is_gone() -> None:
    made = volumes.volume(claim(), "here")

    assert volumes.released([{**made, "status": {"phase": "Bound"}}], "here") == []
    assert volumes.released([{**made, "status": {"phase": "Released"}}], "there") == []
    assert len(volumes.released([{**made, "status": {"phase": "Released"}}], "here")) == 1
