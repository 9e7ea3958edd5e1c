"""A tenant that goes, by command or because its file has it no more: all of it, and nothing of anybody else."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.components import models, tenants as components
from tasks.lib import converge, names, removal, tenancy, tenants
from tasks.lib.box import Box
from tasks.lib.component import Status
from tasks.lib.errors import BadInput
from tasks.lib.kube import apply, prune, wait
from tasks.lib.kube.api import Ref
from tasks.lib.modelling import Model
from tasks.lib.objects import ObjectsComponent, namespace
from tasks.lib.session import Session
from tasks.lib.tenancy import Tenant
from tests import boxes, samples
from tests.fakes import FakeKube

ROOT = Path(__file__).parents[2]
QUOTA = dict.fromkeys(tenancy.QUOTA_KEYS, "1")
A, A_B = Tenant(name="a", quota=QUOTA), Tenant(name="a-b", quota=QUOTA)
IRIS = Model(name="iris", tenant="a", format="sklearn", trainer="sklearn-iris")
OTHER = Model(name="iris", tenant="a-b", format="sklearn", trainer="sklearn-iris")
KINDS = {
    "cert-manager.io/v1": "Certificate",
    "gateway.envoyproxy.io/v1alpha1": "Backend BackendTrafficPolicy HTTPRouteFilter SecurityPolicy",
    "gateway.networking.k8s.io/v1": "HTTPRoute",
    "networking.istio.io/v1": "Gateway VirtualService",
    "security.istio.io/v1": "AuthorizationPolicy RequestAuthentication",
    "serving.kserve.io/v1beta1": "InferenceService",
}


REMOVED = f"Job {names.PLATFORM_NAMESPACE}/model-store-remove-a-"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((prune, "_POLL_S"), (wait, "POLL_S")):
        monkeypatch.setattr(module, name, 0.01)


@pytest.fixture
def kube() -> FakeKube:
    """A cluster whose Jobs are done as soon as somebody looks."""
    definitions = [samples.custom(version, kind) for version, listed in KINDS.items() for kind in listed.split()]
    made = FakeKube(*definitions, namespace(names.ISTIO_NAMESPACE))

    def work(verb: str, what: str) -> None:
        for key, each in made.store.items():
            if (verb, what, key.kind) == ("get", f"Job {key.namespace}/{key.name}", "Job") and "status" not in each:
                made.report(Ref.of(each), conditions=[{"type": "Complete", "status": "True"}])

    made.before = work
    return made


@pytest.fixture
def box(kube: FakeKube, tmp_path: Path) -> Box:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/models.yaml").write_text("schema: 1\nmodels: []\n")
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    provider = SimpleNamespace(exists=lambda: True, owned=True, ensure_engine=lambda _: None)
    return boxes.box(kube, root=tmp_path, provider=provider)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no other run to wait for."""

    @contextlib.contextmanager
    def turn(*_: object, **__: object) -> Iterator[Any]:
        yield SimpleNamespace(acquire=lambda: None)

    monkeypatch.setattr(converge, "turn", turn)


def bring(box: Box, *nodes: ObjectsComponent) -> None:
    for node in nodes:
        apply.apply_all(box.kube, node.objects(box), node.name, create_only=node.create_only(box))


def session(box: Box, *configured: Tenant) -> Session:
    return Session(box=box, configured=configured)


def by_command(box: Box) -> None:
    tenants.remove(session(box, A, A_B), "a", force=True)


def by_up(box: Box) -> None:
    found = converge.prune(session(box, A_B))
    assert {each.status for each in found.values()} == {Status.CHANGED}


@pytest.mark.parametrize("remove", [by_command, by_up])
def test_nothing_of_it_is_left_in_the_cluster_or_the_store_and_all_of_the_others(
    box: Box, kube: FakeKube, remove: Any
) -> None:
    bring(box, components.component(A_B), *models.components(OTHER))
    (box.root / "config/models.yaml").write_text(
        "schema: 1\nmodels: [{name: iris, tenant: a-b, format: sklearn, trainer: sklearn-iris, "
        "example: {instances: [[1]], predictions: [0]}}]\n"
    )
    before = set(kube.store)
    bring(box, components.component(A), models.components(IRIS)[0])  # a model that is in no file any more

    remove(box)

    assert set(kube.store) == before
    assert any(verb == "apply" and what.startswith(REMOVED) for verb, what in kube.calls), "its bucket goes too"


def test_its_bucket_is_removed_while_its_keys_are_there(box: Box, kube: FakeKube) -> None:
    bring(box, components.component(A))

    removal.remove_tenant(box, "a", force=False)

    done = [what for verb, what in kube.calls if verb in {"apply", "delete"}]
    ran = next(at for at, what in enumerate(done) if what.startswith(REMOVED))
    assert ran < done.index(f"Secret {names.PLATFORM_NAMESPACE}/model-store-a")


def test_a_tenant_with_models_stays_as_it_is_and_the_report_says_what_to_type(box: Box, kube: FakeKube) -> None:
    bring(box, components.component(A))
    service = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    kube.create({**service, "metadata": {"name": "own", "namespace": "tenant-a"}})
    before = dict(kube.store)

    (found,) = converge.prune(session(box)).values()

    assert found.status is Status.SKIPPED
    assert found.reason == "no longer wanted, but has models: own. invoke tenant.remove --name a --force"
    assert kube.store == before
    with pytest.raises(BadInput, match="tenant a has models: own"):
        tenants.remove(session(box), "a", force=False)
    tenants.remove(session(box), "a", force=True)
    left = {key.name for key in kube.store if key.kind != "CustomResourceDefinition"}
    assert left == {names.ISTIO_NAMESPACE, names.PLATFORM_NAMESPACE}


def test_so_does_one_in_whose_namespace_others_work(box: Box, kube: FakeKube) -> None:
    bring(box, components.component(A))
    work = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "theirs", "namespace": "tenant-a"}}
    kube.create({**work, "spec": {}})
    before = dict(kube.store)

    (found,) = converge.prune(session(box)).values()

    assert found.status is Status.SKIPPED
    assert "Deployment tenant-a/theirs" in found.reason
    assert kube.store == before


def test_one_that_is_in_no_file_is_known_by_what_it_has(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    bring(box, components.component(A))

    tenants.remove(session(box), "a", force=False)

    assert capsys.readouterr().out == "tenant a is removed, nothing is left\n"
    with pytest.raises(BadInput, match="no tenant 'a'"):
        tenants.remove(session(box), "a", force=False)


def test_what_is_left_of_a_model_is_named(box: Box, kube: FakeKube) -> None:
    bring(box, components.component(A), models.components(IRIS)[0])
    kept = next(each for key, each in kube.store.items() if key.kind == "ConfigMap" and key.name.startswith("train-"))
    kube.edit(Ref.of(kept), "metadata.annotations", {names.KEEP_ANNOTATION: "true"})

    removal.remove_tenant(box, "a", force=False)

    assert removal.model_components(kube, "a") == ["model-a.iris.artefact"]
    assert tenants._left(kube, "a")[-1] == "inventory-model-a.iris.artefact"
