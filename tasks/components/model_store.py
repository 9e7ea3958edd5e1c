"""The model store: an S3 server in the cluster, one account and one bucket for each tenant.

Versity's S3 gateway over a volume (docs/adr/0005). The accounts are made by a Job next to the store, so that nothing
has to reach the store from outside the cluster and no secret travels on an argument list.
"""

import secrets
from typing import Any

from tasks.lib import names, render
from tasks.lib.box import Box
from tasks.lib.objects import ObjectsComponent, secret
from tasks.lib.render import Obj

HOST = names.service_host(names.MODEL_STORE, names.PLATFORM_NAMESPACE)
ENDPOINT = f"{HOST}:{names.MODEL_STORE_PORT}"
URL = f"https://{ENDPOINT}"
REGION = "us-east-1"
ROOT_SECRET = "model-store-root"  # noqa: S105 (a name)
CERTIFICATE = "model-store-tls"
"""The Secret with the server's certificate and key, and with what they were signed by."""


def objects(box: Box) -> list[Obj]:
    """The server, its certificate, its volume, its Service and who may reach it."""
    values = {
        "certificate": CERTIFICATE,
        "host": HOST,
        "image": box.versions.images["model-store"].ref,
        "name": names.MODEL_STORE,
        "namespace": names.PLATFORM_NAMESPACE,
        "port": names.MODEL_STORE_PORT,
        "region": REGION,
        "rootSecret": ROOT_SECRET,
        "tenantLabel": names.TENANT_LABEL,
    }
    filled: list[Obj] = render.fill(render.load_objects(box.manifest("model-store/server.yaml")), values)
    return [*filled, _account_script(box)]


def root_credentials(box: Box) -> list[Obj]:  # noqa: ARG001 (the form of every builder)
    """The store's own administrator, made once and never shown."""
    return [secret(ROOT_SECRET, names.PLATFORM_NAMESPACE, new_credentials())]


def new_credentials() -> dict[str, str]:
    """Make a fresh S3 key pair."""
    return {"AWS_ACCESS_KEY_ID": secrets.token_hex(10), "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30)}


def _account_script(box: Box) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "model-store-account", "namespace": names.PLATFORM_NAMESPACE},
        "data": {"account.py": box.manifest("model-store/account.py").read_text()},
    }


def account_job(box: Box, action: str, tenant: str, credentials_secret: str) -> Obj:
    """The Job that makes (`ensure`) or removes (`remove`) a tenant's account and bucket.

    Its name carries a digest of what it does: a change makes a new Job, a repetition finds the finished one.
    """
    values: dict[str, Any] = {
        "action": action,
        "bucket": bucket(tenant),
        "certificate": CERTIFICATE,
        "endpoint": URL,
        "image": box.versions.images["kserve-sklearnserver"].ref,
        "namespace": names.PLATFORM_NAMESPACE,
        "region": REGION,
        "rootSecret": ROOT_SECRET,
        "tenantSecret": credentials_secret,
    }
    stamp = render.digest([values, box.manifest("model-store/account.py").read_text()])[:8]
    values["name"] = names.account_job(action, tenant, stamp)
    (job,) = render.fill(render.load_objects(box.manifest("model-store/account-job.yaml")), values)
    return dict(job)


def bucket(tenant: str) -> str:
    """The bucket of a tenant (S3 wants at least three characters)."""
    return f"tenant-{tenant}"


# No probe through the API server: its NetworkPolicy lets in tenants and the account Jobs, and not the API server. The
# kubelet asks /healthz, and each account Job uses it.
MODEL_STORE = ObjectsComponent(
    name="model-store",
    stage="serving",
    summary="the S3 store that models are loaded from",
    needs=("issuers",),
    build=objects,
    create_only=root_credentials,
    images=("model-store", "kserve-sklearnserver"),
    timeout_s=240,
)
