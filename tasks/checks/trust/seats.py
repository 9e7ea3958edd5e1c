"""The probe pods of the matrix, the proxies whose logs are read, and a look at what came of every cell."""

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tasks.checks.trust import layers, walls
from tasks.checks.trust.cells import (
    AT_ACTIVATOR,
    AT_EDGE,
    AT_MODEL,
    LISTEN_PORT,
    LISTENING,
    MESHED,
    Cell,
    Seat,
    Target,
    by_seat,
)
from tasks.checks.trust.layers import Layer, Logs, Seen
from tasks.lib import names, probepods
from tasks.lib.checks import Scene
from tasks.lib.errors import NotReady
from tasks.lib.kube import parallel
from tasks.lib.kube.api import Ref
from tasks.lib.kube.client import Kube
from tasks.lib.kube.follow import Follower
from tasks.lib.objects import namespace
from tasks.lib.probepods import Attempt, ProbePod, Rounds
from tasks.lib.scratch import PREFIX, Scratch

OUTSIDE = f"{PREFIX}outside"
LIFE_S = 3000.0
INTERVAL_S, CONNECT_S, ANSWER_S = 2.0, 1.5, 10.0

_KEPT_ROUNDS, _LONG_ROUNDS = 6, 60


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was seen of a cell in one round, and what is wrong with it; empty when nothing is."""

    cell: Cell
    seen: Seen
    wrong: str = ""


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy whose log tells who decided."""

    what: str
    pod: Ref
    container: str = "istio-proxy"


@dataclass(frozen=True, kw_only=True)
class Seats:
    """All probe pods, and what they were told to ask."""

    cells: Sequence[Cell]
    pods: Mapping[Seat, ProbePod]
    refs: Sequence[Ref]
    logs: Logs
    readers: "Readers"

    def mark(self) -> dict[Seat, int]:
        """Return, for each seat, the number above which rounds certainly begin after now."""
        seats = list(self.pods)
        return dict(zip(seats, parallel.each(lambda seat: self.pods[seat].mark(), seats), strict=True))

    def look(self) -> list[list[Verdict]]:
        """Return what was seen in two rounds, oldest first; less when there are less.

        They are the newest but one, and the one before. What the proxies say of the newest may not be written yet.
        """
        with contextlib.suppress(NotReady):  # what has no pod at this moment answers nothing, and that shows
            self.readers.refresh()
        rounds = self._rounds({}, kept=_KEPT_ROUNDS)
        return [
            verdicts(self.cells, {seat: each[at] for seat, each in rounds.items()}, self.logs)
            for at in (-3, -2)
            if all(len(each) >= -at for each in rounds.values())
        ]

    def newest(self) -> list[tuple[Cell, Attempt]]:
        """Return the newest attempt of every cell."""
        newest = {cell.name: (cell, attempt) for cell, attempt in self.history({}, kept=2)}
        return list(newest.values())

    def reached(self, numbers: Mapping[Seat, int]) -> str:
        """Return which seat has not yet come to the end of that round; empty when all have."""
        found = self._rounds({}, kept=1)
        late = [seat for seat, number in numbers.items() if not found[seat] or _number(found[seat][-1]) < number]
        return f"{late[0]}: round {numbers[late[0]]} is not over" if late else ""

    def history(self, since: Mapping[Seat, int], *, kept: int = _LONG_ROUNDS) -> list[tuple[Cell, Attempt]]:
        """Return every attempt of every cell in whole rounds that began after a mark, oldest first."""
        by = by_seat(self.cells)
        return [
            (cell, attempts[cell.name])
            for seat, rounds in self._rounds(since, kept=kept).items()
            for attempts in rounds
            for cell in by[seat]
            if cell.name in attempts
        ]

    def _rounds(self, since: Mapping[Seat, int], *, kept: int) -> dict[Seat, Rounds]:
        """Read the last rounds of every seat. One that is cut off at the beginning, or under way, does not count."""
        by, seats = by_seat(self.cells), list(self.pods)
        found = parallel.each(
            lambda seat: self.pods[seat].rounds(since.get(seat, 0), lines=len(by[seat]) * (kept + 1)), seats
        )
        return dict(zip(seats, found, strict=True))

    def leave(self) -> None:
        """Read no more logs."""
        self.readers.stop()


class Readers:
    """Reads the logs of all proxies, also of those that come later: a model that is asked much gets more pods."""

    def __init__(self, kube: Kube, logs: Logs, proxies: Callable[[], Iterable[Proxy]]) -> None:
        self._kube, self._logs, self._proxies = kube, logs, proxies
        self._followers: dict[Proxy, Follower] = {}

    def refresh(self) -> None:
        """Begin to read what is new. Raises NotReady when a proxy that has to be there is not."""
        for each in self._proxies():
            if each not in self._followers:
                take = partial(self._logs.take, each.what)
                self._followers[each] = Follower(self._kube, each.pod, each.container, take)

    def stop(self) -> None:
        """Read no more."""
        for each in self._followers.values():
            each.stop()


def _number(attempts: Mapping[str, Attempt]) -> int:
    return next(iter(attempts.values())).round


def verdicts(cells: Iterable[Cell], rounds: Mapping[Seat, Mapping[str, Attempt]], logs: Logs) -> list[Verdict]:
    """Judge one round of every seat."""
    attempts = {name: attempt for found in rounds.values() for name, attempt in found.items()}
    made: list[Verdict] = []
    for cell in cells:
        attempt = attempts.get(cell.name)
        if attempt is None:
            seen = Seen(layer=Layer.UNKNOWN, evidence="not asked")
            made.append(Verdict(cell=cell, seen=seen, wrong="not asked"))
            continue
        seen = layers.layer_of(attempt, logs.of(cell.name, attempt.round), AT_EDGE)
        made.append(Verdict(cell=cell, seen=seen, wrong=wrong(cell, attempt, seen, attempts.get(cell.control))))
    return made


