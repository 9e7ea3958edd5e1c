"""Tenants as records, and the one pure function that turns a record into objects.

Configured tenants (config/tenants.yaml) and those made by `invoke tenant.add` differ only in where the record is kept:
an added tenant's record is an annotation on its own namespace.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.lib import names, quantity
from tasks.lib.errors import BadInput
from tasks.lib.netpolicies import in_namespace
from tasks.lib.render import Obj

RECORD_ANNOTATION = f"{names.DOMAIN}/tenant-record"
SERVICE_ACCOUNT = "models"
CREDENTIALS_SECRET = "model-store-https"  # noqa: S105 (a name)
"""What is made once keeps what it was made with: the name says how the store is spoken to, as its annotations do."""

SCRATCH_PREFIX = "verify-"
"""How tenants are called that `invoke verify` makes for a while."""

RESERVED = frozenset({"default", "system", "platform", "admin", "kube", "istio", "knative", "kserve", "public"})
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SCHEMA = 1
_LONGEST, _TIGHTEST = names.room(
    (names.tenant_component("NAME"), names.account_job("ensure", "NAME"), names.account_job("remove", "NAME"))
)

REQUESTS_PER_MINUTE = 600
"""Requests to all of a tenant's models together, unless its record says otherwise."""

MOST_REQUESTS = 2**32 - 1
"""The limiter counts in 32 bits."""

QUOTA_KEYS = {
    "requests.cpu": "requests.cpu",
    "requests.memory": "requests.memory",
    "limits.cpu": "limits.cpu",
    "limits.memory": "limits.memory",
    "pods": "pods",
    "models": "count/inferenceservices.serving.kserve.io",
}
"""Our key for a limit, and the resource that Kubernetes counts."""


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """One tenant. `quota` has every key of QUOTA_KEYS; `configured` tells where the record is kept."""

    name: str
    summary: str = ""
    quota: Mapping[str, str] = field(default_factory=dict)
    requests_per_minute: int = REQUESTS_PER_MINUTE
    configured: bool = True

    @property
    def namespace(self) -> str:
        """The namespace that is this tenant's alone."""
        return names.tenant_namespace(self.name)

    def record(self) -> dict[str, Any]:
        """The record as it is stored."""
        return {
            "name": self.name,
            "summary": self.summary,
            "quota": dict(self.quota),
            "requests_per_minute": self.requests_per_minute,
        }


def check_name(name: str, taken: Iterable[str] = ()) -> str:
    """Return the name when a tenant may have it.

    Raises BadInput, saying which rule it breaks: DNS label (RFC 1123), length, reserved, duplicate.
    """
    rule = ""
    if not _LABEL.fullmatch(name):
        rule = "is not a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit"
    elif len(name) > _LONGEST:
        rule = f"has {len(name)} characters; {_LONGEST} is the limit, so that {_TIGHTEST} fits in a label"
    elif name in RESERVED:
        rule = f"is reserved ({', '.join(sorted(RESERVED))})"
    elif name.startswith(SCRATCH_PREFIX):
        rule = f"begins with {SCRATCH_PREFIX}, as those do that `invoke verify` makes and removes"
    elif name in set(taken):
        rule = "is there twice"
    if rule:
        raise BadInput(f"tenant name {name!r} {rule}", facts={"skipped": "nothing was changed"})
    return name


def check_amounts(given: Mapping[str, Any], where: str) -> None:
    """Raise BadInput for a key or a quantity that can never be, whatever the rest of the quota is."""
    if unknown := sorted(set(given) - set(QUOTA_KEYS)):
        raise BadInput(f"{where}: unknown quota {', '.join(unknown)}", facts={"known": ", ".join(QUOTA_KEYS)})
    for key, value in given.items():
        quantity.parse(value, f"{where}.{key}")


