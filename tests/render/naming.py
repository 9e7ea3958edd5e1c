"""What Kubernetes' own validation asks of names, labels and selectors, and what no schema says."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Obj = dict[str, Any]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LETTER_FIRST = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/%]+")
_WORD = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")

_LONGEST_LABEL, _LONGEST_NAME, _LONGEST_PORT = 63, 253, 15

_NAMES: Mapping[str, tuple[re.Pattern[str], int]] = {
    "Namespace": (_LABEL, _LONGEST_LABEL),
    "Service": (_LETTER_FIRST, _LONGEST_LABEL),
    "Job": (_SUBDOMAIN, _LONGEST_LABEL),  # its pods carry it as a label
    "CronJob": (_SUBDOMAIN, 52),  # its Jobs add eleven characters
    "StatefulSet": (_SUBDOMAIN, 52),  # its pods carry it as a label, with a hash
    **dict.fromkeys(("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"), (_SEGMENT, _LONGEST_NAME)),
}
"""Kinds whose names are not just DNS subdomains."""


_MAKE_PODS = frozenset({"CronJob", "DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "StatefulSet"})


def problems(obj: Obj) -> list[str]:
    """Return what Kubernetes would refuse an object for, each as `place: what`."""
    form, longest = _NAMES.get(obj["kind"], (_SUBDOMAIN, _LONGEST_NAME))
    name = obj["metadata"]["name"]
    found = []
    if not form.fullmatch(name) or len(name) > longest:
        found.append(f"metadata.name: {name!r} ({len(name)} characters of at most {longest})")
    found += _metadata(obj["metadata"], "metadata")
    template = pod_template(obj)
    if template:
        found += _metadata(template.get("metadata") or {}, "the pod's metadata")
        claims = {each["metadata"]["name"] for each in obj["spec"].get("volumeClaimTemplates", [])}
        found += _containers(template["spec"], claims)
        found += _selector(obj, template)
    return found


def pod_template(obj: Obj) -> Obj | None:
    """Return the pod that an object of Kubernetes' own kinds makes, as {metadata, spec}; None when it makes none."""
    if obj["kind"] not in _MAKE_PODS:
        return None
    if obj["kind"] == "Pod":
        return obj
    spec = obj["spec"]["jobTemplate"]["spec"] if obj["kind"] == "CronJob" else obj["spec"]
    return dict(spec["template"])


def containers(pod: Obj) -> list[Obj]:
    """Return all containers of a pod's spec."""
    return [each for key in ("initContainers", "containers") for each in pod.get(key) or []]


def _metadata(meta: Obj, where: str) -> Iterator[str]:
    for what in ("labels", "annotations"):
        for key in meta.get(what) or {}:
            prefix, _, name = key.rpartition("/")
            if (prefix and not _SUBDOMAIN.fullmatch(prefix)) or not _word(name):
                yield f"{where}.{what}: {key!r} is no key"
    for key, value in (meta.get("labels") or {}).items():
        if value and not _word(value):
            yield f"{where}.labels[{key}]: {value!r} is no label"


def _word(text: str) -> bool:
    return bool(_WORD.fullmatch(text)) and len(text) <= _LONGEST_LABEL


def _containers(pod: Obj, claims: set[str]) -> Iterator[str]:
    volumes = claims | {each["name"] for each in pod.get("volumes") or []}
    seen = set[str]()
    for each in containers(pod):
        name = each["name"]
        if not _LABEL.fullmatch(name) or len(name) > _LONGEST_LABEL or name in seen:
            yield f"container {name!r}: a bad name, or one that is there twice"
        seen.add(name)
        for port in each.get("ports") or []:
            called = port.get("name", "a")
            if not _LABEL.fullmatch(called) or len(called) > _LONGEST_PORT:
                yield f"container {name}: port {called!r} (at most {_LONGEST_PORT} characters)"
        for mount in each.get("volumeMounts") or []:
            if mount["name"] not in volumes:
                yield f"container {name}: no volume {mount['name']!r}"


def _selector(obj: Obj, template: Obj) -> Iterator[str]:
    wanted = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    for key, value in wanted.items():
        if labels.get(key) != value:
            yield f"spec.selector: {key}={value} is not a label of its pods"