def wrong(cell: Cell, attempt: Attempt, seen: Seen, control: Attempt | None) -> str:
    """Return what is wrong with what a cell saw; empty when nothing is."""
    told = f"{seen}" if seen.layer is Layer.UNKNOWN else f"{seen} instead of {_wanted(cell)}"
    if (seen.layer, seen.status) != (cell.layer, cell.status) or (cell.at and seen.at != cell.at):
        return told
    if cell.control and (control is None or control.connect != "connected"):
        return f"closed, but so it is for the control ({control.connect if control else 'not asked'})"
    if cell.layer is Layer.ANSWERED:
        return _wrong_answer(cell, attempt)
    return ""


def _wanted(cell: Cell) -> str:
    at = f" at {cell.at}" if cell.at else ""
    return f"{cell.status} by {cell.layer}{at}" if cell.status else f"{cell.layer}{at}"


def _wrong_answer(cell: Cell, attempt: Attempt) -> str:
    if cell.limited and not attempt.headers.get("x-ratelimit-limit"):
        return "answered, and no limit was counted"
    if not (cell.answer or cell.absent):
        return ""
    try:
        found = json.loads(attempt.body)
    except ValueError:
        return f"answered with what is not JSON: {attempt.body[:80]!r}"
    arrived = (found.get("echo") or {}).get("headers") or {}
    if forged := sorted(name for name in cell.absent if arrived.get(name) == cell.way.headers[name]):
        return f"the model got {', '.join(forged)} as the client sent it"
    if cell.absent and "x-tenant" in arrived:
        return "the model got x-tenant, which is the limiter's alone"
    return "" if _holds(found, cell.answer) else f"answered {attempt.body[:120]!r}"


def _holds(found: object, wanted: Mapping[str, object]) -> bool:
    """Whether an answer has everything that is wanted, and maybe more."""
    return isinstance(found, dict) and all(
        _holds(found.get(key), value) if isinstance(value, Mapping) else found.get(key) == value
        for key, value in wanted.items()
    )


def take(
    scene: Scene, scratch: Scratch, targets: Sequence[Target], cells: Sequence[Cell], *, interval_s: float = INTERVAL_S
) -> Seats:  # fmt: skip
    """Make the probe pods and what they need, and wait until they run. Raises NotReady when they do not."""
    ours = [each for each in targets if each.scratch]
    last = ours[-1].model.namespace
    spaces = {
        Seat.KNATIVE: names.KNATIVE_NAMESPACE, Seat.BESIDE: names.KNATIVE_NAMESPACE,
        Seat.TENANT: ours[0].model.namespace, Seat.BYSTANDER: last,
    }  # fmt: skip
    scratch.put(namespace(OUTSIDE), *walls.services(ours), *walls.allowances(ours, OUTSIDE))
    by = by_seat(cells)

    def make(seat: Seat) -> Ref:
        order = probepods.call(
            [cell.way for cell in by.get(seat, ())], life_s=LIFE_S, interval_s=interval_s, connect_s=CONNECT_S,
            answer_s=ANSWER_S,
        ) | ({"listen": LISTEN_PORT} if seat in LISTENING else {})  # fmt: skip
        return probepods.make(scene, scratch, spaces.get(seat, OUTSIDE), seat, order, mesh=seat in MESHED)

    refs = {seat: make(seat) for seat in Seat}
    pods = {seat: probepods.started(scene, ref, seat) for seat, ref in refs.items()}
    asking = {seat: pod for seat, pod in pods.items() if seat in by}
    logs = Logs()
    readers = Readers(scene.box.kube, logs, lambda: _proxies(scene, targets, refs))
    readers.refresh()
    return Seats(cells=cells, pods=asking, refs=list(refs.values()), logs=logs, readers=readers)


def _proxies(scene: Scene, targets: Sequence[Target], refs: Mapping[Seat, Ref]) -> list[Proxy]:
    """Return the proxies that may decide about a cell. Raises NotReady when one is not there."""

    def pods(space: str, selector: str) -> list[Ref]:
        found = scene.box.kube.list("v1", "Pod", space, selector, heads=True)
        refs = [Ref.of(each) for each in found if not each["metadata"].get("deletionTimestamp")]
        if not refs:
            raise NotReady(f"no pod in {space} has {selector}")
        return refs

    edge = pods(names.GATEWAY_NAMESPACE, f"{names.GATEWAY_LABEL}={names.EDGE}")
    activators = pods(names.KNATIVE_NAMESPACE, "app=activator")
    models = [
        ref for each in targets
        for ref in pods(each.model.namespace, f"serving.kserve.io/inferenceservice={each.model.name}")
    ]  # fmt: skip
    return [
        *(Proxy(what=AT_EDGE, pod=ref, container="envoy") for ref in edge),
        *(Proxy(what=walls.AT_EDGES_SIDECAR, pod=ref) for ref in edge),
        *(Proxy(what=AT_ACTIVATOR, pod=ref) for ref in activators),
        *(Proxy(what=AT_MODEL, pod=ref) for ref in models),
        Proxy(what="the bystander's sidecar", pod=refs[Seat.BYSTANDER]),
        Proxy(what="a pod of Knative's namespace's sidecar", pod=refs[Seat.KNATIVE]),
    ]
