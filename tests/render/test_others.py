"""What reaches a cluster without being a component's object: dry runs, checks, stand-ins; and what users may name."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tasks.checks import tenants as tenant_checks
from tasks.components import model_store, models, tenants
from tasks.lib import modelling, netpolicies, probepods, tenancy, yamlfile
from tasks.lib.errors import BadInput, FetchFailed, NotAvailable
from tasks.lib.kube.api import ApiError, Obj
from tasks.lib.session import ROOT
from tasks.lib.tenancy import Tenant
from tests import boxes, programs
from tests.fakes import FakeKube
from tests.render import naming, rendering as module
from tests.render.rendering import COMPONENTS, Rendering, box, name_of, own, render
from tests.render.schemas import Schemas
from tests.render.test_golden import MODEL, TENANT

STANDINS = ROOT / "tasks/lib/packages/standins"


def refuse_anything_wrong(schemas: Schemas, objects: list[Obj]) -> None:
    """Fail with everything that is wrong with any of these objects."""
    assert objects
    found = {name_of(each): schemas.problems(each) + naming.problems(each) for each in objects}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


# dry runs


class Recorder(FakeKube):
    """Keeps what it is asked to try, and refuses it."""

    def __init__(self) -> None:
        super().__init__()
        self.tried: list[Obj] = []

    def apply(self, obj: Obj, *, dry_run: bool = False, force: bool = True, patience_s: float = 0.0) -> Obj:
        assert dry_run
        self.tried.append(obj)
        raise ApiError("not here", status=422)

    def raw(self, method: str, path: str, body: Obj | None = None, **_: object) -> Any:
        raise ApiError("not here", status=503)


def tried(component: str) -> list[Obj]:
    """Return what a component's probes send in dry runs."""
    given = box()
    recorder = Recorder()
    vars(given)["kube"] = recorder
    for probe in COMPONENTS[component].probes:
        if not probe.costly:
            assert probe.check(given)
    return recorder.tried


TRYING = ("cert-manager", "istiod", "knative", "kserve", "kserve-runtimes")


@pytest.mark.parametrize("component", TRYING)
def test_what_is_sent_in_a_dry_run_gets_as_far_as_the_webhook(schemas: Schemas, component: str) -> None:
    """Also what a webhook is to refuse: by the schema, it would be refused before, and the probe never succeed."""
    refuse_anything_wrong(schemas, tried(component))


def test_no_other_component_sends_any() -> None:
    assert [name for name in COMPONENTS if name not in TRYING and tried(name)] == []


# checks


def test_what_verify_makes(schemas: Schemas) -> None:
    scene = boxes.scene(FakeKube())
    rules = {"podSelector": {}, "policyTypes": ["Ingress"]}
    refuse_anything_wrong(
        schemas,
        [
            probepods.pod(scene, "tenant-acme", "outside"),
            netpolicies.policy("verify-it", "tenant-acme", rules),
            tenant_checks._pod(TENANT, {"limits.cpu": "9"}),
        ],
    )


# stand-ins


def standin(path: str) -> ModuleType:
    """Return a module of a stand-in, which belongs to no package."""
    return programs.load(STANDINS / path)


INGRESS: Obj = {
    "apiVersion": "networking.internal.knative.dev/v1alpha1",
    "kind": "Ingress",
    "metadata": {
        "name": "iris-predictor", "namespace": "tenant-acme", "uid": "1",
        "labels": {"serving.knative.dev/route": "iris-predictor"},
    },
    "spec": {
        "rules": [
            {
                "hosts": ["iris-predictor.tenant-acme.svc.cluster.local"],
                "visibility": "ClusterLocal",
                "http": {
                    "paths": [
                        {
                            "path": "/v1",
                            "rewriteHost": "it.example.com",
                            "headers": {"Knative-Serving-Tag": {"exact": "new"}},
                            "appendHeaders": {"K-Original-Host": "x"},
                            "splits": [
                                {
                                    "serviceName": "iris-predictor-00001", "serviceNamespace": "tenant-acme",
                                    "servicePort": 80, "percent": 100, "appendHeaders": {"K-Revision": "x"},
                                }
                            ],
                        }
                    ]
                },
            },
            {
                "hosts": ["iris-predictor.tenant-acme.example.com"],
                "visibility": "ExternalIP",
                "http": {"paths": [{"splits": [
                    {"serviceName": "a", "serviceNamespace": "b", "servicePort": "http", "percent": 100}
                ]}]},
            },
        ]
    },
}  # fmt: skip


