"""Cells about what keeps callers away before a token is read: NetworkPolicy, mutual TLS, and who may call. Pure.

A way that the network closes counts only beside the same way, from the control's seat, that connects.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.checks.trust.cells import (
    ACTIVATOR,
    EDGE,
    LISTEN_PORT,
    LOCAL,
    METRICS_PORT,
    POD,
    QUEUE_PORT,
    SERVER_PORT,
    Cell,
    Seat,
    Target,
)
from tasks.checks.trust.layers import Layer, agent
from tasks.lib import names
from tasks.lib.kube.api import Obj
from tasks.lib.netpolicies import in_namespace, policy
from tasks.lib.probepods import ROLE_LABEL, Way

DIRECT = "verify-direct"
"""The Service that leads to every port of a scratch model's pod."""

AT_EDGES_SIDECAR = "the edge's sidecar"

Place = tuple[str, int]

_HTTP, _HTTPS, _XDS, _LIMITER, _REDIS, _ISTIOD = 80, 443, 18000, 8081, 6379, 15012


def service(name: str, namespace: str, selector: Mapping[str, str], ports: Sequence[int]) -> Obj:
    """Return a Service that leads to ports of the same number, as HTTP."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": dict(selector),
            "ports": [{"name": f"http-{port}", "port": port, "targetPort": port} for port in ports],
        },
    }


def services(targets: Sequence[Target]) -> list[Obj]:
    """Return the Services that give what has none a name: models' pods, and those of ours that listen.

    The tenant's seat is in the first target's namespace, the bystander's in the last one's.
    """
    first, last = targets[0].model.namespace, targets[-1].model.namespace
    seats = ((Seat.BYSTANDER, last), (Seat.KNATIVE, names.KNATIVE_NAMESPACE), (Seat.TENANT, first))
    return [
        *(
            service(
                DIRECT, each.model.namespace, {"serving.kserve.io/inferenceservice": each.model.name},
                (QUEUE_PORT, SERVER_PORT, METRICS_PORT),
            ) for each in targets
        ),
        *(service(f"verify-{seat}", space, {ROLE_LABEL: seat}, (LISTEN_PORT,)) for seat, space in seats),
    ]  # fmt: skip


def allowances(targets: Sequence[Target], outside: str) -> list[Obj]:
    """Return policies that let the control in wherever another layer is to be met; they reach no further than its pod.

    They select pods alone that are closed to everybody already: a pod that no policy selects is open, and one of these
    would close it. `outside` is the namespace of the seats that belong to nobody.
    """
    revisions = {"matchExpressions": [{"key": "serving.knative.dev/revision", "operator": "Exists"}]}
    bystander, last = {"matchLabels": {ROLE_LABEL: Seat.BYSTANDER}}, targets[-1].model.namespace
    return [
        *(_allow(each.model.namespace, "models", revisions, outside, Seat.CONTROL, Seat.MESH) for each in targets),
        _allow(last, "bystander", bystander, outside, Seat.CONTROL, Seat.MESH),
        _allow(names.GATEWAY_NAMESPACE, "gateway", {}, outside, Seat.CONTROL, Seat.MESH),
        _allow(names.PLATFORM_NAMESPACE, "store", {"matchLabels": {"app": names.MODEL_STORE}}, outside, Seat.CONTROL),
    ]


def _allow(namespace: str, what: str, to: Obj, outside: str, *seats: Seat) -> Obj:
    peers = [{**in_namespace(outside), "podSelector": {"matchLabels": {ROLE_LABEL: seat}}} for seat in seats]
    return policy(
        f"verify-{what}", namespace, {"podSelector": to, "policyTypes": ["Ingress"], "ingress": [{"from": peers}]}
    )


def cells(targets: Sequence[Target]) -> Iterator[Cell]:
    """Every wall around the scratch tenants, the mesh's data plane and the edge. The tenant's seat is the first's."""
    yield from _network(targets)
    yield from _mutual(targets)
    yield from _strangers(targets)
    yield from _needed()


def _network(targets: Sequence[Target]) -> Iterator[Cell]:
    """Kept out by the network: each beside the control that gets through."""
    inside, last = _inside(targets), targets[-1].model.namespace
    bystander = {"the bystander": (names.service_host(f"verify-{Seat.BYSTANDER}", last), LISTEN_PORT)}
    for what, place in {**inside, **bystander, **_platform()}.items():
        yield _connect(f"network/control to {what}", Seat.CONTROL, place, Layer.CONNECTED)
        yield _connect(f"network/outside to {what}", Seat.OUTSIDE, place, Layer.NETWORK, f"network/control to {what}")
    for what, place in {**inside, **bystander}.items():
        yield _connect(f"network/tenant to {what}", Seat.TENANT, place, Layer.NETWORK, f"network/control to {what}")
    for what, place in _open().items():
        yield _connect(f"network/outside to {what}", Seat.OUTSIDE, place, Layer.CONNECTED)
        yield _connect(f"network/tenant to {what}", Seat.TENANT, place, Layer.NETWORK, f"network/outside to {what}")
    lonely, itself = "a tenant's pod", "network/tenant to itself"  # which no policy but default-deny selects
    yield _connect(itself, Seat.TENANT, ("127.0.0.1", LISTEN_PORT), Layer.CONNECTED)
    place = (names.service_host(f"verify-{Seat.TENANT}", targets[0].model.namespace), LISTEN_PORT)
    yield _connect(f"network/outside to {lonely}", Seat.OUTSIDE, place, Layer.NETWORK, itself)
    for target in targets:  # what the policy for Knative's namespace lets in, and what not even it does
        places = {port: (_direct(target), port) for port in (QUEUE_PORT, SERVER_PORT)}
        control = f"network/control to {target.label}'s {_PORTS[SERVER_PORT]}"
        yield _connect(
            f"network/knative to {target.label}'s queue-proxy", Seat.BESIDE, places[QUEUE_PORT], Layer.CONNECTED
        )
        yield _connect(
            f"network/knative to {target.label}'s model server",
            Seat.BESIDE,
            places[SERVER_PORT],
            Layer.NETWORK,
            control,
        )


