"""The whole platform rendered, without a cluster: every component's objects, for both kinds of provider."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from tasks import components
from tasks.lib import modelling, names, tenancy, versions
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
from tests.render.crds import condense
from tests.render.schemas import Schemas, kinds

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
    fake: Any = SimpleNamespace(name=provider, service_type=PROVIDERS[provider], gateway_url=lambda **_: nowhere)
    made = Box(root=ROOT, settings=chosen, versions=pins, source=source, provider=fake, tools=Tools(ROOT, pins, source))
    vars(made).update(kube=FakeKube(), kubernetes=pins.kubernetes.version)
    return made


def render(component: ObjectsComponent, given: Box, schemas: Schemas) -> list[Obj]:
    """Return everything a component applies, with what it makes only once.

    As `apply` sends it: with the component's label, and without a namespace where the kind belongs to none.
    """
    made = [*component.objects(given), *component.create_only(given)]
    return [_placed(each, component.name, schemas) for each in made]


def _placed(obj: Obj, component: str, schemas: Schemas) -> Obj:
    meta = dict(obj["metadata"])
    meta["labels"] = {names.COMPONENT_LABEL: component, **(meta.get("labels") or {})}
    if schemas.namespaced(obj["apiVersion"], obj["kind"]) is False:
        meta.pop("namespace", None)
    return {**obj, "metadata": meta}


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """The platform on one kind of provider. Each component is rendered once, when it is first asked for."""

    box: Box
    schemas: Schemas
    _made: dict[str, list[Obj]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> list[Obj]:
        """Return a component's objects."""
        if name not in self._made:
            component = COMPONENTS[name]
            make = partial(render, component, self.box, self.schemas)
            self._made[name] = make() if own(component) else with_charts(make)
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

    @cached_property
    def installed(self) -> Schemas:
        """The schemas, with those of the definitions that are rendered in the place of the pinned ones."""
        found = condense.kinds(each for objects in self.definitions.values() for each in objects)
        return self.schemas.over(kinds(condense.product("installed", "", found, {})))


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
