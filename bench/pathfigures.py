"""What `invoke bench.path` measured: medians of its rounds, what each hop adds, how far from the aims. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.figures import Aim

POD, ACTIVATOR, LOCAL, ALL = "pod", "activator", "local gateway", "all hops"
HOPS = (
    (POD, ACTIVATOR, "activator"),
    (ACTIVATOR, LOCAL, "Knative's local gateway"),
    (LOCAL, ALL, "ingress gateway and edge"),
)
"""From a way to the one that has one hop more: what that hop is."""

BARE, SIDECAR, VERIFIED = "echo", "echo, sidecar", "echo, sidecar that verifies"
ISOLATION = ((BARE, SIDECAR, "a sidecar on the server's side"), (SIDECAR, VERIFIED, "its verifying the token"))

WAYS = (POD, ACTIVATOR, LOCAL, ALL, BARE, SIDECAR, VERIFIED)

STEADY, CROWD = "steady", "crowd"

OK, END = "200", "end"
MOST_ADDED_MS = 10.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What fortio measured of one way in one round."""

    round: int
    load: str
    way: str
    requests: int
    codes: Mapping[str, int]
    per_s: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def errors(self) -> int:
        """How many requests were not answered with 200."""
        return sum(count for code, count in self.codes.items() if code != OK)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under which it was measured. `rate` is requests a second of the steady load; `before` and `after` are replicas.

    `mode` is Knative's: with "Proxy" its gateway asks the activator, with "Serve" the pods themselves.
    """

    model: str
    rounds: int
    rate: float
    requests: Mapping[str, int]
    connections: Mapping[str, int]
    mode: str
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way: medians of its rounds at the steady rate, and how much it carries. Errors are sums over all rounds.

    `least_ms` and `greatest_ms` are the medians of the quickest round and of the slowest: how quiet the machine was.
    """

    name: str
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    least_ms: float
    greatest_ms: float
    requests: int
    errors: int
    steady_per_s: float
    most_per_s: float
    crowd_errors: int
    codes: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Added:
    """What one thing more on the way adds: the median of the differences within a round.

    `share` is its part of the mean time through all hops: means add up, percentiles do not.
    """

    what: str
    mean_ms: float
    share: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run."""

    conditions: Conditions
    ways: Sequence[Way]
    hops: Sequence[Added]
    together: Added
    isolation: Sequence[Added]

    def way(self, name: str) -> Way:
        """Return a way by its name."""
        return next(each for each in self.ways if each.name == name)


def parse(log: str) -> tuple[list[Sample], str]:
    """Read the pod's log: what was measured, and how it ended ("end", why it failed, or nothing yet)."""
    samples, ended = list[Sample](), ""
    for line in log.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue  # the line that is being written
        if "failed" in found:
            ended = str(found["failed"])
        elif "end" in found:
            ended = END
        else:
            samples.append(Sample(**found))
    return samples, ended


def figures(samples: Sequence[Sample], conditions: Conditions) -> Figures:
    """Put the figures together."""
    names = list(dict.fromkeys(each.way for each in samples))
    steady = {name: _of(samples, name, STEADY) for name in names}
    return Figures(
        conditions=conditions,
        ways=tuple(_way(name, steady[name], _of(samples, name, CROWD)) for name in names),
        hops=(_pod(steady), *(_added(steady, *each) for each in HOPS)),
        together=_added(steady, POD, ALL, "all hops together"),
        isolation=tuple(_added(steady, *each) for each in ISOLATION),
    )


def _of(samples: Iterable[Sample], way: str, load: str) -> list[Sample]:
    return sorted((each for each in samples if (each.way, each.load) == (way, load)), key=lambda each: each.round)


def _way(name: str, steady: Sequence[Sample], crowd: Sequence[Sample]) -> Way:
    codes = dict[str, int]()
    for each in (*steady, *crowd):
        for code, count in each.codes.items():
            codes[code] = codes.get(code, 0) + count
    return Way(
        name=name,
        mean_ms=median(each.mean_ms for each in steady),
        p50_ms=median(each.p50_ms for each in steady),
        p95_ms=median(each.p95_ms for each in steady),
        p99_ms=median(each.p99_ms for each in steady),
        least_ms=min(each.p50_ms for each in steady),
        greatest_ms=max(each.p50_ms for each in steady),
        requests=sum(each.requests for each in steady),
        errors=sum(each.errors for each in steady),
        steady_per_s=median(each.per_s for each in steady),
        most_per_s=median(each.per_s for each in crowd),
        crowd_errors=sum(each.errors for each in crowd),
        codes=codes,
    )


