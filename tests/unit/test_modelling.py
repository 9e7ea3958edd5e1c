"""Models: what config/models.yaml may say, what they are called, and what a change of one makes new."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.components import models, platform
from tasks.lib import modelling, names, yamlfile
from tasks.lib.errors import BadInput
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.modelling import Model, OpenAI
from tasks.lib.tenancy import Tenant
from tests import boxes
from tests.fakes import FakeKube

ROOT = Path(__file__).parents[2]
GONE = object()
ENTRY: Mapping[str, Any] = {
    "name": "iris", "tenant": "a", "format": "sklearn", "trainer": "sklearn-iris",
    "example": {"instances": [[1, 2.5], [3, 4]], "predictions": [0, 1]},
}  # fmt: skip
IRIS = Model(name="iris", tenant="a", format="sklearn", trainer="sklearn-iris")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    shutil.copytree(ROOT / "manifests/models", tmp_path / "manifests/models")
    return tmp_path


def read(root: Path, *changes: Mapping[str, Any], schema: object = 1) -> list[Model]:
    entries = [{key: each for key, each in {**ENTRY, **more}.items() if each is not GONE} for more in changes]
    file = root / "config/models.yaml"
    file.write_text(yamlfile.dump({"schema": schema, "models": entries}))
    return modelling.load(file, ["a"])


def test_the_file_that_comes_with_it_is_good() -> None:
    assert modelling.load(ROOT / "config/models.yaml")


def test_a_good_entry_is_a_model(root: Path) -> None:
    (found,) = read(root, {})
    assert (found.name, found.instances, found.predictions) == ("iris", [[1, 2.5], [3, 4]], [0, 1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"example": GONE}, r"example: is missing"),
        ({"example": {"instances": [[1]]}}, r"example\.predictions: is missing"),
        ({"example": {"instances": [], "predictions": []}}, r"example\.instances: rows of numbers are wanted"),
        ({"example": {"instances": [1], "predictions": [0]}}, r"example\.instances: rows of numbers"),
        ({"example": {"instances": [[]], "predictions": [0]}}, r"example\.instances: rows of numbers"),
        ({"example": {"instances": [["x"]], "predictions": [0]}}, r"example\.instances: rows of numbers"),
        ({"example": {"instances": [[1], [1, 2]], "predictions": [0, 0]}}, r"example\.instances: .* of one length"),
        ({"example": {"instances": [[1], [2]], "predictions": [0]}}, r"example\.predictions: a list of 2 is wanted"),
        ({"example": {"instances": [[1]], "predictions": 0}}, r"example\.predictions: a list of 1 is wanted"),
        ({"trainer": "none"}, r"trainer: there is no manifests/models/none/train\.py"),
        ({"trainer": GONE}, r"trainer: is missing"),
        ({"tenant": "x"}, r"tenant: no tenant 'x'"),
        ({"format": "onnx"}, r"format: 'onnx' is not served"),
        ({"openai": {"tokens": 1}}, r"openai\.tokens: "),
        ({"openai": {"tokens_per_hour": 0}}, r"openai\.tokens_per_hour: 0 is not a whole number from 1"),
        ({"openai": {"tokens_per_hour": "5"}}, r"openai\.tokens_per_hour: '5' is not a whole number"),
        ({"openai": {"tokens_per_hour": 2**32}}, r"openai\.tokens_per_hour: 4294967296 is not"),
        ({"openai": {"key_secret": ""}}, r"openai\.key_secret: '' is not the name of a Secret"),
        ({"openai": {"key_secret": "A_b"}}, r"openai\.key_secret: 'A_b' is not"),
        ({"name": "1st"}, r"name: '1st' is not a DNS label"),
        ({"name": "a.b"}, r"name: 'a\.b' is not a DNS label"),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_key(root: Path, change: Mapping[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=rf"config/models\.yaml:\d+: models\[0\]\.{said}"):
        read(root, change)


def test_another_schema_is_refused(root: Path) -> None:
    with pytest.raises(BadInput, match=r"models\.yaml:1: schema: 2 is not known"):
        read(root, {}, schema=2)


def test_a_model_that_is_there_twice_is_refused(root: Path) -> None:
    with pytest.raises(BadInput, match=r"models\[1\]\.name: 'iris' is there twice in tenant a"):
        read(root, {}, {})


def test_a_model_may_speak_openais_protocol(root: Path) -> None:
    found = read(
        root, {}, {"name": "b", "openai": {}}, {"name": "c", "openai": {"tokens_per_hour": 9, "key_secret": "k"}}
    )
    assert [each.openai for each in found] == [
        None, OpenAI(tokens_per_hour=100_000), OpenAI(tokens_per_hour=9, key_secret="k")  # noqa: S106 (a name)
    ]  # fmt: skip
    with pytest.raises(BadInput, match=r"models\[0\]\.openai: a mapping is wanted"):
        read(root, {"openai": True})


# Names


@pytest.mark.parametrize("tenant", ["a", "t" * 35])
def test_the_longest_name_makes_labels_and_one_more_does_not(root: Path, tenant: str) -> None:
    longest, _ = modelling.room(tenant)
    name = "m" * longest
    made = [names.artefact_component(tenant, name), names.training_job(name), names.revision(name)]
    assert longest > 0
    assert max(map(len, made)) == names.LONGEST_LABEL


def test_a_longer_one_is_refused_with_the_real_limit(root: Path) -> None:
    assert read(root, {"name": "m" * 46})
    with pytest.raises(BadInput, match=r"has 47 characters; 46 is the limit, so that model-a\.NAME\.artefact fits"):
        read(root, {"name": "m" * 47})


def test_no_two_models_share_a_component() -> None:
    pairs = [("a", "b-c"), ("a-b", "c"), ("a", "x"), ("a", "x-artefact")]
    tenants = [Tenant(name=each) for each in ("a", "a-b")]
    given = [Model(name=name, tenant=tenant, format="sklearn", trainer="t") for tenant, name in pairs]

    graph = platform(tenants, given)  # it refuses a name that is there twice

    made = [each.name for model in given for each in models.components(model)]
    assert len(set(made)) == 2 * len(pairs)
    assert set(made) < set(graph.names)


# What a change makes new


def storage(service: Obj) -> str:
    return str(service["spec"]["predictor"]["model"]["storageUri"])


def made(root: Path, model: Model = IRIS, **given: Any) -> tuple[Obj, Obj]:
    """Return a model's Job and its InferenceService."""
    box = boxes.box(root=root, **given)
    artefact, service = models.components(model)
    (job,) = [each for each in artefact.objects(box) if each["kind"] == "Job"]
    return job, service.objects(box)[0]


