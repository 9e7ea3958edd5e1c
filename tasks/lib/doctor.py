"""What has to be true of a machine before the platform is brought up on it, as a table of checks.

Each claim is a sentence that is true or false; each check is a pure function of the facts (tasks.lib.facts). `up` runs
the fatal ones before it touches anything; `invoke doctor` shows them all.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tasks.lib.errors import NotAvailable
from tasks.lib.facts import Facts
from tasks.lib.providers.machine import LIMITS, OTHER_PORTS
from tasks.lib.versions import Versions

GIB = 1 << 30
GB = 10**9

MEMORY_LEAST, MEMORY_WELL = 8 * GIB, 12 * GIB
ENGINE_DISK, CACHE_DISK = 20 * GB, 10 * GB
CPUS_WELL = 2


class Level(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found, in words, and what to type when it is not well."""

    level: Level
    says: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim. `fatal`: without it nothing can come up. `provider`: the only one it is about; empty for all."""

    id: str
    claim: str
    probe: Callable[[Facts, Versions], Finding]
    fatal: bool = False
    provider: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A check and its finding."""

    check: Check
    finding: Finding

    @property
    def fatal(self) -> bool:
        """Whether `up` must not begin."""
        return self.check.fatal and self.finding.level is Level.FAIL


def ok(says: str) -> Finding:
    """The claim is true."""
    return Finding(level=Level.OK, says=says)


def warn(says: str, fix: str) -> Finding:
    """It will do, but not well; or it cannot be told."""
    return Finding(level=Level.WARN, says=says, fix=fix)


def fail(says: str, fix: str) -> Finding:
    """The claim is false."""
    return Finding(level=Level.FAIL, says=says, fix=fix)


def skip(says: str) -> Finding:
    """It cannot be told here."""
    return Finding(level=Level.SKIP, says=says)


def engine(facts: Facts, _: Versions) -> Finding:
    """The container engine answers, or `up` may install one."""
    found = facts.engine
    if found is None:
        return skip("not asked for")
    if not found.problem:
        return ok(f"version {found.version}")
    if found.curable:
        return warn(f"{found.problem}; `invoke up` installs and starts one", "nothing, or " + found.hint)
    return fail(found.problem, found.hint)


def memory(facts: Facts, _: Versions) -> Finding:
    """There is memory for the nodes. An engine in a virtual machine has less than the machine."""
    if facts.cluster_exists:
        return ok("the cluster is there already, and has its memory")
    known = [
        each for each in (facts.memory_available, facts.engine.memory if facts.engine else None) if each is not None
    ]
    if not known:
        return skip("this machine does not tell")
    says = f"{min(known) / GIB:.1f} GiB available"
    if min(known) < MEMORY_LEAST:
        return fail(
            f"{says}, {MEMORY_LEAST // GIB} GiB are needed",
            "end other programs; with Docker Desktop: Settings, Resources, Memory",
        )
    if min(known) < MEMORY_WELL:
        return warn(f"{says}, {MEMORY_WELL // GIB} GiB are better", "leave out what is not needed, such as obs")
    return ok(says)


def disk(facts: Facts, _: Versions) -> Finding:
    """There is room for images and builds. What shares a file system shares the room."""
    wanted = [
        (each, need)
        for each, need in ((facts.engine_disk, ENGINE_DISK), (facts.cache_disk, CACHE_DISK))
        if each is not None
    ]
    if not wanted:
        return skip("this machine does not tell")
    if facts.cluster_exists:
        return ok("the cluster is there already, and has its images")
    short = []
    for device in {each.device for each, _ in wanted}:
        here = [(each, need) for each, need in wanted if each.device == device]
        need = sum(each for _, each in here)
        free = min(each.free for each, _ in here)
        if free < need:
            paths = " and ".join(str(each.path) for each, _ in here)
            short.append(f"{free / GB:.0f} GB free for {paths}, {need / GB:.0f} GB are needed")
    if short:
        return fail("; ".join(sorted(short)), "docker system df   shows what can go; box.cache moves the cache")
    return ok(", ".join(f"{each.free / GB:.0f} GB free for {each.path}" for each, _ in wanted))


def cpus(facts: Facts, _: Versions) -> Finding:
    """Two are enough; with one everything takes twice as long."""
    if facts.cpus is None:
        return skip("this machine does not tell")
    if facts.cpus < CPUS_WELL:
        return warn(f"{facts.cpus} core; starting takes longer than the time limits are made for", "give it two cores")
    return ok(f"{facts.cpus} cores")


def ports(facts: Facts, _: Versions) -> Finding:
    """The gateway's ports are free, or the cluster's own."""
    if facts.cluster_exists:
        return ok("they are the cluster's own")
    taken = {port: who for port, who in facts.ports.items() if who is not None}
    if taken:
        says = ", ".join(f"{port} is held by {who}" for port, who in taken.items())
        return fail(says, OTHER_PORTS)
    return ok(", ".join(map(str, facts.ports)))


def inotify(facts: Facts, _: Versions) -> Finding:
    """Kubelets, containerds and Envoys can watch their files (kind's known issues, "too many open files")."""
    if not facts.inotify:
        return skip("this machine does not tell")
    low = {name: wanted for name, wanted in LIMITS.items() if facts.inotify.get(name, wanted) < wanted}
    if low:
        says = ", ".join(
            f"fs.inotify.{name} is {facts.inotify[name]}, {wanted} is needed" for name, wanted in low.items()
        )
        return warn(says, "sudo sysctl " + " ".join(f"fs.inotify.{name}={wanted}" for name, wanted in low.items()))
    return ok(", ".join(f"{name} {facts.inotify[name]}" for name in LIMITS if name in facts.inotify))


