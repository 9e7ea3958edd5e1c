"""Envoy AI Gateway: what it would be told of the models that speak OpenAI's protocol. Drawn, and not applied.

Its module and its images cannot be had where this was written, so it has never run: nothing here says that it works.
"""

from collections.abc import Iterable, Sequence
from functools import partial

from tasks.components.later import Later
from tasks.lib import identity, names, openai, render, routes
from tasks.lib.box import Box
from tasks.lib.modelling import Model
from tasks.lib.render import Obj
from tasks.lib.tenancy import Tenant


def component(tenants: Iterable[Tenant], models: Iterable[Model]) -> Later:
    """Return the component; it says which models it is about."""
    speaking, known = openai.spoken_by(models), list(tenants)
    about = f" ({', '.join(f'{each.tenant}/{each.name}' for each in speaking)})" if speaking else ""
    return Later(
        name="ai-gateway",
        stage="gateway",
        summary="Envoy AI Gateway",
        needs=("edge",),
        left_out=f"not in this version, from no source: rendered, not applied{about}",
        draw=partial(_draw, known, speaking),
    )


def _draw(tenants: Sequence[Tenant], models: Sequence[Model], box: Box) -> list[Obj]:
    """Return the walls around its proxies, and everything of each tenant that has such a model; else nothing."""
    owners = {each.name: each for each in tenants}
    of_tenant: dict[str, list[Model]] = {}
    for model in models:
        of_tenant.setdefault(model.tenant, []).append(model)
    if not of_tenant:
        return []
    walls = {"name": openai.GATEWAY, "namespace": names.GATEWAY_NAMESPACE}
    drawn = list(render.fill(render.load_objects(box.manifest("gateway/ai-walls.yaml")), walls))
    jwks, revoked = identity.public_jwks(box), list(identity.revoked(box))
    for name, own in of_tenant.items():
        drawn += _gateway(owners[name], box)
        drawn += openai.tenant_objects(owners[name], own, jwks, revoked)
    return drawn


def _gateway(tenant: Tenant, box: Box) -> list[Obj]:
    """A tenant's Gateway, its proxy, and the way to it from Istio's ingress gateway."""
    values = {
        "drainTime": routes.DRAIN_TIME,
        "edge": names.EDGE,
        "gatewayNamespace": names.GATEWAY_NAMESPACE,
        "host": openai.host(tenant, box.settings.domain),
        "istioNamespace": names.ISTIO_NAMESPACE,
        "name": openai.GATEWAY,
        "namespace": tenant.namespace,
        "proxyImage": box.versions.images["envoy-proxy"].ref,
        "service": f"{openai.GATEWAY}-{tenant.name}",
        "tenantGateway": routes.ingress_name(tenant),
        "untrusted": list(routes.UNTRUSTED),
    }
    made: list[Obj] = render.fill(render.load_objects(box.manifest("gateway/ai.yaml")), values)
    for each in made:
        each["metadata"]["labels"] = {names.TENANT_LABEL: tenant.name}
    return made
