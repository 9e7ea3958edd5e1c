"""The objects of `invoke bench.path`: the pod that sends the load, and what it sends it to beside the model. Pure.

The load comes from one place for all ways: a pod of the mesh in Knative's namespace, which may ask the activator and
the model's pod itself. What a token costs is seen at an echo, once without a sidecar, once behind one, and once behind
one that has the very policies of a tenant.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import pathfigures
from bench.pathfigures import Conditions
from tasks.lib import isolation, names, shortpods, tenancy
from tasks.lib.keys import Jwks
from tasks.lib.modelling import Model
from tasks.lib.objects import namespace
from tasks.lib.render import Obj
from tasks.lib.tenancy import Tenant

FORTIO, PYTHON = "fortio", "kserve-sklearnserver"
SCRIPT = "bench/path.py"
DRIVER = "driver"
TENANT = Tenant(name=f"{tenancy.SCRATCH_PREFIX}path")
ECHO = Model(name="echo", tenant=TENANT.name, format="", trainer="")
OPEN = f"{tenancy.SCRATCH_PREFIX}path"
"""The namespace of what no policy of a tenant guards."""

READY_S, RUN_S = 120, 300
"""Seconds for a way to be what it is measured as; for one load."""

_FORTIO_PORT, _QUEUE_PORT = 8079, 8012
_MEMORY = "256Mi"


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to send the load. `guarded`: without the token it is refused. `limited`: the tenant's limit counts it."""

    name: str
    url: str
    headers: tuple[str, ...]
    payload: str
    guarded: bool = True
    limited: bool = False


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the model is: its revision, the Service of that revision's pods, and Knative's mode."""

    revision: str
    private: str
    mode: str


def model_ways(model: Model, target: Target, domain: str, token: str) -> list[Way]:
    """Return the ways to a model, each with one hop more than the one before."""
    gateway = names.service_host(names.INGRESS_GATEWAY, names.ISTIO_NAMESPACE)
    activator = names.service_host(names.ACTIVATOR_SERVICE, names.KNATIVE_NAMESPACE)
    revision = (
        f"Knative-Serving-Namespace: {model.namespace}",
        f"Knative-Serving-Revision: {target.revision}",
    )
    hosts: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        (pathfigures.POD, names.service_host(target.private, model.namespace), ()),
        (pathfigures.ACTIVATOR, activator, revision),
        (pathfigures.LOCAL, model.inside, ()),
        (pathfigures.ALL, gateway, (f"Host: {model.host(domain)}",)),
    )
    payload = json.dumps({"instances": list(model.instances)})
    return [
        Way(
            name=name, url=f"http://{host}{model.predict_path}", headers=(*_headers(token), *more), payload=payload,
            limited=name == pathfigures.ALL,
        ) for name, host, more in hosts
    ]  # fmt: skip


def echo_ways(payload: str, token: str) -> list[Way]:
    """Return the ways to the echoes. Each carries the token; one of them has it verified."""
    places = (
        (pathfigures.BARE, "bare", OPEN),
        (pathfigures.SIDECAR, "sidecar", OPEN),
        (pathfigures.VERIFIED, ECHO.name, ECHO.namespace),
    )
    return [
        Way(
            name=name, url=f"http://{names.service_host(service, where)}/", headers=_headers(token), payload=payload,
            guarded=name == pathfigures.VERIFIED,
        ) for name, service, where in places
    ]  # fmt: skip


def _headers(token: str) -> tuple[str, ...]:
    return ("Content-Type: application/json", f"Authorization: Bearer {token}")


def order(ways: Sequence[Way], given: Conditions, most_per_minute: int) -> Obj:
    """Return what the driver is to have fortio do. The crowd comes first: the steady load finds every hop connected."""
    rates = {pathfigures.CROWD: 0, pathfigures.STEADY: given.rate}
    loads = {
        name: {"rate": rate, "requests": given.requests[name], "connections": given.connections[name]}
        for name, rate in rates.items()
    }
    base = f"http://127.0.0.1:{_FORTIO_PORT}/fortio/rest"
    return {
        "fortio": f"{base}/run", "status": f"{base}/status", "ways": {each.name: asdict(each) for each in ways},
        "loads": loads, "rounds": given.rounds, "most_per_minute": most_per_minute, "ready_s": READY_S, "run_s": RUN_S,
    }  # fmt: skip


def caller(name: str, told: Obj, images: Mapping[str, str], script: Path, life_s: float) -> tuple[Obj, Obj]:
    """Return the Secret with the order, and the pod that carries it out. fortio listens on the pod's loopback alone."""
    fortio = _fortio("load", images[FORTIO], f"127.0.0.1:{_FORTIO_PORT}", cpu="1")
    driver = shortpods.program(DRIVER, images[PYTHON], script, cpu="200m", memory=_MEMORY)
    made = shortpods.obeying(shortpods.pod(name, names.KNATIVE_NAMESPACE, [fortio, driver], life_s=life_s, mesh=True))
    return shortpods.order(made, told), made


def echoes(image: str, jwks: Jwks, life_s: float) -> list[Obj]:
    """Return the echoes, and for one of them the policies that every tenant and every model has."""
    guarded = {"serving.kserve.io/inferenceservice": ECHO.name, "component": "predictor"}
    return [
        namespace(OPEN),
        namespace(ECHO.namespace),
        *isolation.tenant_objects(TENANT, jwks, ()),
        isolation.model_policy(ECHO),
        *_echo("bare", OPEN, image, {}, life_s=life_s, mesh=False),
        *_echo("sidecar", OPEN, image, {}, life_s=life_s, mesh=True),
        *_echo(ECHO.name, ECHO.namespace, image, guarded, life_s=life_s, mesh=True),
    ]


def _echo(name: str, where: str, image: str, labels: Mapping[str, str], *, life_s: float, mesh: bool) -> list[Obj]:
    """Return a pod that answers with what it was sent, where queue-proxy listens in a model's, and its Service."""
    chosen = {"app": name}
    container = _fortio("echo", image, str(_QUEUE_PORT), "-ui-path", "", cpu="1")
    pod = shortpods.pod(name, where, [container], life_s=life_s, mesh=mesh, labels={**chosen, **labels})
    port = {"name": "http", "port": 80, "targetPort": _QUEUE_PORT}
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": where},
        "spec": {"selector": chosen, "ports": [port]},
    }  # fmt: skip
    return [service, pod]


def _fortio(name: str, image: str, listen: str, *more: str, cpu: str) -> Obj:
    """Return a fortio that serves. What is said at the level below warnings would have headers in it, and so tokens."""
    closed = [word for kind in ("tcp", "udp", "grpc", "redirect") for word in (f"-{kind}-port", "disabled")]
    words = ["server", "-loglevel", "warning", "-http-port", listen, *closed, *more]
    return {**shortpods.container(name, image, cpu=cpu, memory=_MEMORY), "args": words}
