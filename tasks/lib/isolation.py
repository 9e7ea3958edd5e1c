"""What a model's own sidecar asks of every caller. Pure: records in, objects out.

Knative's activator and its gateway speak for everybody, so who is calling is not told by the connection. The token is:
it travels on to the model, and the sidecar verifies it again, whichever way the request came.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.lib import names, tokens
from tasks.lib.modelling import Model
from tasks.lib.render import Obj
from tasks.lib.tenancy import Tenant

_API = "security.istio.io/v1"
_ISTIO_INGRESS = f"cluster.local/ns/{names.ISTIO_NAMESPACE}/sa/{names.INGRESS_GATEWAY}"
_TENANT, _MODEL, _JTI = ("request.auth.claims[tenant]", "request.auth.claims[model]", "request.auth.claims[jti]")
_REQUESTS = ["8012", "8013"]
"""queue-proxy, HTTP/1 and HTTP/2."""


def tenant_objects(tenant: Tenant, jwks: Mapping[str, Any], revoked: Iterable[str]) -> list[Obj]:
    """Nobody, by default; then Knative's probes and metrics. Tokens are read, and those taken back are refused."""
    denied = list(revoked)
    return [
        _object(tenant.namespace, tenant.name, "RequestAuthentication", "tokens", {"jwtRules": [rules(jwks)]}),
        _object(tenant.namespace, tenant.name, "AuthorizationPolicy", "deny-by-default", {}),
        _object(tenant.namespace, tenant.name, "AuthorizationPolicy", "knative", _knative()),
        *(
            [_object(tenant.namespace, tenant.name, "AuthorizationPolicy", "revoked", _revoked(denied))]
            if denied
            else []
        ),
    ]


def model_policy(model: Model) -> Obj:
    """Who may ask a model: Knative's data plane, with a token of its tenant, for any model or for this one."""
    source = [
        {"source": {"principals": [_ISTIO_INGRESS], "requestPrincipals": [f"{tokens.ISSUER}/*"]}},
        {"source": {"namespaces": [names.KNATIVE_NAMESPACE], "requestPrincipals": [f"{tokens.ISSUER}/*"]}},
    ]
    own = {"key": _TENANT, "values": [model.tenant]}
    rules = [
        {"from": source, "to": [{"operation": {"ports": _REQUESTS}}], "when": [own, condition]}
        for condition in ({"key": _MODEL, "values": [model.name]}, {"key": _MODEL, "notValues": ["*"]})
    ]
    found = _object(
        model.namespace, model.tenant, "AuthorizationPolicy", f"model-{model.name}",
        {
            "selector": {"matchLabels": {"serving.kserve.io/inferenceservice": model.name}},
            "action": "ALLOW",
            "rules": rules,
        },
    )  # fmt: skip
    found["metadata"]["labels"][names.MODEL_LABEL] = model.name
    return found


def rules(jwks: Mapping[str, Any]) -> Obj:
    """Return how a sidecar verifies a token: by these keys, from one header, and passes it on."""
    return {
        "issuer": tokens.ISSUER,
        "audiences": [tokens.AUDIENCE],
        "jwks": json.dumps(jwks, sort_keys=True),
        "fromHeaders": [{"name": "Authorization", "prefix": "Bearer "}],
        "forwardOriginalToken": True,
    }


def _knative() -> Obj:
    """Probes by their header, metrics by their port: neither reaches a model, queue-proxy answers both."""
    source = [{"source": {"namespaces": [names.KNATIVE_NAMESPACE]}}]
    return {
        # Models' pods alone: whatever else a tenant runs is for nobody, by default.
        "selector": {"matchLabels": {"component": "predictor"}},
        "action": "ALLOW",
        "rules": [
            {
                "from": source,
                "to": [{"operation": {"ports": _REQUESTS, "methods": ["GET"], "paths": ["/healthz"]}}],
                "when": [{"key": "request.headers[K-Network-Probe]", "values": ["queue"]}],
            },
            {"from": source, "to": [{"operation": {"ports": ["9090"], "methods": ["GET"], "paths": ["/metrics"]}}]},
        ],
    }


def _revoked(denied: list[str]) -> Obj:
    return {"action": "DENY", "rules": [{"when": [{"key": _JTI, "values": denied}]}]}


def _object(namespace: str, tenant: str, kind: str, name: str, spec: Obj) -> Obj:
    meta = {"name": name, "namespace": namespace, "labels": {names.TENANT_LABEL: tenant}}
    return {"apiVersion": _API, "kind": kind, "metadata": meta, "spec": spec}
