"""Envoy Gateway: definitions, control plane with its limiter, and the edge, which answers what no route matches."""

import base64
import secrets
from typing import Any

from tasks.lib import gateway, helm, names, render, routes
from tasks.lib.box import Box
from tasks.lib.objects import ObjectsComponent, Probe, namespace, secret
from tasks.lib.render import Obj

_DEFINITION = "CustomResourceDefinition"
_LIMITER_S = "1s"
"""The chart's own 20 ms would let requests through uncounted on a busy machine."""


def definitions(box: Box) -> list[Obj]:
    """Gateway API's definitions, in the channel Envoy Gateway ships, and Envoy Gateway's own."""
    own = [each for each in _chart(box) if each["kind"] == _DEFINITION and _group(each) == "gateway.envoyproxy.io"]
    shared = render.tidy(render.load_objects(box.source.manifest("gateway-api")))
    return [*shared, *own]


def _group(definition: Obj) -> str:
    return str(definition["spec"]["group"])


def control_plane(box: Box) -> list[Obj]:
    """The controller, the certificates between it and its proxies, and Redis, in which the limiter counts."""
    values = {"namespace": names.GATEWAY_NAMESPACE, "image": box.versions.images["redis"].ref}
    own: list[Obj] = []
    for each in ("control-plane", "redis", "walls"):
        own += render.fill(render.load_objects(box.manifest(f"gateway/{each}.yaml")), values)
    chart = [each for each in _chart(box) if each["kind"] != _DEFINITION]
    return [namespace(names.GATEWAY_NAMESPACE, {names.ROUTES_LABEL: "true"}), *chart, *own]


def hmac_secret(box: Box) -> list[Obj]:  # noqa: ARG001 (the form of every builder)
    """What the chart's hook would have made beside the certificates: Envoy Gateway does not start without it."""
    made = secret("envoy-oidc-hmac", names.GATEWAY_NAMESPACE, {})
    return [{**made, "data": {"hmac-secret": base64.b64encode(secrets.token_bytes(32)).decode()}}]


def _chart(box: Box) -> list[Obj]:
    image = box.versions.images["envoy-gateway"].ref
    host = f"{names.service_host(names.REDIS, names.GATEWAY_NAMESPACE)}:6379"
    values: dict[str, Any] = {
        "global": {
            "images": {
                "envoyGateway": {"image": image, "pullPolicy": "IfNotPresent"},
                "ratelimit": {"image": box.versions.images["envoy-ratelimit"].ref},
            }
        },
        "deployment": {
            "envoyGateway": {
                "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "1024Mi"}}
            }
        },
        "config": {
            "envoyGateway": {
                "extensionApis": {"enableBackend": True},
                "rateLimit": {
                    "timeout": _LIMITER_S,
                    "failClosed": False,
                    "backend": {
                        "type": "Redis",
                        "redis": {"url": host, "tls": {"certificateRef": {"name": "redis-client"}}},
                    },
                },
                "provider": {
                    "type": "Kubernetes",
                    "kubernetes": {
                        "rateLimitDeployment": {
                            "container": {
                                # Envoy Gateway mounts the certificate there; it does not say by which root to verify.
                                "env": [{"name": "REDIS_TLS_CACERT", "value": "/redis-certs/ca.crt"}],
                                "resources": {
                                    "requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"},
                                },
                            }
                        }
                    },
                },
            }
        },
        "topologyInjector": {"enabled": False},
    }  # fmt: skip
    return helm.template(box, "envoy-gateway", release="eg", namespace=names.GATEWAY_NAMESPACE, values=values)


def edge_objects(box: Box) -> list[Obj]:
    """The Gateway, its proxy, what is the same for all routes, and the way from Istio's ingress gateway."""
    values = {
        "domain": box.settings.domain,
        "drainTime": routes.DRAIN_TIME,
        "istioNamespace": names.ISTIO_NAMESPACE,
        "namespace": names.GATEWAY_NAMESPACE,
        "notFound": routes.NOT_FOUND,
        "proxyImage": box.versions.images["envoy-proxy"].ref,
        "routesLabel": names.ROUTES_LABEL,
        "untrusted": list(routes.UNTRUSTED),
    }
    filled: list[Obj] = render.fill(render.load_objects(box.manifest("gateway/edge.yaml")), values)
    return filled


DEFINITIONS = ObjectsComponent(
    name="gateway-crds",
    stage="gateway",
    summary="Gateway API's and Envoy Gateway's definitions",
    # Istiod looks for some of them when it starts; it sees them appear, too.
    needs=("cluster",),
    build=definitions,
    timeout_s=120,
)

ENVOY_GATEWAY = ObjectsComponent(
    name="envoy-gateway",
    stage="gateway",
    summary="Envoy Gateway's control plane, and Redis for its limiter",
    needs=("gateway-crds", "cert-manager", "mesh-policies"),
    build=control_plane,
    create_only=hmac_secret,
    images=("envoy-gateway", "envoy-ratelimit", "redis"),
    timeout_s=240,
)

EDGE = ObjectsComponent(
    name="edge",
    stage="gateway",
    summary="the edge: Istio's ingress, then Envoy Gateway's proxy, answering",
    needs=("envoy-gateway", "ingress-gateway", "issuers"),
    build=edge_objects,
    probes=(Probe("what no route matches is answered by its proxy", gateway.default_answers),),
    images=("envoy-proxy", "envoy-gateway", "istio-proxy"),
    timeout_s=240,
)

COMPONENTS = (DEFINITIONS, ENVOY_GATEWAY, EDGE)
