"""What is ours, word for word; of what charts make, which objects there are. Rewritten by `--update-golden`."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.components import model_store, models, tenants
from tasks.lib import versions
from tasks.lib.box import Box
from tasks.lib.modelling import Model
from tasks.lib.objects import ObjectsComponent
from tasks.lib.session import ROOT
from tasks.lib.sources.factory import PACKAGES
from tasks.lib.tenancy import QUOTA_KEYS, Tenant
from tasks.lib.versions import Pins
from tests.render.golden import UPDATE, Golden, summary, text_of
from tests.render.rendering import COMPONENTS, Rendering, box, own

TENANT = Tenant(
    name="acme", summary="a tenant as in the files",
    quota={"requests.cpu": "2", "requests.memory": "4Gi", "limits.cpu": "8", "limits.memory": "8Gi", "pods": "20",
           "models": "5"},
)  # fmt: skip
ADDED = replace(TENANT, name="added", summary="a tenant made by tenant.add", configured=False)
MODEL = Model(
    name="iris", tenant="acme", format="sklearn", trainer="sklearn-iris", min_replicas=1, max_replicas=2,
    resources={"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
)  # fmt: skip

FROM_CHARTS = [name for name, component in COMPONENTS.items() if not own(component)]
OURS = ("ai-gateway.yaml", "issuers.yaml", "identity.yaml", "jwt-keys.yaml", "model-store.yaml", "net-istio.yaml",
        "tenant.yaml", "tenant-added.yaml", "account-removal.yaml", "model.yaml", "model-artefact.yaml")  # fmt: skip


@pytest.fixture(scope="module")
def unpinned() -> Box:
    """A box whose images are called by their names alone, so that a moved pin changes no golden file."""
    pins = versions.load(ROOT, PACKAGES)
    images: Pins[versions.Image] = Pins(
        {name: replace(each, repository="(images)", version=name, digest="") for name, each in pins.images.items()}
    )
    return box(pins=replace(pins, images=images))


def applied(component: ObjectsComponent, given: Box) -> str:
    """Return what is applied; what is random and made once has only its names."""
    once = [{**each, "data": dict.fromkeys(each["data"], "(random)")} for each in component.create_only(given)]
    return text_of([*component.objects(given), *once])


@pytest.mark.parametrize("component", FROM_CHARTS)
def test_which_objects_charts_make(rendering: Rendering, golden: Golden, component: str) -> None:
    golden.check(f"{component}.txt", summary(rendering[component]))


@pytest.mark.parametrize("component", ["issuers", "identity", "jwt-keys", "model-store", "net-istio"])
def test_components_of_our_own(unpinned: Box, golden: Golden, component: str) -> None:
    golden.check(f"{component}.yaml", applied(COMPONENTS[component], unpinned))


@pytest.mark.parametrize(("tenant", "name"), [(TENANT, "tenant"), (ADDED, "tenant-added")])
def test_a_tenant(unpinned: Box, golden: Golden, tenant: Tenant, name: str) -> None:
    assert tenant.quota.keys() == QUOTA_KEYS.keys()
    golden.check(f"{name}.yaml", applied(tenants.component(tenant), unpinned))


def test_the_removal_of_a_tenants_account(unpinned: Box, golden: Golden) -> None:
    secret = tenants.account_secret(TENANT.name)
    job = model_store.account_job(unpinned, "remove", TENANT.name, secret)
    golden.check("account-removal.yaml", text_of([job]))


def test_a_model(unpinned: Box, golden: Golden) -> None:
    artefact, service = models.components(MODEL)
    golden.check("model-artefact.yaml", applied(artefact, unpinned))
    golden.check("model.yaml", applied(service, unpinned))


def test_there_is_no_file_that_nothing_writes(golden: Golden) -> None:
    assert golden.strangers([*OURS, *(f"{name}.txt" for name in FROM_CHARTS)]) == []


def test_every_component_has_one() -> None:
    made = {name.rpartition(".")[0] for name in OURS} | set(FROM_CHARTS)
    rest = {name: each for name, each in COMPONENTS.items() if name not in made}
    assert {each.stage for each in rest.values()} == {"tenants", "models"}, "tenants and models have one of each kind"


# golden files can fail, and say how to take the change over


def test_a_change_is_shown_with_the_command_that_takes_it_over(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text("kind: A\nname: x\n")
    with pytest.raises(pytest.fail.Exception) as failed:
        Golden(folder=tmp_path).check("it.yaml", "kind: A\nname: y\n")
    said = str(failed.value)
    assert "-name: x\n+name: y\n" in said
    assert said.endswith(UPDATE)
    assert "--update-golden" in UPDATE


def test_a_missing_file_is_a_difference(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"\+kind: A"):
        Golden(folder=tmp_path).check("it.yaml", "kind: A\n")


def test_an_update_writes_what_is_rendered_and_removes_the_rest(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("")
    golden = Golden(folder=tmp_path, update=True)
    golden.check("it.yaml", "kind: A\n")
    assert Golden(folder=tmp_path).strangers(["it.yaml"]) == ["old.txt"]
    assert golden.strangers(["it.yaml"]) == []
    Golden(folder=tmp_path).check("it.yaml", "kind: A\n")
    assert [path.name for path in tmp_path.iterdir()] == ["it.yaml"]


def test_what_changes_for_reasons_of_its_own_is_left_out() -> None:
    script = (ROOT / "manifests/model-store/account.py").read_text()
    meta = {"name": "train-iris-0123abcd", "namespace": "tenant-deadbeef-"}
    obj = {"kind": "Job", "metadata": meta, "data": {"account.py": script}}
    assert text_of([obj]) == (
        "kind: Job\nmetadata:\n  name: train-iris-(digest)\n  namespace: tenant-deadbeef-\n"
        "data:\n  account.py: (the text of manifests/model-store/account.py)\n"
    )