def kernel(facts: Facts, _: Versions) -> Finding:
    """The kernel can do what containers need. A warning only: an engine that runs knows better."""
    missing = [name for name, there in facts.kernel.items() if there is False]
    if missing:
        return warn(f"the kernel seems to have no {', '.join(missing)}", f"sudo modprobe -a {' '.join(missing)}")
    if not facts.kernel or None in facts.kernel.values():
        return skip("this machine does not tell")
    return ok(", ".join(facts.kernel))


def sources(facts: Facts, _: Versions) -> Finding:
    """Something has the charts and images."""
    said = [
        f"{name} works ({tried.seconds:.1f}s)"
        if not tried.problem
        else f"not {name}: {' '.join(tried.problem.split())}"
        for name, tried in facts.sources.items()
    ]
    if not said:
        return skip("none was asked")
    if all(tried.problem for tried in facts.sources.values()):
        fix = "check the network, or name a registry that has everything: --source mirror --mirror HOST:PORT"
        return fail("; ".join(said), fix)
    return ok("; ".join(said))


def tools(facts: Facts, _: Versions) -> Finding:
    """Tools are there, or will be fetched; one that is broken will be replaced."""
    if not facts.tools:
        return skip("none was asked for")
    return ok("; ".join(f"{name} {state.removeprefix(f'{name} ')}" for name, state in facts.tools.items()))


def cluster(facts: Facts, _: Versions) -> Finding:
    """The cluster that the kubeconfig names answers."""
    found = facts.cluster
    if found is None:
        return skip("none is named")
    if found.problem:
        return fail(found.problem, found.hint or "kubectl config get-contexts   then   --context NAME")
    return ok(f"context {found.context}, {found.version}")


def kubernetes(facts: Facts, versions: Versions) -> Finding:
    """Its version is one that every vendor supports."""
    found = facts.cluster
    if found is None or not found.version:
        return skip("the cluster does not answer")
    outside = versions.unsupported_kubernetes(found.version)
    if not outside:
        return ok(f"{found.version} is in {versions.kubernetes_range}")
    says = f"{found.version} is outside {versions.kubernetes_range}: "
    says += ", ".join(f"{name} supports {allowed}" for name, allowed in outside.items())
    return fail(says, "another cluster with --context NAME, or one of our own: --provider kind")


CHECKS = (
    Check(id="engine", claim="a container engine answers", probe=engine, fatal=True, provider="kind"),
    Check(id="memory", claim="there is memory for the nodes", probe=memory, fatal=True, provider="kind"),
    Check(id="disk", claim="there is room for images and builds", probe=disk, fatal=True),
    Check(id="cpus", claim="there are processors enough", probe=cpus, provider="kind"),
    Check(id="ports", claim="the gateway's ports are free", probe=ports, fatal=True, provider="kind"),
    Check(id="inotify", claim="the limits of inotify are high enough", probe=inotify, provider="kind"),
    Check(id="kernel", claim="the kernel can run containers", probe=kernel, provider="kind"),
    Check(id="sources", claim="charts and images are in reach", probe=sources, fatal=True),
    Check(id="tools", claim="the pinned tools are here or can be fetched", probe=tools),
    Check(id="cluster", claim="the cluster answers", probe=cluster, fatal=True, provider="existing"),
    Check(id="kubernetes", claim="its version is supported", probe=kubernetes, fatal=True, provider="existing"),
)


def run(facts: Facts, versions: Versions, *, fatal_only: bool = False) -> list[Result]:
    """Return the findings of the checks that are about this provider, in the table's order."""
    return [
        Result(check=check, finding=check.probe(facts, versions))
        for check in CHECKS
        if check.provider in ("", facts.provider) and (check.fatal or not fatal_only)
    ]


def require(results: Iterable[Result]) -> None:
    """Raise NotAvailable when a fatal check failed, naming every one with its fix."""
    broken = [each for each in results if each.fatal]
    if not broken:
        return
    facts = {each.check.id: each.finding.says for each in broken}
    fixes = [each.finding.fix for each in broken if each.finding.fix]
    raise NotAvailable(
        f"not true of this machine: {'; '.join(each.check.claim for each in broken)}",
        facts={**facts, "skipped": "nothing was changed"},
        hint="\n       ".join(fixes),
    )


def lines(results: Iterable[Result], marks: Mapping[Level, str] | None = None) -> list[str]:
    """Return the table for people: mark, claim, what was found, and below it what to type."""
    results = list(results)
    marks = marks or {Level.OK: "✓", Level.WARN: "!", Level.FAIL: "✗", Level.SKIP: "⊘"}
    width = max((len(each.check.claim) for each in results), default=0)
    out = []
    for each in results:
        finding = each.finding
        out.append(f"  {marks[finding.level]} {each.check.claim:<{width}}  {finding.says}".rstrip())
        if finding.fix and finding.level in (Level.WARN, Level.FAIL):
            out.append(f"    {'':<{width}}  fix: {finding.fix}")
    return out


def as_json(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return the findings as values."""
    return [
        {
            "id": each.check.id, "claim": each.check.claim, "level": str(each.finding.level), "fatal": each.fatal,
            "says": each.finding.says, "fix": each.finding.fix,
        }
        for each in results
    ]  # fmt: skip