def check_quota(given: Mapping[str, Any], defaults: Mapping[str, str], where: str) -> dict[str, str]:
    """Return a complete quota; quantities are parsed with their units and requests must fit their limits.

    Raises BadInput naming the key.
    """
    check_amounts(given, where)
    quota = {key: str(given.get(key, defaults.get(key, ""))) for key in QUOTA_KEYS}
    amount = {key: quantity.parse(value, f"{where}.{key}") for key, value in quota.items()}
    for key in ("pods", "models"):
        if amount[key] != int(amount[key]):
            raise BadInput(f"{where}.{key}: {quota[key]} is not a whole number")
    for resource in ("cpu", "memory"):
        if amount[f"requests.{resource}"] > amount[f"limits.{resource}"]:
            raise BadInput(
                f"{where}: requests.{resource} {quota[f'requests.{resource}']} is more than "
                f"limits.{resource} {quota[f'limits.{resource}']}"
            )
    return quota


def possible_rate(value: object) -> bool:
    """Whether a value can be a number of requests a minute."""
    return type(value) is int and 0 < value <= MOST_REQUESTS


def check_rate(text: str, where: str) -> int:
    """Return the number of requests a minute that a text stands for. Raises BadInput for one that cannot be."""
    value = int(text) if re.fullmatch(r"[0-9]{1,10}", text) else 0
    if not possible_rate(value):
        raise BadInput(
            f"{where}: {text!r} is not a whole number from 1 to {MOST_REQUESTS}",
            facts={"skipped": "nothing was changed"},
        )
    return value


def load(path: Path) -> tuple[list[Tenant], dict[str, str]]:
    """Read config/tenants.yaml: the tenants and the default quota. Raises BadInput naming file and key."""
    from tasks.lib import yamlfile

    document = yamlfile.mapping(yamlfile.load(path), where=str(path), required=("schema", "defaults", "tenants"))
    yamlfile.check_schema(document, _SCHEMA, where=str(path))
    defaults = check_quota(document["defaults"].get("quota", {}), {}, f"{path}: defaults.quota")
    tenants: list[Tenant] = []
    for index, each in enumerate(document["tenants"] or []):
        where = f"{path}: tenants[{index}]"
        entry = yamlfile.mapping(
            each, where=where, required=("name",), optional=("summary", "quota", "requests_per_minute")
        )
        name = check_name(str(entry["name"]), (tenant.name for tenant in tenants))
        quota = check_quota(entry.get("quota") or {}, defaults, f"{where}.quota")
        rate = entry.get("requests_per_minute", REQUESTS_PER_MINUTE)
        if not possible_rate(rate):
            problem = f"{rate!r} is not a whole number from 1 to {MOST_REQUESTS}"
            raise yamlfile.bad(entry, "requests_per_minute", where, problem)
        summary = str(entry.get("summary", ""))
        tenants.append(Tenant(name=name, summary=summary, quota=quota, requests_per_minute=rate))
    return tenants, defaults


def from_namespace(namespace: Obj) -> Tenant | None:
    """Read the record that `tenant.add` left on a namespace; None when it carries none."""
    text = (namespace["metadata"].get("annotations") or {}).get(RECORD_ANNOTATION)
    if not text:
        return None
    record = json.loads(text)
    return Tenant(
        name=record["name"],
        summary=record["summary"],
        quota=record["quota"],
        requests_per_minute=record.get("requests_per_minute", REQUESTS_PER_MINUTE),
        configured=False,
    )


def tenant_objects(tenant: Tenant) -> list[Obj]:
    """Everything a tenant is, from its record alone."""
    return [
        _namespace(tenant),
        _quota(tenant),
        _limits(tenant),
        _service_account(tenant),
        *_rbac(tenant),
        *_network_policies(tenant),
    ]


def _object(tenant: Tenant, api: str, kind: str, name: str, **body: object) -> Obj:
    meta = {"name": name, "namespace": tenant.namespace, "labels": {names.TENANT_LABEL: tenant.name}}
    return {"apiVersion": api, "kind": kind, "metadata": meta, **body}