def environment(job: Obj) -> dict[str, str]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "") for each in container["env"]}


def test_what_is_trained_is_what_is_served(root: Path) -> None:
    job, service = made(root)
    told = environment(job)
    assert storage(service) == f"s3://{told['BUCKET']}/{told['FOLDER']}"
    assert told["FOLDER"] == f"iris/{job['metadata']['name'].removeprefix('train-iris-')}"


def test_a_changed_trainer_is_rolled_out_beside_what_is_there(root: Path) -> None:
    before, again = made(root), made(root)
    assert before == again
    with (root / "manifests/models/sklearn-iris/train.py").open("a") as script:
        script.write("# better\n")

    job, service = made(root)

    assert job["metadata"]["name"] != before[0]["metadata"]["name"]
    assert storage(service) != storage(before[1])
    assert environment(job)["FOLDER"] != environment(before[0])["FOLDER"]


def test_two_models_of_one_trainer_have_their_own_artefacts(root: Path) -> None:
    other = Model(name="iris-two", tenant="a", format="sklearn", trainer="sklearn-iris")
    assert storage(made(root)[1]) != storage(made(root, other)[1])


KNATIVE: Obj = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "services.serving.knative.dev"},
    "spec": {
        "group": "serving.knative.dev", "names": {"kind": "Service", "plural": "services"}, "scope": "Namespaced",
        "versions": [{"name": "v1", "served": True, "storage": True}],
    },
}  # fmt: skip
PREDICTOR = Ref("serving.knative.dev/v1", "Service", "tenant-a", "iris-predictor")


def test_it_is_ready_when_the_newest_artefact_is_served_and_not_while_an_older_one_is(root: Path) -> None:
    kube = FakeKube(KNATIVE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant-a"}})
    box = boxes.box(kube, root=root)
    _, component = models.components(IRIS)
    (probe,) = [each for each in component.probes if each.claim == "its newest artefact is served"]
    uri = storage(component.objects(box)[0])
    assert probe.check(box) == f"{PREDICTOR} is not there"

    annotations = {"internal.serving.kserve.io/storage-initializer-sourceuri": "s3://tenant-a/iris/older"}
    meta = {"name": PREDICTOR.name, "namespace": PREDICTOR.namespace}
    template = {"metadata": {"annotations": annotations}}
    kube.create(
        {"apiVersion": PREDICTOR.api_version, "kind": "Service", "metadata": meta, "spec": {"template": template}}
    )
    kube.report(PREDICTOR, observedGeneration=1, conditions=[{"type": "Ready", "status": "True"}])
    assert probe.check(box) == f"{PREDICTOR} has an older artefact"

    annotations["internal.serving.kserve.io/storage-initializer-sourceuri"] = uri
    kube.edit(PREDICTOR, "spec.template.metadata.annotations", annotations)
    kube.report(PREDICTOR, observedGeneration=2, conditions=[{"type": "Ready", "status": "Unknown"}])
    assert probe.check(box) == f"{PREDICTOR}: Ready=Unknown"

    kube.report(PREDICTOR, conditions=[{"type": "Ready", "status": "True"}])
    assert probe.check(box) is None
