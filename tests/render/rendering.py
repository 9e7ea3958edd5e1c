"""The whole platform rendered, without a cluster: every component's objects, for both kinds of provider."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from tasks import components
from tasks.lib import modelling, tenancy, versions
from tasks.lib.box import Box
from tasks.lib.component import Component
from tasks.lib.container import ContainerEngine
from tasks.lib.errors import FetchFailed, NotAvailable
from tasks.lib.graph import Graph
from tasks.lib.kube.api import Key, Obj, Ref
from tasks.lib.objects import ObjectsComponent
from tasks.lib.packages import recipes
from tasks.lib.packages.store import Store
from tasks.lib.session import ROOT
from tasks.lib.settings import Settings
from tasks.lib.sources.factory import PACKAGES
from tasks.lib.sources.packages import PackagesSource
from tasks.lib.tools import Tools
from tasks.lib.versions import Versions
from tests.fakes import FakeKube
from tests.render.schemas import Schemas

PROVIDERS = {"kind": "NodePort", "existing": "LoadBalancer"}
"""Providers, and the type of Service by which clients reach the gateway there."""

DEFINITION = "CustomResourceDefinition"
OWN = frozenset({"issuers", "identity", "jwt-keys", "model-store", "net-istio"})
"""Components made of nothing but our own files, and so without charts; every tenant and every model is another."""

T = TypeVar("T")

_unavailable: list[str] = []


def _wanted() -> Graph[Component]:
    configured, _ = tenancy.load(ROOT / "config/tenants.yaml")
    return components.platform(configured, modelling.load(ROOT / "config/models.yaml"))


GRAPH = _wanted()
COMPONENTS = {name: node for name in GRAPH.names if isinstance(node := GRAPH[name], ObjectsComponent)}


def own(component: ObjectsComponent) -> bool:
    """Whether a component is made of our own files alone."""
    return component.name in OWN or component.stage in {"tenants", "models"}


def box(provider: str = "kind", pins: Versions | None = None) -> Box:
    """Return a box of source `packages`, good for rendering and nothing else. Its cluster is empty."""
    pins = pins or versions.load(ROOT, PACKAGES)
    chosen = Settings(source=PACKAGES, provider=provider)
    cache = chosen.cache_dir()
    engine = ContainerEngine(Store(cache))
    source = PackagesSource(pins, Store(cache / PACKAGES), recipes.load(ROOT), engine=engine)
    nowhere = "http://127.0.0.1:9"  # the port of a service that nobody runs
    fake: Any = SimpleNamespace(name=provider, service_type=PROVIDERS[provider], gateway_url=lambda: nowhere)
    made = Box(root=ROOT, settings=chosen, versions=pins, source=source, provider=fake, tools=Tools(ROOT, pins, source))
    vars(made)["kube"] = FakeKube()
    return made


def render(component: ObjectsComponent, given: Box) -> list[Obj]:
    """Return everything a component applies, with what it makes only once."""
    return [*component.objects(given), *component.create_only(given)]


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """The platform on one kind of provider. Each component is rendered once, when it is first asked for."""

    box: Box
    schemas: Schemas
    _made: dict[str, list[Obj]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> list[Obj]:
        """Return a component's objects, each in the namespace that `apply` puts it in: some kinds have none."""
        if name not in self._made:
            component = COMPONENTS[name]
            made = render(component, self.box) if own(component) else with_charts(lambda: render(component, self.box))
            self._made[name] = [self._placed(each) for each in made]
        return self._made[name]

    @property
    def everything(self) -> dict[str, list[Obj]]:
        """The objects of every component."""
        return {name: self[name] for name in COMPONENTS}

    @property
    def owners(self) -> dict[Key, list[str]]:
        """The components that apply an object, for each object."""
        found: dict[Key, list[str]] = {}
        for name, objects in self.everything.items():
            for each in objects:
                found.setdefault(Ref.of(each).key, []).append(name)
        return found

    @property
    def definitions(self) -> dict[str, list[Obj]]:
        """The CustomResourceDefinitions of every component."""
        return {
            name: [each for each in objects if each["kind"] == DEFINITION] for name, objects in self.everything.items()
        }

    def _placed(self, obj: Obj) -> Obj:
        if self.schemas.namespaced(obj["apiVersion"], obj["kind"]) is not False:
            return obj
        return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "namespace"}}


def with_charts(make: Callable[[], T]) -> T:
    """Return what is made of charts. Skips where charts or helm cannot be had; fails there in CI."""
    if not _unavailable:
        try:
            return make()
        except (FetchFailed, NotAvailable) as error:
            _unavailable.append(f"charts cannot be had here: {error}")
    if os.environ.get("CI") == "true":
        pytest.fail(_unavailable[0], pytrace=False)
    pytest.skip(_unavailable[0])


def name_of(obj: Obj) -> str:
    """Return an object's name for people: kind, namespace and name."""
    return str(Ref.of(obj))
