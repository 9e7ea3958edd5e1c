"""Pods that try ways through the network from inside, and what is to be read from what they print.

A pod goes round after round until it is deleted, and prints a line for each attempt (manifests/verify/probe.py). What a
change of policy did is read from rounds that certainly began after it: rounds are counted in the pod, so that no two
clocks are compared. The judgements are pure, and never take a way that leads nowhere for one that is closed.
"""

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.lib import shortpods
from tasks.lib.checks import Scene
from tasks.lib.errors import NotReady, Refused
from tasks.lib.kube import follow, pods
from tasks.lib.kube.api import Obj, Ref, not_yet
from tasks.lib.scratch import PREFIX, Scratch

IMAGE = "kserve-sklearnserver"
SCRIPT = "verify/probe.py"
CONTAINER = "probe"
ROLE_LABEL = "verify-role"

START_S = 180.0
"""Seconds for a probe pod to run; its image may have to be pulled."""

LIFE_S = 900
INTERVAL_S, CONNECT_S, ANSWER_S = 0.5, 2.0, 60.0

ROUNDS = 2
"""How many rounds in a row have to show the same."""

_TAIL_LINES = 4000
_CONNECTED, _NO_NAME = "connected", "no such name"
_CLOSED = frozenset({"timed out", "refused", "unreachable"})
"""How a closed way shows: packets are dropped, or rejected. Counts only beside a control that gets through."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to try: a TCP connection, and a request over it where there is a path.

    `tls`: begin TLS without a certificate too, on a connection of its own.
    """

    name: str
    host: str
    port: int
    method: str = "GET"
    path: str = ""
    host_header: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    token: str = field(default="", repr=False)
    tls: bool = False


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What became of one way in one round. `connect` is about the connection, the rest about the request over it."""

    round: int
    way: str
    connect: str
    status: int = 0
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    tls: str = ""
    elapsed_s: float = 0.0

    @property
    def nameless(self) -> bool:
        """Whether nobody was called, for want of an address: that says nothing of who would have answered."""
        return self.connect.startswith(_NO_NAME)

    def __str__(self) -> str:
        answer = f", HTTP {self.status} {' '.join(self.body.split())[:120]}" if self.status else ""
        return f"{self.way}: {self.connect}{answer or (f', {self.error}' if self.error else '')}".rstrip()


Rounds = Sequence[Mapping[str, Attempt]]


def listen(port: int) -> Obj:
    """Return the order to accept connections."""
    return {"listen": port, "seconds": LIFE_S}


def call(
    ways: Collection[Way], *,
    life_s: float = LIFE_S, interval_s: float = INTERVAL_S, connect_s: float = CONNECT_S, answer_s: float = ANSWER_S,
) -> Obj:  # fmt: skip
    """Return the order to try ways; times are in seconds."""
    return {
        "ways": [asdict(way) for way in ways],
        "seconds": life_s,
        "interval_s": interval_s,
        "connect_s": connect_s,
        "answer_s": answer_s,
    }


@dataclass(frozen=True, kw_only=True)
class ProbePod:
    """A probe pod that runs."""

    scene: Scene
    ref: Ref
    address: str
    role: str

    def rounds(self, after: int = 0, *, lines: int = _TAIL_LINES) -> Rounds:
        """Return the whole rounds with a number above `after` in the last lines of its log, oldest first."""
        text = follow.read(self.scene.box.kube, self.ref, CONTAINER, tailLines=lines)
        return parse(text, after)

    def mark(self) -> int:
        """Return the number above which rounds certainly begin after now.

        The one that is under way does not count, nor does one that has ended and is not in the log yet.
        """
        found = self.rounds()
        return (next(iter(found[-1].values())).round if found else 0) + 2


def parse(text: str, after: int = 0) -> Rounds:
    """Read a log. A round that is cut off (at the beginning of a tail) or still being written does not count."""
    rounds: dict[int, dict[str, Attempt]] = {}
    for line in text.splitlines():
        try:
            found = Attempt(**json.loads(line))
        except (ValueError, TypeError):
            continue  # not one of our lines: the first of a tail, or what Python says when it dies
        rounds.setdefault(found.round, {})[found.way] = found
    width = max((len(each) for each in rounds.values()), default=0)
    return [rounds[number] for number in sorted(rounds) if number > after and len(rounds[number]) == width]


def pod(
    scene: Scene, namespace: str, role: str, *, mesh: bool = False, life_s: float = LIFE_S, script: str = SCRIPT
) -> Obj:  # fmt: skip
    """Return a probe pod, of the mesh or outside it, that is small enough for any quota."""
    name, image = f"{PREFIX}{role}-{secrets.token_hex(3)}", scene.box.versions.images[IMAGE].ref
    program = shortpods.program(CONTAINER, image, scene.box.manifest(script), cpu="500m", memory="128Mi")
    made = shortpods.obeying(
        shortpods.pod(name, namespace, [program], life_s=life_s + 60, mesh=mesh, labels={ROLE_LABEL: role})
    )
    # Where names do not resolve, this is soon known; and on a busy machine a question for one may be lost.
    options = {"ndots": "1", "timeout": "1", "attempts": "3"}
    made["spec"]["dnsConfig"] = {"options": [{"name": option, "value": value} for option, value in options.items()]}
    return made


def make(scene: Scene, scratch: Scratch, namespace: str, role: str, order: Obj, *, mesh: bool = False) -> Ref:
    """Make a probe pod. Raises Refused when it is not admitted."""
    return submit(scene, scratch, pod(scene, namespace, role, mesh=mesh, life_s=order["seconds"]), order)


def submit(scene: Scene, scratch: Scratch, wanted: Obj, order: Obj) -> Ref:
    """Make this probe pod, and the Secret with its order. Raises Refused when it is not admitted."""
    scratch.add(shortpods.order(wanted, order))
    scene.require(lambda: admitted(scratch, wanted), START_S)
    return Ref.of(wanted)


def started(scene: Scene, ref: Ref, role: str) -> ProbePod:
    """Wait until a probe pod runs. Raises NotReady when it does not."""
    found = dict[str, Obj]()

    def obstacle() -> str:
        found["pod"] = scene.box.kube.get(ref) or {}
        return not_running(found["pod"])

    if why := scene.observe(obstacle, START_S):
        raise NotReady(f"{ref} does not run: {why}", hint=f"kubectl -n {ref.namespace} describe pod {ref.name}")
    return ProbePod(scene=scene, ref=ref, address=found["pod"]["status"]["podIP"], role=role)


def start(scene: Scene, scratch: Scratch, namespace: str, role: str, order: Obj, *, mesh: bool = False) -> ProbePod:
    """Make a probe pod and wait until it runs. Raises Refused when it is not admitted, NotReady when it does not."""
    return started(scene, make(scene, scratch, namespace, role, order, mesh=mesh), role)


def admitted(scratch: Scratch, wanted: Obj) -> str:
    """Make a pod, or return why it cannot be made yet: in a namespace that was just made, its account follows."""
    try:
        scratch.add(wanted)
    except Refused as error:
        if not_yet(error) or "serviceaccount" in str(error):
            return error.what
        raise
    return ""


def not_running(found: Obj) -> str:
    """Return why a pod does not run; empty when it does, and has an address."""
    status = found.get("status") or {}
    if status.get("phase") == "Running" and status.get("podIP"):
        return ""
    return pods.reason(found) or f"phase {status.get('phase', 'unknown')}"


def reaches(rounds: Rounds, ways: Collection[str], who: str) -> str:
    """Return what stands in the way of: in the newest rounds, all of these ways connected. Empty when nothing does."""
    return _unlike(rounds, ways, who, {_CONNECTED})


def closed(rounds: Rounds, ways: Collection[str], who: str) -> str:
    """Return what stands in the way of: in the newest rounds, each of these ways was closed by the network.

    A name that does not resolve is not a closed way. Whether something is at its other end is for a control to show.
    """
    return _unlike(rounds, ways, who, _CLOSED)


def _unlike(rounds: Rounds, ways: Collection[str], who: str, wanted: Collection[str]) -> str:
    newest = rounds[-ROUNDS:]
    if len(newest) < ROUNDS:
        return f"{who}: has not tried often enough yet"
    for each in newest:
        for way in ways:
            attempt = each.get(way)
            if attempt is None or attempt.connect not in wanted:
                return f"{who}: {attempt or f'{way}: not tried'}"
    return ""


def words(rounds: Rounds, ways: Collection[str]) -> str:
    """Return how the ways ended in the newest round ("timed out"), for a sentence."""
    newest = rounds[-1] if rounds else {}
    return " and ".join(dict.fromkeys(newest[way].connect for way in ways if way in newest))
