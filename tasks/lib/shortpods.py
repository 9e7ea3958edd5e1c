"""Pods that live for a while: no privileges, no account's token, and a time at which they end. Pure.

Some carry out an order: a program of ours in Python, told what to do by a file. There may be tokens in that, so it is
in a Secret, of the pod's own name.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.lib.kube.api import Obj
from tasks.lib.objects import secret

_ORDER, _FILE, _FOLDER = "order", "order.json", "/order"


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


def program(name: str, image: str, script: Path, *, cpu: str, memory: str) -> Obj:
    """Return a container that carries out its pod's order."""
    command = ["python", "-c", script.read_text(encoding="utf-8"), f"{_FOLDER}/{_FILE}"]
    mounts = [{"name": _ORDER, "mountPath": _FOLDER, "readOnly": True}]
    return {**container(name, image, command, cpu=cpu, memory=memory), "volumeMounts": mounts}


def obeying(made: Obj) -> Obj:
    """Return a pod with its order in it."""
    volume = {"name": _ORDER, "secret": {"secretName": made["metadata"]["name"]}}
    return {**made, "spec": {**made["spec"], "volumes": [volume]}}


def order(made: Obj, told: Obj) -> Obj:
    """Return the Secret that tells a pod what to do."""
    meta = made["metadata"]
    return secret(meta["name"], meta["namespace"], {_FILE: json.dumps(told)})
