"""What Envoy AI Gateway would need to know of a model that speaks OpenAI's protocol. Pure, and rendered only.

The pinned version takes over a whole Gateway (its processor fails every path it does not know), so its routes hang on a
Gateway of their own. Its module is not served: nothing here is applied with source `packages`, and all of it is checked
against its definitions.
"""

from tasks.lib import names, routes
from tasks.lib.modelling import Model
from tasks.lib.render import Obj

GATEWAY = "ai"
MODEL_HEADER = "x-ai-eg-model"
TOKENS_PER_HOUR = 100_000

_API = "aigateway.envoyproxy.io/v1alpha1"
_METADATA = "io.envoy.ai_gateway"
_TOTAL = "llm_total_token"


def objects(model: Model) -> list[Obj]:
    """A model's backend with its key, its route, and the tenant's limit on tokens, by the verified claim."""
    backend = f"{model.tenant}-{model.name}"
    inside = f"{model.knative_service}.{model.namespace}.svc.cluster.local"
    service = {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": backend}
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": GATEWAY}
    limit = {
        "clientSelectors": [
            {"headers": [{"name": routes.TENANT_HEADER, "type": "Exact", "value": model.tenant}]},
        ],
        "limit": {"requests": TOKENS_PER_HOUR, "unit": "Hour"},
        "cost": {
            "request": {"from": "Number", "number": 0},
            "response": {"from": "Metadata", "metadata": {"namespace": _METADATA, "key": _TOTAL}},
        },
    }
    return [
        _object(model, "gateway.envoyproxy.io/v1alpha1", "Backend", backend, {
            "endpoints": [{"fqdn": {"hostname": inside, "port": 80}}],
        }),
        _object(model, _API, "BackendSecurityPolicy", backend, {
            "type": "APIKey",
            "apiKey": {"secretRef": {"name": f"{backend}-key"}},
        }),
        _object(model, _API, "AIServiceBackend", backend, {
            "schema": {"name": "OpenAI"},
            "backendRef": service,
            "backendSecurityPolicyRef": {"group": "aigateway.envoyproxy.io", "kind": "BackendSecurityPolicy",
                                         "name": backend},
        }),
        _object(model, _API, "AIGatewayRoute", backend, {
            "schema": {"name": "OpenAI"},
            "targetRefs": [target],
            "rules": [{
                "matches": [{"headers": [{"type": "Exact", "name": MODEL_HEADER, "value": model.name}]}],
                "backendRefs": [{"name": backend, "weight": 1}],
            }],
            "llmRequestCosts": [{"metadataKey": _TOTAL, "type": "TotalToken"}],
        }),
        _object(model, "gateway.envoyproxy.io/v1alpha1", "BackendTrafficPolicy", backend, {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": backend}],
            "rateLimit": {"type": "Global", "global": {"rules": [limit]}},
        }),
    ]  # fmt: skip


def _object(model: Model, api: str, kind: str, name: str, spec: Obj) -> Obj:
    labels = {names.TENANT_LABEL: model.tenant, names.MODEL_LABEL: model.name}
    meta = {"name": name, "namespace": names.GATEWAY_NAMESPACE, "labels": labels}
    return {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}
