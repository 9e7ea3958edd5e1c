"""What the matrix asks: who, whom, on which way, with what token, and which layer has to answer. Pure.

Every cell is asked by a probe pod from one seat. The four ways to a model are each asked from the place from which
nothing but the token is in the way: outside for the edge, the mesh for Knative's gateway, and Knative's own namespace
for the activator and the pod, which is what an attacker would have who took over Knative's data plane. What keeps
callers away from those places has cells of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tasks.checks.trust.layers import Layer, agent
from tasks.lib import names, routes
from tasks.lib.kube.api import Obj
from tasks.lib.modelling import Model
from tasks.lib.probepods import Way
from tasks.lib.tokenkinds import ANONYMOUS, VALID, Kind, Mint


class Seat(StrEnum):
    """Where a probe pod sits. `CONTROL` is let through every NetworkPolicy, so that what it meets is the next layer."""

    OUTSIDE = "outside"
    CONTROL = "control"
    MESH = "mesh"
    KNATIVE = "knative"
    BESIDE = "beside-knative"
    TENANT = "tenant"
    BYSTANDER = "bystander"


MESHED = (Seat.MESH, Seat.KNATIVE, Seat.BYSTANDER)
LISTENING = (Seat.KNATIVE, Seat.BYSTANDER, Seat.TENANT)
LISTEN_PORT = 8080

EDGE, LOCAL, ACTIVATOR, POD = "edge", "local gateway", "activator", "pod"
PATHS = (EDGE, LOCAL, ACTIVATOR, POD)
AT_EDGE, AT_MODEL, AT_ACTIVATOR = "the edge", "the model's sidecar", "the activator's sidecar"

QUEUE_PORT, SERVER_PORT, METRICS_PORT = 8012, 8080, 9090
_HTTP = 80
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_FORGED = "forged"
_SEATS = {EDGE: Seat.OUTSIDE, LOCAL: Seat.MESH, ACTIVATOR: Seat.KNATIVE, POD: Seat.KNATIVE}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model that is asked, and what it says to whoever may ask it. `label` names it in a table.

    `mint` makes the tokens of whoever asks it, `kinds` are those that it can make.
    """

    model: Model
    revision: str
    label: str
    callers: Sequence[str]
    mint: Mint
    kinds: Sequence[Kind] = tuple(Kind)
    scratch: bool = True

    def asks(self, domain: str) -> dict[str, Way]:
        """Return the four ways to the model, without a token."""
        space = self.model.namespace
        knative = {"Knative-Serving-Namespace": space, "Knative-Serving-Revision": self.revision}
        hosts: dict[str, tuple[str, str, Mapping[str, str]]] = {
            EDGE: (names.service_host(names.INGRESS_GATEWAY, names.ISTIO_NAMESPACE), self.model.host(domain), {}),
            LOCAL: (self.model.inside, "", {}),
            # By their own names: a sidecar goes by the Host, and would take the model's to the local gateway.
            ACTIVATOR: (names.service_host(names.ACTIVATOR_SERVICE, names.KNATIVE_NAMESPACE), "", knative),
            POD: (names.service_host(f"{self.revision}-private", space), "", {}),
        }
        body = {"instances": list(self.model.instances)}
        return {
            name: Way(
                name=name, host=host, port=_HTTP, host_header=header, headers=headers, method="POST",
                path=self.model.predict_path, body=body,
            ) for name, (host, header, headers) in hosts.items()
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One question, and what has to come of it.

    `control` is the cell that has to connect to the same place, where the network keeps this one out. `absent` are
    headers that may not arrive; `answer` is what the answer has to hold.
    """

    name: str
    seat: Seat
    way: Way
    layer: Layer
    at: str = ""
    status: int = 0
    path: str = ""
    pair: str = ""
    kind: str = ""
    control: str = ""
    absent: Sequence[str] = ()
    answer: Mapping[str, Any] = field(default_factory=dict)
    limited: bool = False


def product(target: Target, domain: str, now: float) -> Iterator[Cell]:
    """Every way to a model, for every caller, with every kind of token."""
    ways = target.asks(domain)
    for where in PATHS:
        for kind in target.kinds:
            for caller in ["nobody"] if kind in ANONYMOUS else target.callers:
                token = target.mint.token(kind, caller, now, wants=target.model.tenant)
                layer, at, status = expected(where, kind, own=caller == target.model.tenant)
                right = layer is Layer.ANSWERED
                yield _cell(
                    f"{where}/{caller}-{target.label}/{kind}", _SEATS[where], ways[where], layer=layer, at=at,
                    status=status, token=token, path=where, pair=f"{caller} → {target.label}", kind=kind.value,
                    answer=answer(target) if right else {}, limited=right and where == EDGE,
                )  # fmt: skip


def answer(target: Target) -> dict[str, Any]:
    """Return what an answer has to hold."""
    if not target.scratch:
        return {"predictions": list(target.model.predictions)}
    return {"echo": {"path": target.model.predict_path, "authorized": True}}


def expected(where: str, kind: Kind, *, own: bool) -> tuple[Layer, str, int]:
    """Return who has to decide about a token on a way, and with which status.

    Of a token that is for another model the gateway knows nothing (its rules cannot say "this one, or none"); the
    sidecar does.
    """
    if kind in VALID and own:
        return Layer.ANSWERED, "", 200
    at_edge = where == EDGE and not (kind is Kind.OTHER_MODEL and own)
    jwt, rules = (Layer.GATEWAY_JWT, Layer.GATEWAY_AUTHORIZATION) if at_edge else (Layer.MESH_JWT, Layer.MESH_RBAC)
    at = AT_EDGE if at_edge else AT_MODEL
    if kind in {*VALID, Kind.OTHER_MODEL, Kind.REVOKED} or (kind is Kind.NONE and not at_edge):
        return rules, at, _FORBIDDEN
    return jwt, at, _jwt_status(kind)


def _jwt_status(kind: Kind) -> int:
    """Envoy says 403 to a token for somebody else, and 401 to one that is none."""
    return _FORBIDDEN if kind is Kind.WRONG_AUDIENCE else _UNAUTHORIZED


def edge_cells(target: Target, other: str, domain: str, now: float) -> Iterator[Cell]:
    """Headers by which a client would pass for somebody else, names that are not there, and tokens in a URL."""
    way = target.asks(domain)[EDGE]
    own, foreign = (target.mint.token(Kind.RIGHT, caller, now) for caller in (target.model.tenant, other))
    forged, identity = (dict.fromkeys(which, _FORGED) for which in (routes.UNTRUSTED, _IDENTITY))
    claimed = dict.fromkeys(routes.UNTRUSTED, target.model.tenant)
    label = f"{EDGE}/{target.label}"
    yield _cell(
        f"{label}/forged headers, right token", Seat.OUTSIDE, way, headers=forged, token=own, layer=Layer.ANSWERED,
        status=200, absent=routes.UNTRUSTED, answer=answer(target),
    )  # fmt: skip
    yield _cell(
        f"{label}/forged identity, right token", Seat.OUTSIDE, way, headers=identity, token=own, layer=Layer.ANSWERED,
        status=200, absent=_IDENTITY, answer=answer(target),
    )  # fmt: skip
    yield _cell(
        f"{label}/forged headers, other's token", Seat.OUTSIDE, way, token=foreign,
        headers=claimed, layer=Layer.GATEWAY_AUTHORIZATION, at=AT_EDGE, status=_FORBIDDEN,
    )  # fmt: skip
    yield _cell(
        f"{label}/forged headers, no token", Seat.OUTSIDE, way, headers=claimed, layer=Layer.GATEWAY_JWT, at=AT_EDGE,
        status=_UNAUTHORIZED,
    )  # fmt: skip
    yield _cell(
        f"{label}/token in the URL", Seat.OUTSIDE, way, path_=f"{way.path}?access_token={own}",
        layer=Layer.GATEWAY_JWT, at=AT_EDGE, status=_UNAUTHORIZED,
    )  # fmt: skip
    nothing: dict[str, Any] = {"host_header": f"nothing-predictor.{target.model.namespace}.{domain}"}
    for what, more in {"unknown model": nothing, "unknown path": {"path_": "/metrics"}}.items():
        for who, token, layer, status in (
            ("no", "", Layer.GATEWAY_JWT, _UNAUTHORIZED),
            ("other's", foreign, Layer.GATEWAY_AUTHORIZATION, _FORBIDDEN),
            ("right", own, Layer.ROUTE, _NOT_FOUND),
        ):
            yield _cell(
                f"{label}/{what}, {who} token", Seat.OUTSIDE, way, token=token, layer=layer, at=AT_EDGE, status=status,
                **more,
            )  # fmt: skip
    yield _cell(
        f"{label}/a route without a policy, right token", Seat.OUTSIDE, way, token=own,
        host_header=uncovered(target.model, domain), layer=Layer.GATEWAY_AUTHORIZATION, at=AT_EDGE, status=_FORBIDDEN,
    )  # fmt: skip
    yield _cell(
        f"{label}/unknown host, right token", Seat.OUTSIDE, way, token=own, host_header=f"nobody.{domain}",
        layer=Layer.ROUTE, at=AT_EDGE, status=_NOT_FOUND,
    )  # fmt: skip


def uncovered(model: Model, domain: str) -> str:
    """Return the host name of a route to a model that no policy of its tenant selects."""
    return f"uncovered.{model.namespace}.{domain}"


def uncovered_route(model: Model, domain: str) -> Obj:
    """Return that route: as the model's own, under another name, and without the label by which policies select it."""
    route = routes.model_route(model, domain)
    meta = {"name": "uncovered", "namespace": model.namespace}
    return {**route, "metadata": meta, "spec": {**route["spec"], "hostnames": [uncovered(model, domain)]}}


def inner_cells(target: Target, other: str, domain: str, now: float) -> Iterator[Cell]:
    """What Knative itself needs, and what stays closed beside it."""
    ways = target.asks(domain)
    own, foreign = (target.mint.token(Kind.RIGHT, caller, now) for caller in (target.model.tenant, other))
    probe = {"K-Network-Probe": "queue"}
    pod, label = ways[POD], target.label
    at_model: dict[str, Any] = {"layer": Layer.MESH_RBAC, "at": AT_MODEL, "status": _FORBIDDEN}
    healthy: dict[str, Any] = {"layer": Layer.ANSWERED, "status": 200}
    yield _cell(
        f"{POD}/{label}/Knative's probe", Seat.KNATIVE, pod, method="GET", path_="/healthz", headers=probe, **healthy
    )
    yield _cell(
        f"{POD}/{label}/Knative's metrics",
        Seat.KNATIVE,
        pod,
        method="GET",
        path_="/metrics",
        port=METRICS_PORT,
        **healthy,
    )
    yield _cell(f"{POD}/{label}/a prediction as a probe", Seat.KNATIVE, pod, headers=probe, **at_model)
    yield _cell(
        f"{POD}/{label}/its server's paths, no token", Seat.KNATIVE, pod, method="GET", path_="/metrics", **at_model
    )
    for where in (LOCAL, ACTIVATOR, POD):
        headers = {**ways[where].headers, **dict.fromkeys(_IDENTITY, target.model.tenant)}
        for who, token in (("no", ""), ("other's", foreign)):
            yield _cell(
                f"{where}/{label}/forged headers, {who} token", _SEATS[where], ways[where], headers=headers,
                token=token, **at_model,
            )  # fmt: skip
    for where, at in ((ACTIVATOR, AT_ACTIVATOR), (POD, AT_MODEL)):
        yield _cell(
            f"{where}/{label}/from the mesh, right token", Seat.MESH, ways[where], token=own, layer=Layer.MESH_RBAC,
            at=at, status=_FORBIDDEN,
        )  # fmt: skip


_IDENTITY = tuple(each for each in routes.UNTRUSTED if not each.startswith(("k-", "knative-", "x-envoy")))
"""What a workload would forge to pass for somebody; the rest are how Knative's own parts talk."""


def _cell(
    name: str, seat: Seat, way: Way, *, layer: Layer, at: str = "", status: int = 0, token: str = "",
    headers: Mapping[str, str] | None = None, method: str = "", path_: str = "", port: int = 0, host_header: str = "",
    **more: Any,  # noqa: ANN401 (fields of a cell)
) -> Cell:  # fmt: skip
    """Return a cell whose way is another one, changed."""
    verb = method or way.method
    changed = Way(
        name=name, host=way.host, port=port or way.port, host_header=host_header or way.host_header,
        method=verb, path=path_ or way.path, body=way.body if verb == "POST" else None,
        headers={**way.headers, **(headers or {}), "User-Agent": agent(name)}, token=token,
    )  # fmt: skip
    return Cell(name=name, seat=seat, way=changed, layer=layer, at=at, status=status, **more)


def by_seat(cells: Iterable[Cell]) -> dict[Seat, list[Cell]]:
    """Return the cells of each seat that has any."""
    found: dict[Seat, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.seat, []).append(cell)
    return found
