"""Puts a run together: from settings to a box, and from records to the graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks import components
from tasks.lib import lockfile, modelling, names, providers, settings, sources, tenancy, versions
from tasks.lib.box import Box
from tasks.lib.component import Component
from tasks.lib.container import ContainerEngine
from tasks.lib.errors import BadInput, ClusterGone
from tasks.lib.graph import Graph
from tasks.lib.modelling import Model
from tasks.lib.packages.store import Store
from tasks.lib.providers.existing import ExistingProvider
from tasks.lib.providers.kind import KindProvider, Wanted
from tasks.lib.settings import Settings
from tasks.lib.sources import factory
from tasks.lib.tenancy import Tenant
from tasks.lib.tools import Tools

ROOT = Path(__file__).resolve().parents[2]
STAGES_BUILT = tuple(stage for stage in components.STAGES if stage not in {"gateway", "obs", "verify"})


@dataclass(frozen=True, kw_only=True)
class Session:
    """A box, and the platform that is wanted in it."""

    box: Box
    tenants: list[Tenant]
    models: list[Model]

    @property
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


def open_session(config: Mapping[str, Any], **options: Any) -> Session:
    """Read every configuration file, choose provider and source, and read the tenants that were added by command.

    `config` is Invoke's `box` section; `options` are those of the command line, None when not given. Raises BadInput
    before anything is touched.
    """
    chosen = settings.load(config, options=options)
    configured, _ = tenancy.load(ROOT / "config/tenants.yaml")
    box = open_box(chosen)
    added = _added(box, {tenant.name for tenant in configured})
    everyone = [*configured, *added]
    models = modelling.load(ROOT / "config/models.yaml", [tenant.name for tenant in everyone])
    return Session(box=box, tenants=everyone, models=models)


def open_box(chosen: Settings) -> Box:
    """Choose source and provider. Raises NotAvailable with everything that was tried."""
    store = Store(chosen.cache_dir())
    engine = ContainerEngine(store)
    existing = _wants_existing(chosen)
    lock = lockfile.load(ROOT)
    source = sources.detect(
        chosen,
        partial(versions.load, ROOT),
        factory.maker(
            root=ROOT,
            cache=chosen.cache_dir(),
            mirror=chosen.mirror,
            engine=engine,
            helm=lambda pins, source: Tools(ROOT, pins, source).path("helm"),
            local=not existing,
            install=chosen.install,
            locked=lock.sha256,
            stages=STAGES_BUILT,
        ),
    )
    tools = Tools(ROOT, source.versions, source.source)
    wanted = Wanted(
        cluster=chosen.cluster, version=source.versions.kubernetes.version, workers=chosen.workers,
        http_port=chosen.http_port, https_port=chosen.https_port, install=chosen.install,
    )  # fmt: skip
    provider = providers.detect(
        "existing" if existing else "kind",
        {
            "kind": lambda: KindProvider(
                wanted, engine=engine, source=source.source, kind=lambda: tools.path("kind"), store=store,
                kubeconfig=ROOT / ".box" / f"kubeconfig-{chosen.cluster}",
            ),
            "existing": lambda: ExistingProvider(
                kubeconfig=chosen.kubeconfig, context=chosen.context,
                unsupported=source.versions.unsupported_kubernetes,
            ),
        },
    )  # fmt: skip
    return Box(
        root=ROOT, settings=chosen, versions=source.versions, source=source.source, provider=provider.provider,
        tools=tools, notes=(*source.why, f"{provider.provider.name}: {provider.why}"),
    )  # fmt: skip


def _wants_existing(chosen: Settings) -> bool:
    """A context or a kubeconfig that is named means that cluster."""
    return chosen.provider == "existing" or bool(chosen.provider == "auto" and (chosen.context or chosen.kubeconfig))


def _added(box: Box, configured: set[str]) -> list[Tenant]:
    """Return the tenants that `tenant.add` made; none while there is no cluster."""
    if not box.provider.exists():
        return []
    try:
        namespaces = box.kube.list("v1", "Namespace", selector=names.TENANT_LABEL)
    except ClusterGone:
        return []  # the cluster component says what is wrong with it, and repairs it
    found = [tenant for each in namespaces if (tenant := tenancy.from_namespace(each))]
    return [tenant for tenant in found if tenant.name not in configured]


def _one(name: str, known: Mapping[str, Any], what: str) -> Any:
    if name not in known:
        raise BadInput(f"no {what} {name!r}", facts={"known": ", ".join(known) or "none"})
    return known[name]