def test_what_the_stand_in_for_net_istio_makes_of_an_ingress(schemas: Schemas) -> None:
    module = standin("net-istio/objects.py")
    made = module.virtual_service(INGRESS, module.IstioNames(), "0123")
    refuse_anything_wrong(schemas, [INGRESS, made])


@pytest.mark.parametrize("name", ["default-cni.yaml", "default-storage.yaml"])
def test_what_stands_for_the_parts_of_a_node_image(schemas: Schemas, name: str) -> None:
    text = (STANDINS / "node-agent" / name).read_text()
    refuse_anything_wrong(schemas, list(yaml.safe_load_all(text)))


# what users may name


def longest(accepts: Callable[[str], object]) -> str:
    """Return the longest name that is accepted."""
    for length in range(100, 0, -1):
        with contextlib.suppress(BadInput):
            accepts("x" * length)
            return "x" * length
    raise AssertionError("no name is accepted")


def of_the_longest_names(schemas: Schemas, folder: Path) -> Iterator[Obj]:
    """Return the objects of a tenant and a model whose names could not be longer."""
    (folder / "config").mkdir()
    (folder / "manifests").symlink_to(ROOT / "manifests")
    given = box()
    tenant = replace(TENANT, name=longest(tenancy.check_name), configured=False)
    model = replace(MODEL, tenant=tenant.name, name=longest(lambda name: load_model(folder, tenant, name)))
    yield from render(tenants.component(tenant), given, schemas)
    yield model_store.account_job(given, "remove", tenant.name, tenants.account_secret(tenant.name))
    for component in models.components(model):
        yield from render(component, given, schemas)


def load_model(folder: Path, tenant: Tenant, name: str) -> None:
    """Read a model of that name from a file, as `up` does it."""
    entry = {
        "name": name, "tenant": tenant.name, "format": "sklearn", "trainer": MODEL.trainer,
        "example": {"instances": [[1.0]], "predictions": [0]},
    }  # fmt: skip
    file = folder / "config/models.yaml"
    file.write_text(yamlfile.dump({"schema": 1, "models": [entry]}))
    modelling.load(file)


def test_the_longest_names_that_are_taken_fit_everywhere(schemas: Schemas, tmp_path: Path) -> None:
    objects = list(of_the_longest_names(schemas, tmp_path))
    refuse_anything_wrong(schemas, objects)
    assert {each["kind"] for each in objects} >= {"Namespace", "Job", "InferenceService", "Secret"}
    assert len(model_store.bucket(longest(tenancy.check_name))) <= 63, "a bucket's name is a label, too"


# where charts cannot be had


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine without charts, and how often they were asked for."""
    asked: list[int] = []

    def chart(*_: object) -> None:
        asked.append(1)
        raise FetchFailed("istio: the Go module proxy does not serve it")

    monkeypatch.setattr(module, "_unavailable", [])
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("tasks.lib.packages.charts.Charts.chart", chart)
    monkeypatch.setattr("tasks.lib.tools.Tools.path", lambda *_: Path("helm"))
    return asked


def test_what_needs_charts_is_skipped_with_the_reason_and_asks_once(schemas: Schemas, offline: list[int]) -> None:
    made = Rendering(box=box(), schemas=schemas)
    for name in ("istiod", "cert-manager"):
        with pytest.raises(pytest.skip.Exception, match="istio: the Go module proxy does not serve it"):
            _ = made[name]
    assert offline == [1]


def test_in_ci_that_is_a_failure(schemas: Schemas, offline: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="charts cannot be had here"):
        _ = Rendering(box=box(), schemas=schemas)["istiod"]


@pytest.mark.parametrize("component", [name for name, each in COMPONENTS.items() if own(each)])
def test_what_is_ours_is_rendered_without_charts_go_and_network(
    schemas: Schemas, offline: list[int], monkeypatch: pytest.MonkeyPatch, component: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotAvailable("a program was started")

    monkeypatch.setattr("tasks.lib.shell.run", refuse)
    assert Rendering(box=box(), schemas=schemas)[component]
