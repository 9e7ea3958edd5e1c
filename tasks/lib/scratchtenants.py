"""Tenants that checks make for a while, of the same functions as any other tenant, with a model that says what it got.

Their tokens are signed with keys of their own: nothing that is minted for them opens a door of the platform's tenants.
Pure: records in, objects out.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.lib import isolation, routes, tenancy
from tasks.lib.box import Box
from tasks.lib.kube.api import Obj
from tasks.lib.modelling import Model
from tasks.lib.tenancy import Tenant

NAMES = (f"{tenancy.SCRATCH_PREFIX}one", f"{tenancy.SCRATCH_PREFIX}two")
MODEL = "echo"
SCRIPT = "verify/echo.py"
IMAGE = "kserve-sklearnserver"

REQUESTS_PER_MINUTE = 100_000
"""Far above what any check asks."""

_QUOTA = {
    "requests.cpu": "4", "requests.memory": "8Gi", "limits.cpu": "16", "limits.memory": "16Gi", "pods": "20",
    "models": "5",
}  # fmt: skip


def tenant(name: str) -> Tenant:
    """Return the record of a scratch tenant."""
    return Tenant(name=name, quota=_QUOTA, requests_per_minute=REQUESTS_PER_MINUTE)


def model(name: str) -> Model:
    """Return the record of a scratch tenant's model: one replica, always."""
    return Model(name=MODEL, tenant=name, format="", trainer="", min_replicas=1, max_replicas=1)


def objects(record: Tenant, domain: str, jwks: Mapping[str, Any], revoked: Iterable[str]) -> list[Obj]:
    """Everything of a tenant but its account in the model store."""
    denied = list(revoked)
    return [
        *tenancy.tenant_objects(record),
        *routes.tenant_objects(record, domain, jwks, denied),
        *isolation.tenant_objects(record, jwks, denied),
    ]


def model_objects(record: Model, box: Box) -> list[Obj]:
    """The model's service, who may ask it, and its route."""
    return [_service(record, box), isolation.model_policy(record), routes.model_route(record, box.settings.domain)]


def _service(record: Model, box: Box) -> Obj:
    container = {
        "name": "kserve-container",
        "image": box.versions.images[IMAGE].ref,
        "command": ["python", "-c", box.manifest(SCRIPT).read_text(encoding="utf-8")],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": record.name, "namespace": record.namespace},
        "spec": {
            "predictor": {
                "serviceAccountName": tenancy.SERVICE_ACCOUNT,
                "minReplicas": record.min_replicas,
                "maxReplicas": record.max_replicas,
                "containers": [container],
            }
        },
    }