def _pod(steady: Mapping[str, Sequence[Sample]]) -> Added:
    """What there is before any hop: the pod itself."""
    return _shared("the pod itself", steady, [(each.mean_ms, each.p50_ms, each.p95_ms) for each in steady[POD]])


def _added(steady: Mapping[str, Sequence[Sample]], less: str, more: str, what: str) -> Added:
    pairs = zip(steady[less], steady[more], strict=True)
    differences = [(b.mean_ms - a.mean_ms, b.p50_ms - a.p50_ms, b.p95_ms - a.p95_ms) for a, b in pairs]
    return _shared(what, steady, differences)


def _shared(what: str, steady: Mapping[str, Sequence[Sample]], rounds: Sequence[tuple[float, float, float]]) -> Added:
    mean, p50, p95 = (median(each) for each in zip(*rounds, strict=True))
    whole = median(each.mean_ms for each in steady[ALL])
    return Added(what=what, mean_ms=mean, share=mean / whole, p50_ms=p50, p95_ms=p95)


def aims(figures: Figures) -> list[Aim]:
    """Return every figure that has an aim. Shown beside it, and nothing fails because of one."""
    errors = sum(figures.way(name).errors for name in (POD, ACTIVATOR, LOCAL, ALL))
    load = figures.conditions.rate / figures.way(ALL).most_per_s
    return [
        Aim(name="all hops add at p95, in ms", found=round(figures.together.p95_ms, 2), most=MOST_ADDED_MS),
        Aim(name="errors at the steady rate", found=errors, most=0),
        Aim(name="steady rate / what all hops carry", found=round(load, 2), most=1),
    ]


def text(figures: Figures) -> str:
    """Return the figures for people."""
    given = figures.conditions
    pod, held = figures.way(POD), [each.steady_per_s for each in figures.ways]
    asks = "asks the activator" if given.mode == "Proxy" else "asks the pods themselves"
    lines = [
        f"  {given.model}: {given.rounds} rounds, each way in turn; medians of the rounds",
        f"  steady: {given.requests[STEADY]} requests, {given.rate:g} a second ({min(held):.1f} at least)",
        f"  at most: {given.requests[CROWD]} requests, as fast as {given.connections[CROWD]} connections go",
        f"  Knative's gateway {asks} ({given.mode}); pods of the model: {given.before} before, {given.after} after",
        f"  from round to round the pod alone took {pod.least_ms:.1f} to {pod.greatest_ms:.1f} ms at p50",
        "",
        f"  {'steady':<28}{'p50':>9}{'p95':>9}{'p99':>9}{'errors':>8}{'at most':>11}{'errors':>8}",
        *(_row(each) for each in figures.ways),
        "",
        f"  {'adds':<32}{'mean':>9}{'share':>7}{'p50':>11}{'p95':>11}",
        *(_added_row(each) for each in (*figures.hops, figures.together)),
        "",
        f"  {'isolation, at an echo':<32}{'mean':>9}{'share':>7}{'p50':>11}{'p95':>11}",
        *(_added_row(each) for each in figures.isolation),
        "",
        f"  {'':<34}{'found':>8}{'aim':>9}",
    ]
    return "\n".join([*lines, *map(_aim_row, aims(figures))]) + "\n"


def _row(way: Way) -> str:
    times = "".join(f"{getattr(way, name):>6.1f} ms" for name in ("p50_ms", "p95_ms", "p99_ms"))
    return f"  {way.name:<28}{times}{way.errors:>8}{way.most_per_s:>9.0f}/s{way.crowd_errors:>8}"


def _added_row(each: Added) -> str:
    return f"  {each.what:<32}{each.mean_ms:>6.2f} ms{each.share:>7.0%}{each.p50_ms:>8.2f} ms{each.p95_ms:>8.2f} ms"


def _aim_row(aim: Aim) -> str:
    return f"  {aim.name:<34}{aim.found:>8g}{f'<= {aim.most:g}':>9}  {'yes' if aim.met else 'no'}"


def values(figures: Figures, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the figures as JSON has them, and the rounds that they are the medians of."""
    return {
        **asdict(figures),
        "aims": [{**asdict(each), "met": each.met} for each in aims(figures)],
        "samples": [asdict(each) for each in samples],
    }
