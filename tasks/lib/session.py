"""Puts a run together: from settings to a box, and from records to the graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from tasks import components
from tasks.lib import lockfile, lockwants, modelling, names, settings, sources, tenancy, versions
from tasks.lib.box import Box
from tasks.lib.component import Component
from tasks.lib.container import ContainerEngine
from tasks.lib.errors import BadInput, ClusterGone
from tasks.lib.graph import Graph
from tasks.lib.modelling import Model
from tasks.lib.packages.store import Store
from tasks.lib.providers import Provider
from tasks.lib.providers.existing import ExistingProvider
from tasks.lib.providers.kind import KindProvider
from tasks.lib.providers.kindcommand import Wanted
from tasks.lib.settings import Settings
from tasks.lib.sources import Make, Source, factory
from tasks.lib.tenancy import Tenant
from tasks.lib.tools import Tools
from tasks.lib.versions import Versions

ROOT = Path(__file__).resolve().parents[2]
STAGES_BUILT = tuple(stage for stage in components.STAGES if stage not in {"obs", "verify"})

T = TypeVar("T")

_TENANTS, _MODELS = Path("config/tenants.yaml"), Path("config/models.yaml")


@dataclass(frozen=True, kw_only=True)
class Session:
    """A box, and the platform that is wanted in it.

    `configured` are the tenants of config/tenants.yaml. Those that were added by command are read from the cluster when
    they are first asked for: a command that acts starts the engine before (tasks.lib.preflight). `changed` are tenants
    as this command makes them, `read` those that were read before. What was read is not read again; `anew` does.
    """

    box: Box
    configured: Sequence[Tenant]
    changed: Sequence[Tenant] = field(default=())
    read: Sequence[Tenant] | None = None

    @cached_property
    def added(self) -> list[Tenant] | None:
        """The tenants that `tenant.add` made. None when it cannot be said: what is not known is not "none"."""
        if self.read is not None:
            return list(self.read)
        there = self.box.provider.exists()
        if not there:
            return [] if there is False else None
        try:
            return _added(self.box)
        except ClusterGone:  # the cluster component says what is wrong with it, and repairs it
            return None

    def anew(self) -> "Session":
        """Return the session with the added tenants as the cluster has them now. Raises ClusterGone."""
        return replace(self, read=_added(self.box))

    @cached_property
    def tenants(self) -> list[Tenant]:
        """Every tenant that is known. A configured one is as its file says."""
        known = {each.name: each for each in (*(self.added or ()), *self.configured, *self.changed)}
        first = [each.name for each in self.configured]
        return [known[name] for name in dict.fromkeys([*first, *known])]

    @cached_property
    def models(self) -> list[Model]:
        """The models of config/models.yaml, without those of tenants that cannot be known. Raises BadInput."""
        path, owners = self.box.root / _MODELS, [tenant.name for tenant in self.tenants]
        if self.added is None:
            return [model for model in modelling.load(path) if model.tenant in owners]
        return modelling.load(path, owners)

    @cached_property
    def graph(self) -> Graph[Component]:
        """The graph of everything wanted."""
        return components.platform(self.tenants, self.models)

    def tenant(self, name: str) -> Tenant:
        """Return a tenant. Raises BadInput listing those there are."""
        return _one(name, {each.name: each for each in self.tenants}, "tenant")

    def model(self, name: str) -> Model:
        """Return a model by its name, or by `tenant/name` where two tenants have the same. Raises BadInput."""
        known = {f"{each.tenant}/{each.name}": each for each in self.models}
        short = [each for each in self.models if each.name == name]
        return short[0] if len(short) == 1 else _one(name, known, "model")


def open_session(config: Mapping[str, Any], **options: object) -> Session:
    """Read every configuration file, and choose provider and source. The cluster is not asked for anything yet.

    `config` is Invoke's `box` section; `options` are those of the command line, None when not given. Raises BadInput
    before anything is touched.
    """
    chosen = settings.load(config, options=options)
    configured, _ = tenancy.load(ROOT / _TENANTS)
    modelling.load(ROOT / _MODELS)
    return Session(box=open_box(chosen), configured=configured)


def open_box(chosen: Settings) -> Box:
    """Choose source and provider. Raises NotAvailable with everything that was tried."""
    source = sources.detect(chosen, partial(versions.load, ROOT), source_maker(chosen))
    tools = Tools(ROOT, source.versions, source.source)
    name = provider_name(chosen)
    said = [*source.why, f"{name}: {'asked for' if chosen.provider == name else 'nothing else is named'}"]
    if free := lockwants.told(ROOT, source.versions, STAGES_BUILT):
        said.append(free)
    return Box(
        root=ROOT, settings=chosen, versions=source.versions, source=source.source,
        provider=provider(chosen, source.versions, source.source, tools), tools=tools,
        notes=tuple(said),
    )  # fmt: skip


def source_maker(chosen: Settings) -> Make:
    """Return the function that makes a source by its name."""
    return factory.maker(
        root=ROOT,
        cache=chosen.cache_dir(),
        mirror=chosen.mirror,
        engine=ContainerEngine(Store(chosen.cache_dir())),
        helm=lambda pins, source: Tools(ROOT, pins, source).path("helm"),
        local=provider_name(chosen) == "kind",
        install=chosen.install,
        lock=lockfile.load(ROOT),
        stages=STAGES_BUILT,
    )


def provider_name(chosen: Settings) -> str:
    """Return the provider: a context or a kubeconfig that is named means that cluster."""
    if chosen.provider == "auto":
        return "existing" if chosen.context or chosen.kubeconfig else "kind"
    return chosen.provider


def provider(chosen: Settings, pins: Versions, source: Source, tools: Tools) -> Provider:
    """Make the provider. Whether it can work here is found out by tasks.lib.preflight, before anything is touched."""
    if provider_name(chosen) == "existing":
        return existing(chosen, pins)
    store = Store(chosen.cache_dir())
    wanted = Wanted(
        cluster=chosen.cluster, version=pins.kubernetes.version, workers=chosen.workers,
        http_port=chosen.http_port, https_port=chosen.https_port, install=chosen.install,
    )  # fmt: skip
    return KindProvider(
        wanted, engine=ContainerEngine(store), source=source, kind=lambda: tools.path("kind"), store=store,
        kubeconfig=ROOT / ".box" / f"kubeconfig-{chosen.cluster}",
    )  # fmt: skip


def existing(chosen: Settings, pins: Versions) -> ExistingProvider:
    """Make the provider of a cluster that is there already."""
    return ExistingProvider(
        kubeconfig=chosen.kubeconfig, context=chosen.context, unsupported=pins.unsupported_kubernetes
    )


def _added(box: Box) -> list[Tenant]:
    """Read the tenants that `tenant.add` made, from the cluster itself. Raises ClusterGone."""
    try:
        namespaces = box.kube.list("v1", "Namespace", selector=names.TENANT_LABEL)
    except ClusterGone:
        box.forget_cluster()
        raise
    return [tenant for each in namespaces if (tenant := tenancy.from_namespace(each))]


def _one(name: str, known: Mapping[str, T], what: str) -> T:
    if name not in known:
        raise BadInput(f"no {what} {name!r}", facts={"known": ", ".join(known) or "none"})
    return known[name]
