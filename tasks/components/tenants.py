"""One component for each tenant, made from its record."""

from functools import partial

from tasks.components import model_store
from tasks.lib import identity, isolation, names, routes, tenancy, trust
from tasks.lib.box import Box
from tasks.lib.kube.api import Ref
from tasks.lib.objects import ObjectsComponent, secret
from tasks.lib.render import Obj
from tasks.lib.tenancy import Tenant

_MOUNTED = "/etc/ssl/custom-certs"


def component(tenant: Tenant) -> ObjectsComponent:
    """Return the component of a tenant."""
    return ObjectsComponent(
        name=component_name(tenant.name),
        stage="tenants",
        summary=f"tenant {tenant.name}: {tenant.summary}".rstrip(": "),
        # It holds the public keys and the ids of tokens that were taken back.
        needs=("kserve-runtimes", "model-store", "identity", "edge"),
        build=partial(_objects, tenant),
        create_only=partial(_credentials, tenant),
        images=("kserve-sklearnserver",),
        timeout_s=180,
    )


def component_name(tenant: str) -> str:
    """Return the name of a tenant's component."""
    return names.tenant_component(tenant)


def account_secret(tenant: str) -> str:
    """Return the name of the store's copy of a tenant's keys, beside the store."""
    return f"model-store-{tenant}"


def _objects(tenant: Tenant, box: Box) -> list[Obj]:
    jwks, revoked = identity.public_jwks(box), list(identity.revoked(box))
    return [
        *tenancy.tenant_objects(tenant),
        *routes.tenant_objects(tenant, box.settings.domain, jwks, revoked),
        *isolation.tenant_objects(tenant, jwks, revoked),
        trust.bundle(box, tenant.namespace),
        model_store.account_job(box, "ensure", tenant.name, account_secret(tenant.name)),
    ]


def _credentials(tenant: Tenant, box: Box) -> list[Obj]:
    """The tenant's keys, once for the store and once for the tenant's own pods, with the same content.

    Whichever copy is there decides, so that one deleted by hand comes back with the keys that the store knows.
    """
    here = Ref("v1", "Secret", names.PLATFORM_NAMESPACE, account_secret(tenant.name))
    there = Ref("v1", "Secret", tenant.namespace, tenancy.CREDENTIALS_SECRET)
    live = box.kube.get(here) or box.kube.get(there)
    stored = secret(here.name, names.PLATFORM_NAMESPACE, {} if live else model_store.new_credentials())
    if live:
        stored["data"] = live["data"]
    used = secret(
        there.name,
        tenant.namespace,
        {},
        {
            "serving.kserve.io/s3-endpoint": model_store.ENDPOINT,
            "serving.kserve.io/s3-usehttps": "1",
            "serving.kserve.io/s3-verifyssl": "1",
            # KServe mounts the ConfigMap where the bundle is said to be.
            "serving.kserve.io/s3-cabundle": f"{_MOUNTED}/{trust.KEY}",
            "serving.kserve.io/s3-cabundle-configmap": trust.NAME,
            "serving.kserve.io/s3-region": model_store.REGION,
        },
    )
    return [stored, {**used, "data": stored["data"]}]