_PORTS = {QUEUE_PORT: "queue-proxy", SERVER_PORT: "model server"}


def _direct(target: Target) -> str:
    return names.service_host(DIRECT, target.model.namespace)


def _inside(targets: Sequence[Target]) -> dict[str, Place]:
    return {
        f"{target.label}'s {what}": (_direct(target), port) for target in targets for port, what in _PORTS.items()
    }  # fmt: skip


def _platform() -> dict[str, Place]:
    """What only parts of the platform may talk to."""
    places = (
        ("the edge's proxy", names.EDGE, names.GATEWAY_NAMESPACE, _HTTP),
        ("the edge's control plane", "envoy-gateway", names.GATEWAY_NAMESPACE, _XDS),
        ("the limiter", "envoy-ratelimit", names.GATEWAY_NAMESPACE, _LIMITER),
        ("the limiter's memory", names.REDIS, names.GATEWAY_NAMESPACE, _REDIS),
        ("the model store", names.MODEL_STORE, names.PLATFORM_NAMESPACE, names.MODEL_STORE_PORT),
    )
    return {what: (names.service_host(service, space), port) for what, service, space, port in places}


def _open() -> dict[str, Place]:
    """What others may talk to, and a tenant's pods may not: their only way is the edge."""
    places = (
        ("the ingress gateway", names.INGRESS_GATEWAY, names.ISTIO_NAMESPACE, _HTTP),
        ("the local gateway", names.LOCAL_GATEWAY, names.ISTIO_NAMESPACE, _HTTP),
        ("the activator", names.ACTIVATOR_SERVICE, names.KNATIVE_NAMESPACE, _HTTP),
        ("the autoscaler", "autoscaler", names.KNATIVE_NAMESPACE, SERVER_PORT),
        ("the API server", "kubernetes", "default", _HTTPS),
        ("the JWT server", names.JWT_SERVER, names.PLATFORM_NAMESPACE, names.JWT_SERVER_PORT),
    )
    return {what: (names.service_host(service, space), port) for what, service, space, port in places}


def _needed() -> Iterator[Cell]:
    """What a tenant's pods need: names (all these have some), their artefacts, and certificates for their sidecars."""
    store = _platform()["the model store"]
    yield _connect("network/tenant to the model store", Seat.TENANT, store, Layer.CONNECTED)
    istiod = (names.service_host("istiod", names.ISTIO_NAMESPACE), _ISTIOD)
    yield _connect("network/tenant to the mesh's control plane", Seat.TENANT, istiod, Layer.CONNECTED)


def _mutual(targets: Sequence[Target]) -> Iterator[Cell]:
    """Plain text and strangers' TLS, where the network lets them through."""
    opened, last = _open(), targets[-1].model.namespace
    strangers: dict[str, tuple[Seat, Place]] = {
        LOCAL: (Seat.OUTSIDE, opened["the local gateway"]),
        ACTIVATOR: (Seat.OUTSIDE, opened["the activator"]),
        "autoscaler": (Seat.OUTSIDE, opened["the autoscaler"]),
        EDGE: (Seat.CONTROL, _platform()["the edge's proxy"]),
        "bystander": (Seat.CONTROL, (names.service_host(f"verify-{Seat.BYSTANDER}", last), LISTEN_PORT)),
        "Knative's namespace": (
            Seat.OUTSIDE,
            (names.service_host(f"verify-{Seat.KNATIVE}", names.KNATIVE_NAMESPACE), LISTEN_PORT),
        ),
    }
    for target in targets:
        strangers[f"{POD}/{target.label}"] = (Seat.BESIDE, (_direct(target), QUEUE_PORT))
        strangers[f"model server/{target.label}"] = (Seat.CONTROL, (_direct(target), SERVER_PORT))
    for what, (seat, place) in strangers.items():
        yield _ask(f"{what}/plain text from outside the mesh", seat, place, layer=Layer.MTLS, tls=True)


def _strangers(targets: Sequence[Target]) -> Iterator[Cell]:
    """A member of the mesh whom no policy names, where the network lets it through."""
    last = targets[-1].model.namespace
    stranger: dict[str, Any] = {"layer": Layer.MESH_RBAC, "status": 403}
    edge = _platform()["the edge's proxy"]
    yield _ask("mesh/stranger to the edge's proxy", Seat.MESH, edge, at=AT_EDGES_SIDECAR, **stranger)
    places = {
        "the bystander": (Seat.BYSTANDER, last), "a pod of Knative's namespace": (Seat.KNATIVE, names.KNATIVE_NAMESPACE)
    }  # fmt: skip
    for what, (seat, space) in places.items():
        place = (names.service_host(f"verify-{seat}", space), LISTEN_PORT)
        yield _ask(f"mesh/stranger to {what}", Seat.MESH, place, at=f"{what}'s sidecar", **stranger)


def _connect(name: str, seat: Seat, place: Place, layer: Layer, control: str = "") -> Cell:
    host, port = place
    return Cell(name=name, seat=seat, way=Way(name=name, host=host, port=port), layer=layer, control=control)


def _ask(name: str, seat: Seat, place: Place, *, tls: bool = False, **more: Any) -> Cell:  # noqa: ANN401 (a cell's fields)
    host, port = place
    way = Way(name=name, host=host, port=port, path="/", headers={"User-Agent": agent(name)}, tls=tls)
    return Cell(name=name, seat=seat, way=way, **more)
