"""What has to be known of kinds, as tables.

(group, kind) of those that need no status, of those that must report one, and the order in which kinds are applied and
deleted.
"""

from collections.abc import Mapping
from typing import Any

from tasks.lib.kube.api import Ref

GATEWAY_API, ENVOY, AI = "gateway.networking.k8s.io", "gateway.envoyproxy.io", "aigateway.envoyproxy.io"
KNATIVE = "serving.knative.dev"
KSERVE = "serving.kserve.io"
"""KServe's observedGeneration is the one of what it makes (the Knative Service, a Deployment), not its own object's."""

DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")
NAMESPACE = ("", "Namespace")
CLAIM = ("", "PersistentVolumeClaim")
VOLUMES = frozenset({CLAIM, ("", "PersistentVolume")})
SECRET = ("", "Secret")

_RBAC, _ADMISSION = "rbac.authorization.k8s.io", "admissionregistration.k8s.io"

ADMISSION = frozenset(
    (_ADMISSION, f"{kind}{what}")
    for kind in ("Validating", "Mutating")
    for what in ("WebhookConfiguration", "AdmissionPolicy", "AdmissionPolicyBinding")
)

EXISTENCE = ADMISSION | {
    ("", "ConfigMap"),
    ("", "Endpoints"),
    ("", "LimitRange"),
    SECRET,
    ("", "ServiceAccount"),
    (_RBAC, "ClusterRole"),
    (_RBAC, "ClusterRoleBinding"),
    (_RBAC, "Role"),
    (_RBAC, "RoleBinding"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("batch", "CronJob"),
    ("coordination.k8s.io", "Lease"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("policy", "PodDisruptionBudget"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "StorageClass"),
}
"""Kinds that are Current by being there: their metadata is enough, and Secrets stay unread."""

REPORTS: Mapping[tuple[str, str], tuple[str, ...]] = {
    **{("cert-manager.io", kind): ("Ready",) for kind in ("Certificate", "Issuer", "ClusterIssuer")},
    **{(KNATIVE, kind): ("Ready",) for kind in ("Service", "Route", "Configuration", "Revision", "DomainMapping")},
    ("networking.internal.knative.dev", "Ingress"): ("Ready",),
    # Not Knative's own Certificate: without net-certmanager nobody answers for the one that its core comes with.
    **{(KSERVE, kind): ("Ready",) for kind in ("InferenceService", "InferenceGraph", "TrainedModel")},
    (GATEWAY_API, "GatewayClass"): ("Accepted",),
    (GATEWAY_API, "Gateway"): ("Accepted", "Programmed"),
    (ENVOY, "Backend"): ("Accepted",),
    (AI, "AIGatewayRoute"): ("Accepted",),
    ("apiregistration.k8s.io", "APIService"): ("Available",),
}
"""Kinds that have to report, and the conditions that must be True."""

REPLACEABLE = frozenset(
    {
        ("batch", "Job"),
        ("apps", "Deployment"),
        ("apps", "DaemonSet"),
        (_RBAC, "RoleBinding"),
        (_RBAC, "ClusterRoleBinding"),
    }
)
"""Kinds that lose nothing when they are deleted and made anew, which some of their changes need."""

WORKLOADS = frozenset(("apps", kind) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")) | {
    ("batch", "Job"),
    ("batch", "CronJob"),
    ("", "Pod"),
}

_FIRST = frozenset(
    {
        NAMESPACE,
        DEFINITION,
        (_RBAC, "ClusterRole"),
        ("networking.k8s.io", "IngressClass"),
        ("node.k8s.io", "RuntimeClass"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("storage.k8s.io", "StorageClass"),
    }
)
_RUNNING = WORKLOADS | {
    ("apiregistration.k8s.io", "APIService"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("policy", "PodDisruptionBudget"),
    ("networking.k8s.io", "Ingress"),
}
_BUILT_IN = frozenset({"", "apps", "batch", "policy", "autoscaling"}) | {
    f"{group}.k8s.io"
    for group in (
        "certificates", "coordination", "discovery", "events", "flowcontrol.apiserver", "networking", "node",
        "rbac.authorization", "resource", "scheduling", "storage",
    )
}  # fmt: skip

WAVES = 5


def wave(ref: Ref) -> int:
    """Return when an object is applied; within a wave the order does not matter. Deleting goes the other way.

    0 definitions, namespaces and what else belongs to no namespace; 1 accounts, roles, configuration, policies,
    services, volumes; 2 what runs; 3 objects of other kinds than Kubernetes' own; 4 what decides about admission,
    since a webhook that is registered before its pods run stops everything.
    """
    kind = (ref.group, ref.kind)
    if kind in _FIRST:
        return 0
    if kind in ADMISSION:
        return 4
    if kind in _RUNNING:
        return 2
    return 1 if ref.group in _BUILT_IN else 3


def established(obj: Mapping[str, Any]) -> bool:
    """Whether a CustomResourceDefinition is established."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(each.get("type") == "Established" and each.get("status") == "True" for each in conditions)
