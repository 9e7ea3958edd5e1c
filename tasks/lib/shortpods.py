"""Pods that live for a while: no privileges, no account's token, and a time at which they end. Pure."""

from collections.abc import Mapping, Sequence

from tasks.lib.kube.api import Obj


def container(name: str, image: str, command: Sequence[str] = (), *, cpu: str, memory: str) -> Obj:
    """Return a container that may do nothing and use so much; without a command, its image's own."""
    return {
        "name": name,
        "image": image,
        **({"command": list(command)} if command else {}),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": cpu, "memory": memory}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def pod(
    name: str, where: str, containers: Sequence[Obj], *, life_s: float, mesh: bool,
    labels: Mapping[str, str] | None = None,
) -> Obj:  # fmt: skip
    """Return a pod, of the mesh or outside it, that is ended after so many seconds.

    Outside the mesh it meets the `restricted` standard; a sidecar's init container does not.
    """
    named = {**(labels or {}), "sidecar.istio.io/inject": str(mesh).lower()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": where, "labels": named},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": int(life_s),
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": list(containers),
        },
    }
