"""Knative Serving, its Istio binding, KServe, and the store the models come from."""

import json
from functools import partial
from typing import Any

from tasks.components import model_store
from tasks.lib import helm, names, render
from tasks.lib.box import Box
from tasks.lib.kube.client import Ref
from tasks.lib.objects import ObjectsComponent, Probe, namespace
from tasks.lib.probes import admits, exists, refuses, refuses_plain_text
from tasks.lib.render import Obj

_DEFINITIONS = frozenset({"CustomResourceDefinition"})
_WEBHOOKS = frozenset({"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"})

_KNATIVE_SERVICE: Obj = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {"name": "webhook-probe", "namespace": names.PLATFORM_NAMESPACE},
    "spec": {"template": {"spec": {"containers": [{"image": "webhook-probe"}]}}},
}

_BAD_KNATIVE_SERVICE = render.merge(_KNATIVE_SERVICE, {"spec": {"template": {"spec": {"containerConcurrency": -1}}}})

_INFERENCE_SERVICE: Obj = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "webhook-probe", "namespace": names.PLATFORM_NAMESPACE},
    "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://probe/probe"}}},
}

_SERVING_RUNTIME: Obj = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "ClusterServingRuntime",
    "metadata": {"name": "webhook-probe"},
    "spec": {
        "supportedModelFormats": [{"name": "webhook-probe", "version": "1"}],
        "containers": [{"name": "kserve-container", "image": "webhook-probe"}],
    },
}


def knative_definitions(box: Box) -> list[Obj]:
    """Knative's own definitions; nothing else is in that file."""
    return render.tidy(render.load_objects(box.source.manifest("knative-serving-crds")))


def knative_objects(box: Box) -> list[Obj]:
    """Knative's core with our settings.

    The vendor's core file repeats the definitions; the other component owns them.
    """
    objects = render.tidy(render.load_objects(box.source.manifest("knative-serving-core")), drop_kinds=_DEFINITIONS)
    for each in objects:
        if each["kind"] in _WEBHOOKS:
            _leave_rules(each)
    for config_map, settings in _knative_settings(box).items():
        render.patch(objects, "ConfigMap", config_map, partial(_set_data, data=settings))
    for deployment in ("activator", "autoscaler"):
        render.patch(objects, "Deployment", deployment, _join_mesh)
    return [*objects, *render.load_objects(box.manifest("serving/mesh.yaml"))]


def _join_mesh(deployment: Obj) -> None:
    """Give what carries traffic a sidecar. The namespace is not labelled: webhooks in it must stay outside."""
    labels = deployment["spec"]["template"]["metadata"].setdefault("labels", {})
    labels["sidecar.istio.io/inject"] = "true"


def _knative_settings(box: Box) -> dict[str, dict[str, str]]:
    """Top-level keys only: touching `_example` is refused by its checksum (knative/serving#8211)."""
    return {
        # Every route is inside the cluster, whatever its labels say: from outside, all comes through the edge.
        "config-domain": {"svc.cluster.local": ""},
        "config-network": {
            "ingress-class": "istio.ingress.networking.knative.dev",
            # Activator and autoscaler reach pods by the revision's Service: a sidecar does not know pods' addresses.
            "mesh-compatibility-mode": "enabled",
        },
        # Tags are resolved by the controller, not by the kubelet: with images that come through a mirror it must not.
        "config-deployment": {
            "registries-skipping-tag-resolving": ",".join(box.source.registries_without_tag_resolving())
        },
        "config-autoscaler": {
            "enable-scale-to-zero": "true",
            "scale-to-zero-grace-period": "30s",
            "stable-window": "60s",
        },
    }


def net_istio_objects(box: Box) -> list[Obj]:
    """The controller that turns Knative's routes into Istio's objects, with its two Gateways."""
    objects = render.tidy(render.load_objects(box.source.manifest("net-istio")))
    render.patch(objects, "Gateway", names.LOCAL_GATEWAY, _require_mutual_tls)
    return objects


def _require_mutual_tls(gateway: Obj) -> None:
    """Make the cluster-local gateway take the mesh's TLS and nothing else."""
    for server in gateway["spec"]["servers"]:
        server["port"] = {**server["port"], "name": "https", "protocol": "HTTPS"}
        server["tls"] = {"mode": "ISTIO_MUTUAL"}


def kserve_definitions(box: Box) -> list[Obj]:
    """KServe's definitions."""
    return helm.template(box, "kserve-crd", release="kserve-crd", namespace=names.KSERVE_NAMESPACE, values={})


def _kserve_chart(box: Box) -> list[Obj]:
    values: dict[str, Any] = {
        "kserve": {
            "controller": {
                "deploymentMode": "Serverless",
                # The Knative Service's own URL is the model's: one VirtualService less on the way, and the form that
                # works where mutual TLS is required.
                "gateway": {"domain": box.settings.domain, "disableIstioVirtualHost": True},
                "resources": {
                    "requests": {"cpu": "20m", "memory": "100Mi"},
                    "limits": {"cpu": "1", "memory": "500Mi"},
                },
                "rbacProxy": {
                    "resources": {
                        "requests": {"cpu": "5m", "memory": "20Mi"},
                        "limits": {"cpu": "100m", "memory": "300Mi"},
                    }
                },
            }
        }
    }
    return helm.template(box, "kserve", release="kserve", namespace=names.KSERVE_NAMESPACE, values=values)


