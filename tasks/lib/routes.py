"""What the edge knows of a tenant and of a model: routes, who may use them, limits. Pure: records in, objects out.

A tenant's policies select its routes by label, so that a route is never without them; a model adds its route alone.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.lib import names, tokens
from tasks.lib.modelling import Model
from tasks.lib.render import Obj
from tasks.lib.tenancy import Tenant

PROVIDER = "box"
TENANT_HEADER = "x-tenant"
"""Set from the verified claim for the limiter's sake, and taken off again: behind the edge only the token counts."""

UNTRUSTED = (
    TENANT_HEADER, "x-model", "x-user", "x-jwt-tenant", "x-jwt-claims", "x-forwarded-client-cert", "x-forwarded-user",
    "x-auth-request-user", "x-envoy-upstream-rq-timeout-ms", "x-envoy-max-retries", "knative-serving-namespace",
    "knative-serving-revision", "k-network-probe", "k-network-hash", "k-original-host", "k-passthrough-lb",
)  # fmt: skip
"""Headers of a client that are removed before anything is decided. Envoy Gateway takes sixteen."""

NOT_FOUND = '{"error":"not found"}'

MOST_BODY = "1Mi"
"""The longest body of a request. It is in the proxy's memory until it is whole, and a model never waits for it."""

MOST_VALUES = 16
"""Values that one rule of Envoy Gateway's authorization may list."""

REQUEST_TIME = "150s"
"""A model at zero starts within it."""

DRAIN_S = 160
"""Seconds for which a proxy goes on with what it had in hand before a change, or its end: more than REQUEST_TIME."""

DRAIN_TIME = f"{DRAIN_S}s"

PROTECTION: Mapping[str, Any] = {
    "circuitBreaker": {"maxConnections": 256, "maxPendingRequests": 256, "maxParallelRequests": 256},
    "timeout": {"tcp": {"connectTimeout": "5s"}, "http": {"requestTimeout": REQUEST_TIME}},
}  # fmt: skip
"""What protects the models from a crowd. Nothing is tried again here: the edge only ever connects to its own sidecar,
which connects to the next hop, and tries again by the mesh's policy what reached nobody (tasks/components/mesh.py)."""

_API = "gateway.envoyproxy.io/v1alpha1"
_GATEWAY_API = "gateway.networking.k8s.io"
_BACKEND = "local-gateway"
_LOCAL_GATEWAY = names.service_host(names.LOCAL_GATEWAY, names.ISTIO_NAMESPACE)


def tenant_objects(tenant: Tenant, domain: str, jwks: Mapping[str, Any], revoked: Iterable[str]) -> list[Obj]:
    """What the edge needs to know of a tenant; `jwks` are the public keys, `revoked` the ids of tokens taken back."""
    return [
        _backend(tenant),
        _security(tenant, jwks, list(revoked)),
        _traffic(tenant),
        *_not_found(tenant, domain),
        *_certificate(tenant, domain),
    ]


def model_route(model: Model, domain: str) -> Obj:
    """The route of a model: its own paths under its own host name, and nothing else of what its server offers."""
    paths = [
        ("GET", f"/v1/models/{model.name}"),
        ("POST", model.predict_path),
        ("GET", f"/v2/models/{model.name}"),
        ("GET", f"/v2/models/{model.name}/ready"),
        ("POST", f"/v2/models/{model.name}/infer"),
    ]
    rule = {
        "matches": [{"method": method, "path": {"type": "Exact", "value": path}} for method, path in paths],
        "filters": [
            {"type": "URLRewrite", "urlRewrite": {"hostname": model.inside}},
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": [TENANT_HEADER]}},
        ],
        "backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": _BACKEND}],
    }
    return {
        "apiVersion": f"{_GATEWAY_API}/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": model.name,
            "namespace": model.namespace,
            "labels": {names.TENANT_LABEL: model.tenant, names.MODEL_LABEL: model.name},
        },
        "spec": {
            "parentRefs": [{"name": names.EDGE, "namespace": names.GATEWAY_NAMESPACE}],
            "hostnames": [model.host(domain)],
            # Last, what is none of its paths: as for a model that is not there, so that neither tells the other apart.
            "rules": [rule, {"filters": [_answer_not_found()]}],
        },
    }


def _object(tenant: Tenant, kind: str, name: str, spec: Obj) -> Obj:
    meta = {"name": name, "namespace": tenant.namespace, "labels": {names.TENANT_LABEL: tenant.name}}
    return {"apiVersion": _API, "kind": kind, "metadata": meta, "spec": spec}


def _routes_of(tenant: Tenant) -> list[Obj]:
    return [{"group": _GATEWAY_API, "kind": "HTTPRoute", "matchLabels": {names.TENANT_LABEL: tenant.name}}]


def _backend(tenant: Tenant) -> Obj:
    """Knative's gateway for inside the cluster; by its name, because Envoy Gateway takes no ExternalName Services."""
    return _object(tenant, "Backend", _BACKEND, {"endpoints": [{"fqdn": {"hostname": _LOCAL_GATEWAY, "port": 80}}]})


def _security(tenant: Tenant, jwks: Mapping[str, Any], revoked: list[str]) -> Obj:
    verified = verification(tenant, jwks, revoked)
    verified["jwt"]["providers"][0]["claimToHeaders"] = [{"claim": "tenant", "header": TENANT_HEADER}]
    return _object(tenant, "SecurityPolicy", "tokens", {"targetSelectors": _routes_of(tenant), **verified})


