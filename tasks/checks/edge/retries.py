"""A call that reached nobody is tried again, and one that reached a model is not: a prediction may do something.

For a while there is a way to a scratch tenant's model by two addresses, and at one of them nobody listens. The edge's
sidecar, which makes the connection, takes both. First it is told to try nothing again: calls fail, so both are taken.
"""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from tasks.checks import echoes
from tasks.checks.echoes import Ears
from tasks.lib import ground as grounds, names
from tasks.lib.checks import Check, Result, Scene, failed, passed
from tasks.lib.errors import NotReady
from tasks.lib.ground import Ground
from tasks.lib.kube.api import Obj
from tasks.lib.modelling import Model
from tasks.lib.scratch import Scratch

ID = "edge.retries"
STAGE = "edge"

NAME = "two-ways"
CALLS = 40
APPLIED_S = 90.0
DISCARD_PORT = 9
"""Where nobody listens: a service of RFC 863 that no node has."""

_OK, _UNREACHED, _BROKEN = 200, 503, 502


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How often each status came: while nothing is tried again, then by the platform's own policy.

    `broken` is the status of a call whose connection the model closed, and `reached` how often it was asked.
    """

    without: Mapping[int, int]
    own: Mapping[int, int]
    broken: int
    reached: int


def checks(ground: Ground) -> list[Check]:
    """Return the claim."""
    return [
        Check(
            id=ID, stage=STAGE, needs=("edge", "istiod", "net-istio"), probe=partial(_probe, ground), timeout_s=600,
            claim="a call that reached nobody is tried again; one that reached a model is not, whatever came of it",
            fix="invoke mesh --force",
        )
    ]  # fmt: skip


def _probe(ground: Ground, scene: Scene) -> Result:
    ground.open(scene)
    model, domain = ground.models[0], scene.box.settings.domain
    here, nobody = _addresses(scene)
    with Scratch(scene.box.kube, "retries", scene.box.cancel) as scratch:
        scratch.put(*objects(model, domain, here, nobody), way(model, again=False))
        without = _calls(scene, ground, {_OK, _UNREACHED})
        scratch.put(way(model, again=True))
        own = _calls(scene, ground, {_OK})
    mark = f"broken-{secrets.token_hex(3)}"
    with closing(Ears(scene, [model], mark)) as ears:
        broken = grounds.post(scene.box, model, ground.token(model.tenant), {"User-Agent": mark}, query="?drop")
        grounds.ask(scene.box, model, ground.token(model.tenant), {"User-Agent": echoes.end(mark)})
        reached = ears.reached(mark)
    status = 0 if broken is None else broken.status_code
    return judge(Seen(without=without, own=own, broken=status, reached=reached))


def _calls(scene: Scene, ground: Ground, statuses: set[int]) -> Counter[int]:
    """Call over both addresses until these statuses come, and no others; return how often each came, at the last."""
    model = ground.models[0]
    host, last = echoes.host(model, scene.box.settings.domain, NAME), Counter[int]()

    def obstacle() -> str:
        last.clear()
        for _ in range(CALLS):
            last[grounds.ask(scene.box, model, ground.token(model.tenant), {"Host": host})] += 1
        return "" if set(last) == statuses else told(last)

    scene.observe(obstacle, APPLIED_S)
    return last


def _addresses(scene: Scene) -> tuple[Sequence[Obj], str]:
    """Return where the cluster-local gateway listens, as the cluster has it, and the address of a node."""
    kube = scene.box.kube
    chosen = f"kubernetes.io/service-name={names.LOCAL_GATEWAY}"
    slices = kube.list("discovery.k8s.io/v1", "EndpointSlice", names.ISTIO_NAMESPACE, chosen)
    nodes = [
        str(each["address"])
        for node in kube.list("v1", "Node")
        for each in node["status"].get("addresses") or []
        if each["type"] == "InternalIP" and "." in each["address"]
    ]
    if not slices or not nodes:
        raise NotReady(f"{names.LOCAL_GATEWAY} has no address, or no node has one of IPv4")
    return slices, nodes[0]


def _inside(model: Model) -> str:
    return names.service_host(NAME, model.namespace)


def objects(model: Model, domain: str, here: Sequence[Obj], nobody: str) -> list[Obj]:
    """Return a Service of two addresses, `here` being the slices of the real one, and a route of the edge to it."""
    ports = here[0]["ports"]
    service = {"ports": [{"name": each["name"], "port": 80, "protocol": "TCP"} for each in ports]}
    known = {"name": f"{NAME}-here", "labels": {"kubernetes.io/service-name": NAME}}
    dead = {**known, "name": f"{NAME}-nobody"}
    route = echoes.route(model, domain, NAME)
    route["spec"]["rules"][0]["filters"][0]["urlRewrite"]["hostname"] = _inside(model)
    route["spec"]["rules"][0]["backendRefs"][0]["name"] = NAME
    # Istio knows no pod by these addresses, and so no mutual TLS; and where packets are dropped, it is to show soon.
    rule = {
        "host": _inside(model),
        "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}, "connectionPool": {"tcp": {"connectTimeout": "1s"}}},
    }
    backend = {"endpoints": [{"fqdn": {"hostname": _inside(model), "port": 80}}]}
    return [
        _object(model, "v1", "Service", service),
        _slice(model, known, [each for slice_ in here for each in slice_["endpoints"]], ports),
        _slice(model, dead, [{"addresses": [nobody]}], [{**each, "port": DISCARD_PORT} for each in ports]),
        _object(model, "networking.istio.io/v1", "DestinationRule", rule),
        _object(model, "gateway.envoyproxy.io/v1alpha1", "Backend", backend),
        route,
    ]


def way(model: Model, *, again: bool) -> Obj:
    """Return how sidecars go to that Service: under the model's name, and trying nothing again unless `again`."""
    to = {"destination": {"host": _inside(model), "port": {"number": 80}}}
    rule: Obj = {"rewrite": {"authority": model.inside}, "route": [to]}
    if not again:
        rule["retries"] = {"attempts": 0}
    spec = {"hosts": [_inside(model)], "exportTo": [names.GATEWAY_NAMESPACE], "http": [rule]}
    return _object(model, "networking.istio.io/v1", "VirtualService", spec)


