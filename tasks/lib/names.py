"""Names we give to things in a cluster. One place for each."""

import re
from collections.abc import Iterable

DOMAIN = "inference-in-a-box"

PLATFORM_NAMESPACE = "inference-in-a-box"
FIELD_MANAGER = "inference-in-a-box"

COMPONENT_LABEL = f"{DOMAIN}/component"
TENANT_LABEL = f"{DOMAIN}/tenant"
MODEL_LABEL = f"{DOMAIN}/model"
KEEP_ANNOTATION = f"{DOMAIN}/keep"

ISTIO_NAMESPACE = "istio-system"
KNATIVE_NAMESPACE = "knative-serving"
KSERVE_NAMESPACE = "kserve"
CERT_MANAGER_NAMESPACE = "cert-manager"
GATEWAY_NAMESPACE = "envoy-gateway-system"

EDGE = "edge"

GATEWAY_LABEL = "gateway.envoyproxy.io/owning-gateway-name"
"""On a Gateway's proxies, by Envoy Gateway."""

ROUTES_LABEL = f"{DOMAIN}/routes"
"""On namespaces whose routes the edge takes."""

INGRESS_GATEWAY = "istio-ingressgateway"
HTTP_NODE_PORT = 30080
HTTPS_NODE_PORT = 30443

ACTIVATOR_SERVICE = "activator-service"
LOCAL_GATEWAY = "knative-local-gateway"
REDIS = "redis"

MODEL_STORE = "model-store"
MODEL_STORE_PORT = 7070

JWT_SERVER = "jwt-server"
JWT_SERVER_PORT = 8080

SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
"""What an object may be called, but for those that make labels."""

LONGEST_LABEL = 63
"""Characters that the value of a label, or a DNS label, may have."""

ARTEFACT = ".artefact"

_STAMP = "0123abcd"
"""The form of the digest at the end of a Job's name."""


def service_host(service: str, namespace: str) -> str:
    """The host name of a Service, inside the cluster."""
    return f"{service}.{namespace}.svc.cluster.local"


def tenant_namespace(tenant: str) -> str:
    """The namespace that is a tenant's alone."""
    return f"tenant-{tenant}"


def tenant_component(tenant: str) -> str:
    """The component of a tenant."""
    return f"tenant-{tenant}"


def account_job(action: str, tenant: str, stamp: str = _STAMP) -> str:
    """The Job that makes (`ensure`) or removes (`remove`) a tenant's account in the model store."""
    return f"{MODEL_STORE}-{action}-{tenant}-{stamp}"


def model_component(tenant: str, model: str) -> str:
    """The component that serves a model. Neither name can have a dot, so no two models share a component."""
    return f"model-{tenant}.{model}"


def artefact_component(tenant: str, model: str) -> str:
    """The component that trains a model."""
    return f"{model_component(tenant, model)}{ARTEFACT}"


def training_job(model: str, stamp: str = _STAMP) -> str:
    """The Job that trains a model."""
    return f"train-{model}-{stamp}"


def revision(model: str) -> str:
    """What Knative calls a version of a model, and labels its pods with."""
    return f"{model}-predictor-00001"


def room(forms: Iterable[str]) -> tuple[int, str]:
    """Return how long a name may be, and the form that decides: each has to fit in a label, with the name for NAME."""
    tightest = max(forms, key=len)
    return LONGEST_LABEL - len(tightest) + len("NAME"), tightest
