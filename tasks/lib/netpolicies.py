"""NetworkPolicies, and what their rules are made of. Pure."""

from tasks.lib.render import Obj


def policy(name: str, where: str, spec: Obj) -> Obj:
    """Return a NetworkPolicy."""
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": where}, "spec": spec,
    }  # fmt: skip


def in_namespace(name: str) -> Obj:
    """Return the peer that is every pod of a namespace."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
