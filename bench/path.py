"""Runs `invoke bench.path`: makes the pods, lets them measure, reads what they say, and removes them."""

import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from bench import pathfigures, pathpods
from bench.pathfigures import CROWD, STEADY, Conditions, Figures, Sample
from bench.pathpods import Target
from tasks.checks import asking
from tasks.lib import converge, identity, keys, names, predict, probepods, provenance, scratch, tokens, verifying
from tasks.lib.box import Box
from tasks.lib.checks import Scene
from tasks.lib.errors import BadInput, NotReady
from tasks.lib.kube import follow
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.modelling import Model
from tasks.lib.scratch import Scratch
from tasks.lib.session import Session

COMMAND = "invoke bench.path"
OWNER = "path"
STAGE = "bench"

CONNECTIONS = 4
STEADY_S = 5.0
"""Seconds of a steady load: short, so that what the machine does meanwhile hits all ways alike."""

CROWD_S = 10.0
"""Seconds that a load at full speed is expected to take at most."""

CROWD_REQUESTS = 150
OF_LIMIT = 0.9
"""How much of the tenant's limit is used at most: the rest is for others."""

START_S = 180.0
MOST_ROUNDS, MOST_RATE = 100, 1000


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to measure."""

    model: Model
    rounds: int
    rate: float


def wanted(session: Session, model: str, rounds: str, rate: str) -> Wanted:
    """Read the options. Raises BadInput for what cannot be measured."""
    record = session.model(model) if model else next(iter(session.models), None)
    if record is None or not record.instances:
        raise BadInput("there is no model with an example to ask for", hint="invoke model.list")
    try:
        found = Wanted(model=record, rounds=int(rounds), rate=float(rate))
    except ValueError as error:
        raise BadInput("--rounds and --rate are numbers", facts={"cause": error}) from error
    if not 1 <= found.rounds <= MOST_ROUNDS:
        raise BadInput(f"--rounds: {rounds} is not between 1 and {MOST_ROUNDS}")
    most = most_per_minute(session, record)
    if not 1 <= found.rate <= MOST_RATE or max(requests(found.rate).values()) + CONNECTIONS > most:
        raise BadInput(
            f"--rate: {rate} is not between 1 and {MOST_RATE}, or a load does not fit into the tenant's limit",
            facts={"seconds of a load": STEADY_S, "requests at full speed": CROWD_REQUESTS, "in a minute": most},
        )
    return found


def told(box: Box, found: Figures, samples: list[Sample], *, as_json: bool) -> str:
    """Return the report, with where what was measured comes from."""
    origin = provenance.of(box)
    if as_json:
        return json.dumps({**origin.facts(), **pathfigures.values(found, samples)}, indent=2) + "\n"
    return pathfigures.text(found) + (f"\n  {origin.line()}\n" if origin.line() else "")


def most_per_minute(session: Session, model: Model) -> int:
    """Return how many requests in a minute are ours: most of what the tenant may."""
    return int(session.tenant(model.tenant).requests_per_minute * OF_LIMIT)


def requests(rate: float) -> dict[str, int]:
    """Return how many requests each load has."""
    return {STEADY: max(CONNECTIONS, round(rate * STEADY_S)), CROWD: CROWD_REQUESTS}


def measure(session: Session, what: Wanted, *, wait: bool = True) -> tuple[Figures, list[Sample]]:
    """Measure every way, and remove what was made for it.

    Raises ClusterGone when there is no cluster, NotReady when a way does not answer, or lets in without a token.
    """
    verifying.require_cluster(session)
    box = session.box
    with converge.turn(session, COMMAND, wait=wait) as at_work:
        at_work.acquire()
        scratch.sweep(box.kube, converge.tell, box.cancel, OWNER)
        box.prepare(STAGE, _Told())
        reply = predict.ask(box, what.model, what.model.instances)
        if reply.obstacle:
            raise NotReady(f"the model does not answer: {reply.obstacle}", hint="invoke models")
        if reply.predictions != list(what.model.predictions):
            raise NotReady(f"{what.model.name} answers {reply.predictions}", hint="invoke verify --only models")
        with Scratch(box.kube, OWNER, box.cancel) as made:
            return _measured(session, what, made)


def _measured(session: Session, what: Wanted, made: Scratch) -> tuple[Figures, list[Sample]]:
    box, model, most = session.box, what.model, most_per_minute(session, what.model)
    target, ring = find(box, model), keys.new_ring()
    given = Conditions(
        model=f"{model.tenant}/{model.name}", rounds=what.rounds, rate=what.rate, requests=requests(what.rate),
        connections={STEADY: CONNECTIONS, CROWD: CONNECTIONS}, mode=target.mode, before=_running(box, model), after=0,
    )  # fmt: skip
    within_s = most_s(given, len(pathfigures.WAYS), most)
    scene = Scene(box=box, say=_Told(), looks={}, deadline=time.monotonic() + 2 * START_S + within_s)
    life_s = within_s + 2 * START_S
    images = {name: box.versions.images[name].ref for name in (pathpods.FORTIO, pathpods.PYTHON)}
    _make(scene, made, pathpods.echoes(images[pathpods.FORTIO], keys.jwks(ring), life_s))
    ways = pathpods.model_ways(model, target, box.settings.domain, _token(model, life_s, identity.ring(box)))
    ways += pathpods.echo_ways(ways[0].payload, _token(pathpods.ECHO, life_s, ring))
    name = f"{scratch.PREFIX}{OWNER}-{secrets.token_hex(3)}"
    order = pathpods.order(ways, given, most)
    _make(scene, made, pathpods.caller(name, order, images, box.manifest(pathpods.SCRIPT), life_s))
    samples = _heard(scene, name, given.rounds, within_s)
    return pathfigures.figures(samples, replace(given, after=_running(box, model))), samples


def most_s(given: Conditions, ways: int, most: int) -> float:
    """Return the seconds that measuring may take: three times what it should, and the minutes of the limit."""
    requests = sum(given.requests.values()) + sum(given.connections.values())
    minutes = requests * given.rounds / most + 1
    return pathpods.READY_S + 3 * (STEADY_S + CROWD_S) * ways * given.rounds + 60 * minutes


def find(box: Box, model: Model) -> Target:
    """Return where the model is. Raises NotReady when Knative does not say."""
    service = box.kube.get(Ref("serving.knative.dev/v1", "Service", model.namespace, model.knative_service)) or {}
    revision = (service.get("status") or {}).get("latestReadyRevisionName", "")
    api = "networking.internal.knative.dev/v1alpha1"
    behind = box.kube.get(Ref(api, "ServerlessService", model.namespace, revision)) if revision else None
    private = ((behind or {}).get("status") or {}).get("privateServiceName", "")
    if not behind or not private:
        raise NotReady(f"{model.namespace}/{model.name} has no revision that is ready", hint="invoke models")
    return Target(revision=revision, private=private, mode=behind["spec"]["mode"])


def _running(box: Box, model: Model) -> int:
    found = [each for each in asking.pods(box, model) if not each["metadata"].get("deletionTimestamp")]
    return sum(not probepods.not_running(each) for each in found)


def _token(model: Model, life_s: float, ring: keys.Ring) -> str:
    said = tokens.claims(model.tenant, ttl_s=int(life_s), now=time.time(), jti=tokens.new_jti(), model=model.name)
    return keys.sign(said, ring.current)


def _make(scene: Scene, made: Scratch, objects: Iterable[Obj]) -> None:
    """Make objects, and wait until the pods among them run. Raises NotReady when they do not."""
    objects = list(objects)
    for each in objects:
        if why := scene.observe(partial(probepods.admitted, made, each), START_S):
            raise NotReady(why)
    for ref in (Ref.of(each) for each in objects if each["kind"] == "Pod"):
        probepods.started(scene, ref, ref.name)


def _heard(scene: Scene, name: str, rounds: int, within_s: float) -> list[Sample]:
    """Wait for the pod to end, and return what it said. Raises NotReady when it does not, or says why it could not."""
    samples, ended = list[Sample](), ""

    def obstacle() -> str:
        nonlocal samples, ended
        samples, ended = pathfigures.parse(_log(scene.box, name))
        return "" if ended else f"measuring: round {samples[-1].round if samples else 1} of {rounds}"

    if why := scene.observe(obstacle, within_s):
        raise NotReady(f"measuring took more than {within_s:.0f} s", facts={"done": why})
    if ended != pathfigures.END:
        raise NotReady(f"it could not be measured: {ended}")
    return samples


def _log(box: Box, name: str) -> str:
    return follow.read(box.kube, Ref("v1", "Pod", names.KNATIVE_NAMESPACE, name), pathpods.DRIVER)


class _Told:
    """Says what is being waited for."""

    def __call__(self, text: str, /) -> None:
        converge.tell(text)

    def line(self, text: str, /) -> None:
        """Drop it."""
