"""What Envoy AI Gateway needs to know of a tenant's models that speak OpenAI's protocol. Pure: records in, objects out.

Everything is in the tenant's namespace, because its routes and its Gateway have to be in one. The model that a request
names is in the header `x-ai-eg-model`: the gateway's own processor writes it, over whatever a client sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.lib import names, routes
from tasks.lib.modelling import Model
from tasks.lib.render import Obj
from tasks.lib.tenancy import Tenant

GATEWAY = "ai"
MODEL_HEADER = "x-ai-eg-model"

_API = "aigateway.envoyproxy.io/v1alpha1"
_ENVOY_API = "gateway.envoyproxy.io/v1alpha1"
_METADATA = "io.envoy.ai_gateway"
_TOTAL = "llm_total_token"
_THE_GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": GATEWAY}


def spoken_by(models: Iterable[Model]) -> list[Model]:
    """Return the models that speak it."""
    return [each for each in models if each.openai]


def host(tenant: Tenant, domain: str) -> str:
    """The host name of a tenant's Gateway: its certificate covers it, and no model's host is like it."""
    return f"{GATEWAY}.{tenant.namespace}.{domain}"


def tenant_objects(
    tenant: Tenant, models: Sequence[Model], jwks: Mapping[str, Any], revoked: Iterable[str]
) -> list[Obj]:  # fmt: skip
    """The route to a tenant's models that speak it, who may use it, its limits, and a backend for each model."""
    return [
        _object(tenant, _ENVOY_API, "SecurityPolicy", {
            "targetRefs": [_THE_GATEWAY], **routes.verification(tenant, jwks, list(revoked)),
        }),
        _object(tenant, _ENVOY_API, "BackendTrafficPolicy", _traffic(tenant, models)),
        _object(tenant, _API, "AIGatewayRoute", {
            "schema": {"name": "OpenAI"},
            "targetRefs": [_THE_GATEWAY],
            "rules": [_rule(each) for each in models],
            "llmRequestCosts": [{"metadataKey": _TOTAL, "type": "TotalToken"}],
        }),
        *(each for model in models for each in _backend(tenant, model)),
    ]  # fmt: skip


def _rule(model: Model) -> Obj:
    matches = [{"headers": [{"type": "Exact", "name": MODEL_HEADER, "value": model.name}]}]
    # A model at zero starts within it, as at the edge.
    return {"matches": matches, "backendRefs": [{"name": _name(model)}], "timeouts": {"request": routes.REQUEST_TIME}}


def _traffic(tenant: Tenant, models: Sequence[Model]) -> Obj:
    """Requests of the tenant, and tokens of each model: what an answer cost is counted when it is known, after it."""
    requests = {"limit": {"requests": tenant.requests_per_minute, "unit": "Minute"}, "shared": True}
    cost = {
        "request": {"from": "Number", "number": 0},
        "response": {"from": "Metadata", "metadata": {"namespace": _METADATA, "key": _TOTAL}},
    }
    budgets = [
        {
            "clientSelectors": [{"headers": [{"name": MODEL_HEADER, "type": "Exact", "value": model.name}]}],
            "limit": {"requests": model.openai.tokens_per_hour, "unit": "Hour"},
            "cost": cost,
            "shared": True,
        }
        for model in models if model.openai
    ]  # fmt: skip
    return {
        "targetRefs": [_THE_GATEWAY],
        "rateLimit": {"type": "Global", "global": {"rules": [requests, *budgets]}},
        **routes.PROTECTION,
    }


def _backend(tenant: Tenant, model: Model) -> list[Obj]:
    """Where a model is, what it speaks, and the key that its server asks for, if it does.

    The gateway writes a key over the caller's token: only without one does the token reach the model.
    """
    name, key = _name(model), model.openai.key_secret if model.openai else ""
    service: Obj = {
        "schema": {"name": "OpenAI"},
        "backendRef": {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": name},
    }
    made = [
        _object(
            tenant, _ENVOY_API, "Backend", {"endpoints": [{"fqdn": {"hostname": model.inside, "port": 80}}]}, model
        ),
    ]
    if key:
        policy = {"type": "APIKey", "apiKey": {"secretRef": {"name": key}}}
        made.append(_object(tenant, _API, "BackendSecurityPolicy", policy, model))
        reference = {"group": "aigateway.envoyproxy.io", "kind": "BackendSecurityPolicy", "name": name}
        service["backendSecurityPolicyRef"] = reference
    return [*made, _object(tenant, _API, "AIServiceBackend", service, model)]


def _name(model: Model) -> str:
    """Not the model's own: `local-gateway` is the name of another Backend there."""
    return f"{GATEWAY}-{model.name}"


def _object(tenant: Tenant, api: str, kind: str, spec: Obj, model: Model | None = None) -> Obj:
    labels = {names.TENANT_LABEL: tenant.name, **({names.MODEL_LABEL: model.name} if model else {})}
    name = _name(model) if model else GATEWAY
    meta = {"name": name, "namespace": tenant.namespace, "labels": labels}
    return {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}
