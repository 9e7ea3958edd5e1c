"""Everything the platform is made of, as one graph. Edges are written in the components' `needs` and nowhere else."""

from collections.abc import Iterable

from tasks.components import ai_gateway, certs, cluster, gateway, identity, later, mesh, models, serving, tenants
from tasks.lib.component import Component
from tasks.lib.graph import Graph
from tasks.lib.modelling import Model
from tasks.lib.tenancy import Tenant

STAGES = ("cluster", "certs", "mesh", "serving", "gateway", "obs", "tenants", "models", "verify")


def platform(tenant_records: Iterable[Tenant], model_records: Iterable[Model]) -> Graph[Component]:
    """Return the graph of the whole platform, with one component for each tenant and two for each model."""
    tenant_records, model_records = list(tenant_records), list(model_records)
    fixed: list[Component] = [
        *cluster.COMPONENTS,
        *certs.COMPONENTS,
        *mesh.COMPONENTS,
        *serving.COMPONENTS,
        *identity.COMPONENTS,
        *gateway.COMPONENTS,
        ai_gateway.component(tenant_records, model_records),
        *later.COMPONENTS,
    ]
    made: list[Component] = [tenants.component(each) for each in tenant_records]
    for record in model_records:
        made += models.components(record)
    return Graph([*fixed, *made])