_RUNTIME_KINDS = frozenset({"ClusterServingRuntime", "ClusterStorageContainer"})


def kserve_objects(box: Box) -> list[Obj]:
    """The controller and its webhooks. The runtimes follow when the webhook answers (kserve#5037)."""
    objects = [namespace(names.KSERVE_NAMESPACE), *render.tidy(_kserve_chart(box), drop_kinds=_RUNTIME_KINDS)]
    render.patch(objects, "ConfigMap", "inferenceservice-config", _mend_router)
    render.patch(objects, "Deployment", "kserve-controller-manager", _probe_at_once)
    return objects


def kserve_runtimes(box: Box) -> list[Obj]:
    """The model server runtimes and the storage initializer's container."""
    return [each for each in _kserve_chart(box) if each["kind"] in _RUNTIME_KINDS]


def _mend_router(config: Obj) -> None:
    """The chart renders the key `router` as invalid JSON (kserve#4397, #4821)."""
    broken = config["data"]["router"]
    image = next(line.split('"')[3] for line in broken.splitlines() if '"image"' in line)
    config["data"]["router"] = json.dumps(
        {
            "image": image,
            "memoryRequest": "100Mi",
            "memoryLimit": "1Gi",
            "cpuRequest": "100m",
            "cpuLimit": "1",
            "headers": {"propagate": []},
            "imagePullPolicy": "IfNotPresent",
            "imagePullSecrets": [],
        }
    )


def _probe_at_once(deployment: Obj) -> None:
    """The chart waits 30 s before it asks for the first time; readiness is ours to observe."""
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        if "readinessProbe" in container:
            container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 2, "failureThreshold": 30}


def _leave_rules(configuration: Obj) -> None:
    """The webhook's own process writes the rules, in an order of its own (knative.dev/pkg/webhook)."""
    for webhook in configuration["webhooks"]:
        webhook.pop("rules", None)


def _set_data(config_map: Obj, data: dict[str, str]) -> None:
    config_map["data"] = {**(config_map.get("data") or {}), **data}


KNATIVE_DEFINITIONS = ObjectsComponent(
    name="knative-crds",
    stage="serving",
    summary="Knative's definitions",
    needs=("cluster",),
    build=knative_definitions,
    timeout_s=120,
)

KNATIVE = ObjectsComponent(
    name="knative",
    stage="serving",
    summary="Knative Serving, its webhooks answering, its data plane in the mesh",
    # The injector has to be there before the pods.
    needs=("knative-crds", "mesh-policies"),
    build=knative_objects,
    probes=(
        Probe("the webhook admits a Service", admits(_KNATIVE_SERVICE)),
        Probe(
            "the validator refuses a bad Service",
            refuses(_BAD_KNATIVE_SERVICE, "validation.webhook.serving.knative.dev"),
        ),
        Probe(
            "the activator refuses plain text",
            refuses_plain_text(names.KNATIVE_NAMESPACE, names.ACTIVATOR_SERVICE, 80),
        ),
    ),
    images=("knative-activator", "knative-autoscaler", "knative-controller", "knative-webhook", "knative-queue"),
    timeout_s=300,
)

NET_ISTIO = ObjectsComponent(
    name="net-istio",
    stage="serving",
    summary="Knative's routes on Istio's gateway",
    needs=("knative", "istiod"),
    build=net_istio_objects,
    images=("net-istio-controller",),
    timeout_s=180,
)

KSERVE_DEFINITIONS = ObjectsComponent(
    name="kserve-crds",
    stage="serving",
    summary="KServe's definitions",
    needs=("cluster",),
    build=kserve_definitions,
    timeout_s=120,
)

KSERVE = ObjectsComponent(
    name="kserve",
    stage="serving",
    summary="KServe's controller, its webhooks answering",
    # It looks for Knative's and Istio's definitions once, when it starts.
    needs=("kserve-crds", "knative-crds", "istio-base", "cert-manager"),
    build=kserve_objects,
    probes=(Probe("the webhook admits a ClusterServingRuntime", admits(_SERVING_RUNTIME)),),
    images=("kserve-controller", "kube-rbac-proxy"),
    timeout_s=300,
)

KSERVE_RUNTIMES = ObjectsComponent(
    name="kserve-runtimes",
    stage="serving",
    summary="KServe's model servers; an InferenceService is admitted",
    needs=("kserve",),
    build=kserve_runtimes,
    probes=(
        Probe("the webhook admits an InferenceService", admits(_INFERENCE_SERVICE)),
        Probe(
            "the runtime for scikit-learn is there",
            exists(Ref("serving.kserve.io/v1alpha1", "ClusterServingRuntime", None, "kserve-sklearnserver")),
        ),
    ),
    images=("kserve-sklearnserver", "kserve-storage-initializer"),
    timeout_s=120,
)

COMPONENTS = (
    KNATIVE_DEFINITIONS,
    KNATIVE,
    NET_ISTIO,
    KSERVE_DEFINITIONS,
    KSERVE,
    KSERVE_RUNTIMES,
    model_store.MODEL_STORE,
)
