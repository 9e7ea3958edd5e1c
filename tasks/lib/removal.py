"""Takes a tenant away with all that was made for it: the same way by command and by `up`, so that nothing stays behind.

Its models go first, then its bucket and account in the model store, which are no objects of the cluster, then the rest.
What there is of it is read from the inventories: a configuration says what is wanted, and not what is there.
"""

from collections.abc import Callable

from tasks.components import model_store, tenants
from tasks.lib import names
from tasks.lib.box import Box
from tasks.lib.component import Changes
from tasks.lib.kube import apply, inventory, prune, wait
from tasks.lib.kube.api import Cluster, Ref

REMOVE_S = 180.0
"""Seconds for models to go, and for the account to be removed."""

_MODEL = ("serving.kserve.io/v1beta1", "InferenceService")


def running_models(kube: Cluster, tenant: str) -> list[str]:
    """Return the names of the models in a tenant's namespace, whoever made them."""
    return sorted(each["metadata"]["name"] for each in kube.list(*_MODEL, names.tenant_namespace(tenant)))


def model_components(kube: Cluster, tenant: str) -> list[str]:
    """Return the components of a tenant's models that are in the cluster, dependents first."""
    found = [each for each in inventory.components(kube) if each.startswith(names.model_component(tenant, ""))]
    return sorted(found, key=lambda each: (each.endswith(names.ARTEFACT), each))


def in_use(kube: Cluster, tenant: str) -> str:
    """Return why a tenant has to stay unless someone insists: its models, and what others have in its namespace."""
    if models := running_models(kube, tenant):
        return f"has models: {', '.join(models)}"
    namespace = Ref("v1", "Namespace", None, names.tenant_namespace(tenant))
    return "; ".join(prune.foresee(kube, tenants.component_name(tenant), [namespace]).reasons)


def remove_tenant(box: Box, tenant: str, *, force: bool, say: Callable[[str], None] = lambda _: None) -> Changes:
    """Remove a tenant. `force` takes along what is its own by place only: models and work of others, and volumes.

    Raises NotReady naming what does not go, with the tenant's keys still there: the same again goes on from there.
    """
    kube, cancel, changes = box.kube, box.cancel, Changes()
    for component in model_components(kube, tenant):
        changes += inventory.remove(kube, component, force=force, say=say, cancel=cancel)
    if force:
        _remove_models(box, tenant, say)
    _remove_account(box, tenant, say)
    component = tenants.component_name(tenant)
    return changes + inventory.remove(kube, component, force=force, volumes=force, say=say, cancel=cancel)


def _remove_models(box: Box, tenant: str, say: Callable[[str], None]) -> None:
    found = {Ref.of(each): each["metadata"]["uid"] for each in box.kube.list(*_MODEL, names.tenant_namespace(tenant))}
    for ref, uid in found.items():
        box.kube.delete(ref, "Foreground", uid)
    wait.until_gone(box.kube, found, REMOVE_S, say, box.cancel)


def _remove_account(box: Box, tenant: str, say: Callable[[str], None]) -> None:
    """Empty and remove its bucket and its account, by a Job that is itself removed when it is done."""
    keys = tenants.account_secret(tenant)
    if box.kube.get(Ref("v1", "Secret", names.PLATFORM_NAMESPACE, keys), heads=True) is None:
        return
    component = f"remove-{tenant}"
    job = model_store.account_job(box, "remove", tenant, keys)
    apply.apply_all(box.kube, [job], component, say=say, cancel=box.cancel)
    wait.until_current(box.kube, [Ref.of(job)], REMOVE_S, say, box.cancel, f"bucket of {tenant}")
    inventory.remove(box.kube, component, say=say, cancel=box.cancel)