def _object(model: Model, api: str, kind: str, spec: Obj) -> Obj:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": NAME, "namespace": model.namespace}, "spec": spec}


def _slice(model: Model, meta: Obj, endpoints: Sequence[Obj], ports: Sequence[Obj]) -> Obj:
    there = [{"addresses": each["addresses"], "conditions": {"ready": True}} for each in endpoints]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**meta, "namespace": model.namespace},
        "addressType": "IPv4",
        "endpoints": there,
        "ports": list(ports),
    }


def told(statuses: Mapping[int, int]) -> str:
    """Say how often each status came."""
    return ", ".join(f"{count} times HTTP {status or 'nothing'}" for status, count in sorted(statuses.items()))


def judge(seen: Seen) -> Result:
    """Judge what was seen."""
    wrong = []
    if set(seen.without) != {_OK, _UNREACHED}:
        wrong.append(f"with nothing tried again, {told(seen.without)}: an address at which nobody listens shows as 503")
    if dict(seen.own) != {_OK: CALLS}:
        wrong.append(f"by the mesh's own policy, {told(seen.own)}; {CALLS} times HTTP {_OK} is right")
    if seen.broken != _BROKEN:
        wrong.append(f"a call that the model broke off: HTTP {seen.broken or 'nothing'}; {_BROKEN} is right")
    if seen.reached != 1:
        wrong.append(f"a call that the model broke off reached it {seen.reached} times")
    if wrong:
        return failed("calls are not tried again as they should be", "\n".join(wrong))
    return passed(
        f"of {CALLS} calls over two addresses, one of them nobody's, {CALLS} were answered, and {seen.without[_OK]} "
        "with nothing tried again; one that the model broke off reached it once",
        measured={"calls": CALLS, "answered": CALLS, "answered_without": seen.without[_OK], "broken_reached": 1},
    )