def _namespace(tenant: Tenant) -> Obj:
    labels = {names.TENANT_LABEL: tenant.name, "istio-injection": "enabled", names.ROUTES_LABEL: "true"}
    meta: dict[str, Any] = {"name": tenant.namespace, "labels": labels}
    if not tenant.configured:
        meta["annotations"] = {RECORD_ANNOTATION: json.dumps(tenant.record(), sort_keys=True)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}


def _quota(tenant: Tenant) -> Obj:
    hard = {resource: tenant.quota[key] for key, resource in QUOTA_KEYS.items()}
    return _object(tenant, "v1", "ResourceQuota", "tenant", spec={"hard": hard})


def _limits(tenant: Tenant) -> Obj:
    """What a container without a word on resources gets: without it, the quota would refuse it."""
    default = {
        "type": "Container",
        "defaultRequest": {"cpu": "25m", "memory": "64Mi"},
        "default": {"cpu": "500m", "memory": "512Mi"},
    }
    return _object(tenant, "v1", "LimitRange", "tenant", spec={"limits": [default]})


def _service_account(tenant: Tenant) -> Obj:
    return _object(
        tenant, "v1", "ServiceAccount", SERVICE_ACCOUNT,
        automountServiceAccountToken=False, secrets=[{"name": CREDENTIALS_SECRET}],
    )  # fmt: skip


def _rbac(tenant: Tenant) -> list[Obj]:
    """Members of the group `tenant:<name>` manage their models and read what explains them; nothing else."""
    rules = [
        {
            "apiGroups": ["serving.kserve.io"],
            "resources": ["inferenceservices"],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
        },
        {
            "apiGroups": ["serving.knative.dev"],
            "resources": ["services", "routes", "configurations", "revisions"],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": [""],
            "resources": ["pods", "pods/log", "events", "resourcequotas", "limitranges"],
            "verbs": ["get", "list", "watch"],
        },
    ]
    role = _object(tenant, "rbac.authorization.k8s.io/v1", "Role", "tenant-member", rules=rules)
    binding = _object(
        tenant, "rbac.authorization.k8s.io/v1", "RoleBinding", "tenant-member",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant-member"},
        subjects=[{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": f"tenant:{tenant.name}"}],
    )  # fmt: skip
    return [role, binding]


def _network_policies(tenant: Tenant) -> list[Obj]:
    """Deny everything, then the few ways that probes, Knative, names and the model store need."""
    knative = [in_namespace(names.KNATIVE_NAMESPACE), in_namespace(names.ISTIO_NAMESPACE)]
    store = {"podSelector": {"matchLabels": {"app": names.MODEL_STORE}}, **in_namespace(names.PLATFORM_NAMESPACE)}
    dns = {"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}, **in_namespace("kube-system")}
    istiod = {"podSelector": {"matchLabels": {"app": "istiod"}}, **in_namespace(names.ISTIO_NAMESPACE)}
    policies = {
        "default-deny": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        # queue-proxy: 8012 (HTTP/1), 8013 (HTTP/2), 8112 (TLS), 8022 (drain), 9090 (autoscaler), 9091 (user metrics).
        "allow-knative": {
            "podSelector": {"matchExpressions": [{"key": "serving.knative.dev/revision", "operator": "Exists"}]},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": knative, "ports": _tcp(8012, 8013, 8112, 8022, 9090, 9091)}],
        },
        "allow-dns": {
            "podSelector": {},
            "policyTypes": ["Egress"],
            "egress": [{"to": [dns], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}],
        },
        # A sidecar gets its certificate and its configuration from the control plane.
        "allow-mesh": {
            "podSelector": {},
            "policyTypes": ["Egress"],
            "egress": [{"to": [istiod], "ports": _tcp(15012)}],
        },
        "allow-model-store": {
            "podSelector": {},
            "policyTypes": ["Egress"],
            "egress": [{"to": [store], "ports": _tcp(names.MODEL_STORE_PORT)}],
        },
    }
    return [
        _object(tenant, "networking.k8s.io/v1", "NetworkPolicy", name, spec=spec) for name, spec in policies.items()
    ]


def _tcp(*ports: int) -> list[Obj]:
    return [{"protocol": "TCP", "port": port} for port in ports]
