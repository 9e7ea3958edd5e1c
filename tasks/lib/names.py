"""Names we give to things in a cluster. One place for each."""

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

INGRESS_GATEWAY = "istio-ingressgateway"
HTTP_NODE_PORT = 30080
HTTPS_NODE_PORT = 30443

MODEL_STORE = "model-store"
MODEL_STORE_PORT = 7070
