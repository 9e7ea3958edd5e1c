"""Volumes that are folders of a node: made when a pod that claims one is scheduled there, removed after its claim."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PROVISIONER = "node-agent.inference-in-a-box"
FOLDER = Path("/var/local-volumes")

_NODE = "volume.kubernetes.io/selected-node"
_BY = "volume.kubernetes.io/storage-provisioner"
_MADE_BY = "pv.kubernetes.io/provisioned-by"
_HOSTNAME = "kubernetes.io/hostname"

Obj = dict[str, Any]


def wanted(claims: Iterable[Obj], me: str) -> list[Obj]:
    """Return the claims that wait for a volume on this node."""
    return [
        each
        for each in claims
        if not each["spec"].get("volumeName")
        and not each["metadata"].get("deletionTimestamp")
        and (each["metadata"].get("annotations") or {}).get(_NODE) == me
        and (each["metadata"].get("annotations") or {}).get(_BY) == PROVISIONER
    ]


def released(volumes: Iterable[Obj], me: str) -> list[Obj]:
    """Return the volumes of this node whose claims are gone."""
    return [
        each
        for each in volumes
        if (each["metadata"].get("annotations") or {}).get(_MADE_BY) == PROVISIONER
        and each["status"].get("phase") == "Released"
        and each["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        and not each["metadata"].get("deletionTimestamp")
        and _host(each) == me
    ]


def volume(claim: Obj, me: str) -> Obj:
    """Return the volume for a claim. Its name is the claim's uid, so that a repetition finds it."""
    meta = claim["metadata"]
    name = f"pvc-{meta['uid']}"
    affinity = [{"matchExpressions": [{"key": _HOSTNAME, "operator": "In", "values": [me]}]}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_MADE_BY: PROVISIONER}},
        "spec": {
            "accessModes": claim["spec"]["accessModes"],
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": meta["name"],
                         "namespace": meta["namespace"], "uid": meta["uid"]},
            "hostPath": {"path": str(FOLDER / name), "type": "DirectoryOrCreate"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": affinity}},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": claim["spec"]["storageClassName"],
            "volumeMode": "Filesystem",
        },
    }  # fmt: skip


def make_folder(name: str) -> None:
    """Make a volume's folder, open to whatever user its pod runs as."""
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)


def remove_folder(name: str) -> None:
    """Remove a volume's folder, if it is there."""
    if (FOLDER / name).exists():
        shutil.rmtree(FOLDER / name)


def _host(volume_: Obj) -> str:
    terms = volume_["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    return str(terms[0]["matchExpressions"][0]["values"][0])
