"""Why an object is not what it should be: the pods behind it, and the newest warning about either."""

from collections.abc import Mapping
from typing import Any

from tasks.lib.errors import Refused
from tasks.lib.kube import kinds, pods
from tasks.lib.kube.api import Cluster, Obj, Ref

_MOST_PODS = 3

_POD_LABELS = {
    (kinds.KNATIVE, "Service"): "serving.knative.dev/service",
    (kinds.KNATIVE, "Configuration"): "serving.knative.dev/configuration",
    (kinds.KNATIVE, "Revision"): "serving.knative.dev/revision",
    (kinds.KSERVE, "InferenceService"): "serving.kserve.io/inferenceservice",
}
"""Labels by which a controller marks the pods of an object."""


def explain(kube: Cluster, ref: Ref) -> list[str]:
    """Return lines that say why: pods that are not ready with the reason, and the newest Warning event."""
    try:
        behind = _pods(kube, ref)
        lines = [f"pod {pod['metadata']['name']}: {why}" for pod in behind if (why := pods.reason(pod))][:_MOST_PODS]
        warning = _newest_warning(kube, [ref, *(Ref.of(pod) for pod in behind[:_MOST_PODS])])
    except Refused as error:
        return [f"(no more is known: {error.what})"]
    return [*lines, *([warning] if warning else [])]


def pod_trouble(kube: Cluster, ref: Ref) -> str:
    """Return the first reason a pod behind the object gives; empty when none does."""
    try:
        return next((why for pod in _pods(kube, ref) if (why := pods.reason(pod))), "")
    except Refused:
        return ""


def _pods(kube: Cluster, ref: Ref) -> list[Obj]:
    if (ref.group, ref.kind) == ("", "Pod"):
        return []
    if label := _POD_LABELS.get((ref.group, ref.kind)):
        selector = f"{label}={ref.name}"
    elif (ref.group, ref.kind) in kinds.WORKLOADS and (owner := kube.get(ref)):
        selector = label_selector(owner["spec"].get("selector") or {})
    else:
        return []
    return kube.list("v1", "Pod", ref.namespace, selector) if selector else []


def label_selector(selector: Mapping[str, Any]) -> str:
    """Write a selector the way a query wants it."""
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or []:
        key, values = each["key"], ",".join(each.get("values") or [])
        forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        terms.append(forms.get(each["operator"], f"!{key}"))
    return ",".join(terms)


def _newest_warning(kube: Cluster, refs: list[Ref]) -> str:
    found: list[Obj] = []
    for ref in refs:
        fields = f"type=Warning,involvedObject.kind={ref.kind},involvedObject.name={ref.name}"
        found += kube.list("v1", "Event", ref.namespace or "default", fields=fields)
    if not found:
        return ""
    newest = max(found, key=_when)
    return f"event {newest.get('reason', '')}: {' '.join(str(newest.get('message', '')).split())[:300]}"


def _when(event: Obj) -> str:
    series = event.get("series") or {}
    stamps = (
        series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )  # fmt: skip
    return next((str(stamp) for stamp in stamps if stamp), "")
