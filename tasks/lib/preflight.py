"""When the machine is looked at: before a command acts (`require`), and for `invoke doctor` (`show`).

What is asked is in facts.py, what it has to be in doctor.py. Nothing here needs an engine, a source or a cluster that
works: whatever cannot be asked is a finding like the others.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tasks import components
from tasks.lib import container, converge, doctor, facts, report, session, settings, sources, versions
from tasks.lib.container import ContainerEngine, Probe
from tasks.lib.doctor import Level
from tasks.lib.errors import BoxError
from tasks.lib.facts import ClusterFacts, Facts
from tasks.lib.packages.store import Store
from tasks.lib.providers.nodes import Nodes
from tasks.lib.session import Session
from tasks.lib.settings import Settings
from tasks.lib.tools import Tools
from tasks.lib.versions import Versions

_MARKS = {Level.WARN: "!"}


def require(opened: Session, *wanted: str) -> None:
    """See that what is wanted can be brought up here, then that there is an engine; install one where that is allowed.

    The source begins with what the stages need before that: it is at work while an engine is installed and the cluster
    comes up. Raises NotInThisVersion for a stage with nothing behind it yet, NotAvailable naming every fatal check that
    failed: nothing was touched then. A cluster of our own that is there has what it needs, and is not checked.
    """
    fixed = components.platform((), ())
    targets = fixed.resolve(name for name in wanted if name in fixed.stages)
    box = opened.box
    if not (box.provider.owned and box.provider.exists()):
        found = _gather(box.settings, box.versions, {})  # the source was asked when it was chosen
        doctor.require(doctor.run(found, box.versions, fatal_only=True))
    stages = [fixed[name].stage for name in fixed.closure(targets) if not fixed[name].left_out]
    box.source.begin(list(dict.fromkeys(stages)), box.cancel)
    box.provider.ensure_engine(converge.tell)


def show(config: Mapping[str, Any], options: Mapping[str, str], *, as_json: bool) -> bool:
    """Print every check that is about the provider; return whether nothing fatal failed. Raises BadInput."""
    chosen = settings.load(config, options={key: value for key, value in options.items() if value})
    results = doctor.run(*look(chosen))
    if as_json:
        sys.stdout.write(json.dumps(doctor.as_json(results), indent=2) + "\n")
    else:
        marks = report.marks_for(sys.stdout)
        signs = {Level.OK: marks.done, Level.FAIL: marks.failed, Level.SKIP: marks.not_done, **_MARKS}
        sys.stdout.write("\n".join(doctor.lines(results, signs)) + "\n")
    return not any(each.fatal for each in results)


def look(chosen: Settings) -> tuple[Facts, Versions]:
    """Ask everything; return it with the versions of the source that `up` would take."""
    pins = {name: versions.load(session.ROOT, name) for name in sources.candidates(chosen)}
    first, *_ = pins
    found = _gather(chosen, pins[first], {name: partial(_why_not, chosen, name, each) for name, each in pins.items()})
    best = next((name for name in pins if not found.sources[name].problem), first)
    return replace(found, tools=_tools(chosen, best, pins[best])), pins[best]


@dataclass(frozen=True)
class _Engine:
    """The container engine, made when it is asked: a cache folder that cannot be written is a finding too."""

    chosen: Settings

    def probe(self) -> Probe:
        return self._made().probe()

    def info(self) -> dict[str, Any]:
        return self._made().info()

    def _made(self) -> ContainerEngine:
        return ContainerEngine(Store(self.chosen.cache_dir()))


def _gather(chosen: Settings, pins: Versions, ask: Mapping[str, Callable[[], str | None]]) -> Facts:
    name = session.provider_name(chosen)
    ours = name == "kind"
    return facts.gather(
        provider=name,
        ports=(chosen.http_port, chosen.https_port) if ours else (),
        cache=chosen.cache_dir(),
        engine=_Engine(chosen) if ours else None,
        cannot_install=lambda: container.cannot_install(install=chosen.install),
        cluster_exists=partial(_exists, chosen) if ours else (lambda: False),
        sources=ask,
        tools={},
        cluster=None if ours else partial(_cluster, chosen, pins),
    )


def _exists(chosen: Settings) -> bool:
    engine = ContainerEngine(Store(chosen.cache_dir()))
    return engine.probe().fault is None and bool(Nodes(engine, chosen.cluster).all())


def _cluster(chosen: Settings, pins: Versions) -> ClusterFacts:
    info = session.existing(chosen, pins).info()
    return ClusterFacts(context=info["context"], version=info["kubernetes"])


def _why_not(chosen: Settings, name: str, pins: Versions) -> str | None:
    return session.source_maker(chosen)(name, pins).available()


def _tools(chosen: Settings, source: str, pins: Versions) -> dict[str, str]:
    """Return the state of each tool that this provider needs; none when the source cannot even be made."""
    wanted = [name for name in versions.TOOLS if name != "kind" or session.provider_name(chosen) == "kind"]
    try:
        tools = Tools(session.ROOT, pins, session.source_maker(chosen)(source, pins))
        return {name: tools.state(name) for name in wanted}
    except (BoxError, OSError):
        return {}
