"""Istio: definitions, control plane, ingress gateway."""

from typing import Any

from tasks.lib import helm, names, render, routes
from tasks.lib.box import Box
from tasks.lib.objects import ObjectsComponent, Probe, namespace
from tasks.lib.probes import answers, changes, refuses
from tasks.lib.render import Obj

_STATUS_PORT = 15021

_POD: Obj = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "injection-probe",
        "namespace": names.PLATFORM_NAMESPACE,
        "labels": {"sidecar.istio.io/inject": "true"},
    },
    "spec": {"containers": [{"name": "app", "image": "injection-probe"}]},
}

_BAD_VIRTUAL_SERVICE: Obj = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "validation-probe", "namespace": names.PLATFORM_NAMESPACE},
    "spec": {
        "hosts": ["validation-probe.example.com"],
        "http": [{"route": [{"destination": {"host": "a"}, "weight": 0}, {"destination": {"host": "b"}, "weight": 0}]}],
    },
}


def base_objects(box: Box) -> list[Obj]:
    """Definitions and the validator of the default revision."""
    return [
        namespace(names.ISTIO_NAMESPACE),
        *helm.template(
            box, "istio-base", release="istio-base", namespace=names.ISTIO_NAMESPACE,
            values={"defaultRevision": "default"},
        ),
    ]  # fmt: skip


def istiod_objects(box: Box) -> list[Obj]:
    """The control plane, with requests that fit one small machine (the chart asks for 2 GiB)."""
    values: dict[str, Any] = {
        "pilot": {
            "autoscaleEnabled": False,
            "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
            # As init containers that stay: there before a model's artefact is fetched, and gone when a Job is done.
            "env": {"ENABLE_NATIVE_SIDECARS": "true"},
        },
        "global": {
            "hub": box.versions.images["istio-pilot"].repository.rpartition("/")[0],
            "tag": box.versions.images["istio-pilot"].version,
            # The chart's limits (2 CPUs, 1 GiB) would use up a tenant's quota with three pods.
            "proxy": {
                "resources": {
                    "requests": {"cpu": "10m", "memory": "64Mi"},
                    "limits": {"cpu": "1", "memory": "256Mi"},
                }
            },
        },
        "meshConfig": {
            "accessLogFile": "/dev/stdout",
            "accessLogEncoding": "JSON",
            "defaultConfig": {"drainDuration": routes.DRAIN_TIME},
            # What reached nobody, and nothing else: a prediction may be anything but idempotent. Istio's own policy
            # tries gRPC's UNAVAILABLE again, which a model may have answered.
            "defaultHttpRetryPolicy": {"attempts": 2, "retryOn": "connect-failure,refused-stream"},
        },
    }
    return helm.template(box, "istiod", release="istiod", namespace=names.ISTIO_NAMESPACE, values=values)


def gateway_objects(box: Box) -> list[Obj]:
    """The ingress gateway. The release's name decides the labels that Knative's Gateways select."""
    values = {
        "service": {"type": box.provider.service_type, "ports": _ports(box)},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        "autoscaling": {"enabled": False},
        # One that is replaced ends when its connections have, and has time for that.
        "env": {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true"},
        "terminationGracePeriodSeconds": routes.DRAIN_S + 10,
    }
    return helm.template(
        box, "istio-gateway", release=names.INGRESS_GATEWAY, namespace=names.ISTIO_NAMESPACE, values=values
    )


def policy_objects(box: Box) -> list[Obj]:
    """Mutual TLS for the whole mesh."""
    return render.load_objects(box.manifest("mesh/policies.yaml"))


def _ports(box: Box) -> list[dict[str, Any]]:
    ports: list[dict[str, Any]] = [
        {"name": "status-port", "port": _STATUS_PORT, "protocol": "TCP", "targetPort": _STATUS_PORT},
        {"name": "http2", "port": 80, "protocol": "TCP", "targetPort": 80},
        {"name": "https", "port": 443, "protocol": "TCP", "targetPort": 443},
    ]
    if box.provider.service_type == "NodePort":
        ports[1]["nodePort"] = names.HTTP_NODE_PORT
        ports[2]["nodePort"] = names.HTTPS_NODE_PORT
    return ports


def _injected(pod: Obj) -> bool:
    spec = pod["spec"]
    return any(each["name"] == "istio-proxy" for each in spec["containers"] + spec.get("initContainers", []))


ISTIO_BASE = ObjectsComponent(
    name="istio-base",
    stage="mesh",
    summary="Istio's definitions",
    needs=("cluster",),
    build=base_objects,
    timeout_s=120,
)

ISTIOD = ObjectsComponent(
    name="istiod",
    stage="mesh",
    summary="Istio's control plane: injects and validates",
    needs=("istio-base",),
    build=istiod_objects,
    probes=(
        Probe("the injector injects", changes(_POD, _injected, "sidecar injection")),
        Probe("the validator refuses a bad object", refuses(_BAD_VIRTUAL_SERVICE, "validation.istio.io")),
    ),
    images=("istio-pilot", "istio-proxy"),
    timeout_s=240,
)

INGRESS_GATEWAY = ObjectsComponent(
    name="ingress-gateway",
    stage="mesh",
    summary="Istio's ingress gateway, answering",
    needs=("istiod",),
    build=gateway_objects,
    probes=(
        Probe(
            "the gateway answers",
            answers(names.ISTIO_NAMESPACE, names.INGRESS_GATEWAY, _STATUS_PORT, "/healthz/ready"),
        ),
    ),
    images=("istio-proxy",),
    timeout_s=180,
)

MESH_POLICIES = ObjectsComponent(
    name="mesh-policies",
    stage="mesh",
    summary="mutual TLS required of every sidecar",
    needs=("istiod",),
    build=policy_objects,
    timeout_s=60,
)

COMPONENTS = (ISTIO_BASE, ISTIOD, INGRESS_GATEWAY, MESH_POLICIES)
