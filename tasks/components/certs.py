"""cert-manager, and the platform's own certificate authority."""

from tasks.lib import helm, names, render
from tasks.lib.box import Box
from tasks.lib.objects import ObjectsComponent, Probe, namespace
from tasks.lib.probes import admits
from tasks.lib.render import Obj

_RESOURCES = {"requests": {"cpu": "10m", "memory": "48Mi"}}

_ISSUER: Obj = {
    "apiVersion": "cert-manager.io/v1",
    "kind": "Issuer",
    "metadata": {"name": "webhook-probe", "namespace": names.CERT_MANAGER_NAMESPACE},
    "spec": {"selfSigned": {}},
}


def cert_manager_objects(box: Box) -> list[Obj]:
    """Render the chart.

    Its start-up API check is replaced by ours: the hook can time out on a slow machine (cert-manager#4646, #8102) and
    says less.
    """
    values = {
        "crds": {"enabled": True, "keep": False},
        "startupapicheck": {"enabled": False},
        # A certificate that goes takes its key along.
        "extraArgs": ["--enable-certificate-owner-ref=true"],
        "global": {"leaderElection": {"namespace": names.CERT_MANAGER_NAMESPACE}},
        "resources": _RESOURCES,
        "webhook": {"resources": _RESOURCES},
        "cainjector": {"resources": _RESOURCES},
    }
    return [
        namespace(names.CERT_MANAGER_NAMESPACE),
        *helm.template(
            box, "cert-manager", release="cert-manager", namespace=names.CERT_MANAGER_NAMESPACE, values=values
        ),
    ]


def issuer_objects(box: Box) -> list[Obj]:
    """The root of trust: a self-signed root, its certificate, and the issuer that signs for the platform."""
    return render.load_objects(box.manifest("certs/issuers.yaml"))


CERT_MANAGER = ObjectsComponent(
    name="cert-manager",
    stage="certs",
    summary="cert-manager, its webhook answering",
    needs=("cluster",),
    build=cert_manager_objects,
    probes=(Probe("the webhook admits an Issuer", admits(_ISSUER)),),
    images=("cert-manager-controller", "cert-manager-webhook", "cert-manager-cainjector"),
    timeout_s=240,
)

ISSUERS = ObjectsComponent(
    name="issuers",
    stage="certs",
    summary="a root certificate and the platform's issuer",
    needs=("cert-manager",),
    build=issuer_objects,
    timeout_s=120,
)

COMPONENTS = (CERT_MANAGER, ISSUERS)