def verification(tenant: Tenant, jwks: Mapping[str, Any], revoked: list[str]) -> Obj:
    """What a SecurityPolicy asks for: a valid token, that was not taken back, of this tenant.

    The keys are in it: nothing is fetched on the way.
    """
    provider = {
        "name": PROVIDER,
        "issuer": tokens.ISSUER,
        "audiences": [tokens.AUDIENCE],
        "localJWKS": {"type": "Inline", "inline": json.dumps(jwks, sort_keys=True)},
        # And from nowhere else: a token in a URL ends up in logs.
        "extractFrom": {"headers": [{"name": "Authorization", "valuePrefix": "Bearer "}]},
    }
    denied = [
        _rule(f"revoked-{index // MOST_VALUES}", "Deny", "jti", revoked[index : index + MOST_VALUES])
        for index in range(0, len(revoked), MOST_VALUES)
    ]
    allowed = _rule("tenant", "Allow", "tenant", [tenant.name])
    return {
        "jwt": {"providers": [provider]},
        "authorization": {"defaultAction": "Deny", "rules": [*denied, allowed]},
    }


def _rule(name: str, action: str, claim: str, values: list[str]) -> Obj:
    principal = {"jwt": {"provider": PROVIDER, "claims": [{"name": claim, "values": values}]}}
    return {"name": name, "action": action, "principal": principal}


def _traffic(tenant: Tenant) -> Obj:
    """Limits by the verified claim, over all of the tenant's models, and what protects these.

    A cost makes Envoy Gateway 1.4 write the limit to the tenant's own filter. Without one, each request is asked about
    once for every tenant there is (github.com/envoyproxy/gateway/issues/9269).
    """
    limit = {
        "clientSelectors": [{"headers": [{"name": TENANT_HEADER, "type": "Exact", "value": tenant.name}]}],
        "limit": {"requests": tenant.requests_per_minute, "unit": "Minute"},
        "cost": {"request": {"from": "Number", "number": 1}},
        "shared": True,
    }
    return _object(
        tenant, "BackendTrafficPolicy", "limits",
        {
            "targetSelectors": _routes_of(tenant),
            "rateLimit": {"type": "Global", "global": {"rules": [limit]}},
            **PROTECTION,
            "requestBuffer": {"limit": MOST_BODY},
        },
    )  # fmt: skip


def _answer_not_found() -> Obj:
    reference = {"group": "gateway.envoyproxy.io", "kind": "HTTPRouteFilter", "name": "not-found"}
    return {"type": "ExtensionRef", "extensionRef": reference}


def _not_found(tenant: Tenant, domain: str) -> list[Obj]:
    """What answers for models that are not there: to the tenant itself, so that others cannot tell the difference."""
    body = {"type": "Inline", "inline": NOT_FOUND}
    answer = {"contentType": "application/json", "statusCode": 404, "body": body}
    route = _object(
        tenant, "HTTPRoute", "not-found",
        {
            "parentRefs": [{"name": names.EDGE, "namespace": names.GATEWAY_NAMESPACE}],
            "hostnames": [f"*.{tenant.namespace}.{domain}"],
            "rules": [{"filters": [_answer_not_found()]}],
        },
    )  # fmt: skip
    route["apiVersion"] = f"{_GATEWAY_API}/v1"
    return [_object(tenant, "HTTPRouteFilter", "not-found", {"directResponse": answer}), route]


def ingress_name(tenant: Tenant) -> str:
    """What the tenant's certificate, Gateway and way in are called at Istio's ingress gateway."""
    return f"{names.EDGE}-{tenant.name}"


def _certificate(tenant: Tenant, domain: str) -> list[Obj]:
    """The tenant's certificate at the ingress gateway: a wildcard covers one label, and the tenant's is the second."""
    name, hosts = ingress_name(tenant), [f"*.{tenant.namespace}.{domain}"]
    certificate = {
        "secretName": name,
        "duration": "2160h",
        "renewBefore": "720h",
        "dnsNames": hosts,
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "issuerRef": {"kind": "ClusterIssuer", "name": "inference-in-a-box"},
    }
    server = {
        "port": {"number": 443, "name": f"https-{tenant.name}", "protocol": "HTTPS"},
        "tls": {"mode": "SIMPLE", "credentialName": name, "minProtocolVersion": "TLSV1_2"},
        "hosts": hosts,
    }
    port = {"host": names.service_host(names.EDGE, names.GATEWAY_NAMESPACE), "port": {"number": 80}}
    way = {"route": [{"destination": port}]}
    objects = (
        ("cert-manager.io/v1", "Certificate", certificate),
        ("networking.istio.io/v1", "Gateway", {"selector": {"istio": "ingressgateway"}, "servers": [server]}),
        ("networking.istio.io/v1", "VirtualService", {"hosts": hosts, "gateways": [name], "http": [way]}),
    )
    labels = {names.TENANT_LABEL: tenant.name}
    return [
        {
            "apiVersion": api,
            "kind": kind,
            "metadata": {"name": name, "namespace": names.ISTIO_NAMESPACE, "labels": labels},
            "spec": spec,
        }
        for api, kind, spec in objects
    ]
