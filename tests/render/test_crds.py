"""The schemas that are held: of the versions that are pinned, and the same as in what is installed."""

import gzip
import json
from pathlib import Path

import pytest
import yaml

from tasks.lib import versions
from tasks.lib.session import ROOT
from tasks.lib.sources.factory import PACKAGES
from tests.render import schemas as module
from tests.render.crds import condense
from tests.render.rendering import Rendering
from tests.render.schemas import Schemas

FILES = {path.name.partition(".")[0]: path for path in sorted(condense.HERE.glob("*.json.gz"))}
PINS = versions.load(ROOT)
DEFINED_BY = {"cert-manager": "cert-manager", "istio": "istio-base", "knative": "knative-crds", "kserve": "kserve-crds"}
"""Which component installs a product's definitions."""


def used(pins: versions.Versions, product: str) -> str:
    """Return the version of a product, without a leading v."""
    section, _, name = pins.products[product].pins[0].partition(".")
    found = getattr(pins, section)
    return str((found[name] if name else found).version).removeprefix("v")


def test_there_are_schemas_for_what_has_definitions() -> None:
    assert FILES.keys() == {*DEFINED_BY, "ai-gateway", "envoy-gateway", "gateway-api", "kubernetes"}


@pytest.mark.parametrize("product", FILES)
def test_schemas_are_those_of_the_pinned_version(product: str) -> None:
    content = module.read(FILES[product])
    assert (content["product"], content["version"]) == (product, used(PINS, product)), (
        f"{product} has moved: make its schemas anew, as tests/render/crds/README.md says"
    )


@pytest.mark.parametrize("product", FILES)
def test_a_file_is_written_as_condense_writes_it(product: str) -> None:
    text = gzip.decompress(FILES[product].read_bytes())
    assert text == gzip.decompress(condense.packed(json.loads(text)))
    assert b'"description":"' not in text


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in FILES.values()) < 200_000


@pytest.mark.parametrize("product", DEFINED_BY)
def test_they_are_what_is_installed_where_that_has_the_pinned_version(rendering: Rendering, product: str) -> None:
    installed = list(condense.kinds(rendering.definitions[DEFINED_BY[product]]))
    held = module.read(FILES[product])
    if used(versions.load(ROOT, PACKAGES), product) == used(PINS, product):
        assert condense.product(product, held["version"], installed, {}) == held
    else:  # an overlay has its reason, and its definitions are tested against in test_render
        assert [each for each in versions.load(ROOT, PACKAGES).overlaid if used_by(product, each.key)]


def used_by(product: str, key: str) -> bool:
    """Whether the key of an overlay is about a pin of the product."""
    return any(key.startswith(pin) for pin in PINS.products[product].pins)


def test_no_kind_is_lost(schemas: Schemas) -> None:
    products = {kind.product for kind in schemas.kinds.values()}
    assert products == FILES.keys()
    for key in [
        ("v1", "Pod"), ("apps/v1", "StatefulSet"), ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("networking.istio.io/v1beta1", "VirtualService"), ("serving.kserve.io/v1beta1", "InferenceService"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute"), ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy"),
        ("aigateway.envoyproxy.io/v1alpha1", "AIGatewayRoute"),
    ]:  # fmt: skip
        assert schemas.namespaced(*key), key
    for key in [("v1", "Namespace"), ("cert-manager.io/v1", "ClusterIssuer")]:
        assert schemas.namespaced(*key) is False, key
    assert schemas.namespaced("v1", "Nothing") is None


# condense


WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          description: a widget
          properties:
            status: {type: object}
            spec:
              type: object
              x-kubernetes-validations: [{rule: "true"}]
              properties:
                description: {type: string, description: a field of that name, default: {description: kept}}
                list: {type: array, items: {oneOf: [{title: x, required: [a]}]}}
    - {name: v0, served: false, storage: false, schema: {openAPIV3Schema: {type: object}}}
"""


def test_a_definition_is_stripped_of_what_does_not_decide(tmp_path: Path) -> None:
    path = tmp_path / "knative-serving-9.8.7-experimental.yaml"
    path.write_text(f"---\n{WIDGETS}---\n")
    assert condense.read(path) == {
        "product": "knative", "version": "9.8.7", "definitions": {},
        "kinds": [{
            "group": "example.com", "version": "v1", "kind": "Widget", "namespaced": True,
            "schema": {
                "type": "object",
                "properties": {"spec": {"type": "object", "properties": {
                    "description": {"type": "string", "default": {"description": "kept"}},
                    "list": {"type": "array", "items": {"oneOf": [{"required": ["a"]}]}},
                }}},
            },
        }],
    }  # fmt: skip


def test_a_status_that_is_no_subresource_stays() -> None:
    definition = yaml.safe_load(WIDGETS)
    del definition["spec"]["versions"][0]["subresources"]
    (kind,) = condense.kinds([definition])
    assert "status" in kind["schema"]["properties"]


def test_a_keyword_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="'if'"):
        condense.condensed({"type": "object", "properties": {"a": {"if": {}}}})


def test_a_path_has_to_name_product_and_version(tmp_path: Path) -> None:
    assert condense.made_from(Path("/x-1.0.0/k8s.io/kubernetes@v1.2.3/api/swagger.json")) == ("kubernetes", "1.2.3")
    with pytest.raises(ValueError, match="no product and version"):
        condense.made_from(Path("/crds/istio.yaml"))


def test_kubernetes_own_kinds(tmp_path: Path) -> None:
    def kind(name: str, version: str = "v1") -> dict[str, str]:
        return {"group": "", "version": version, "kind": name}

    ref = "#/definitions/"
    swagger = {
        "definitions": {
            "a.Thing": {
                "type": "object", "x-kubernetes-group-version-kind": [kind("Thing")], "description": "x",
                "properties": {
                    "spec": {"$ref": f"{ref}a.Spec", "description": "x"},
                    "status": {"$ref": f"{ref}a.Status"},
                },
            },
            "a.New": {"type": "object", "x-kubernetes-group-version-kind": [kind("New", "v1alpha1")]},
            "a.Spec": {"type": "object", "properties": {
                "port": {"$ref": f"{ref}a.Port"}, "raw": {"$ref": f"{ref}a.Raw"},
                "cpu": {"$ref": f"{ref}io.k8s.apimachinery.pkg.api.resource.Quantity"},
            }},
            "a.Port": {"type": "string", "format": "int-or-string"},
            "a.Raw": {"type": "object"},
            "a.Status": {"type": "object"},
            "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
        },
        "paths": {
            "/api/v1/namespaces/{namespace}/things/{name}": {
                "patch": {"x-kubernetes-group-version-kind": kind("Thing")}
            },
            "/api/v1/namespaces/{namespace}/things/{name}/scale": {
                "patch": {"x-kubernetes-group-version-kind": kind("Scale")}
            },
            "/api/v1alpha1/news/{name}": {"patch": {"x-kubernetes-group-version-kind": kind("New", "v1alpha1")}},
            "/api/v1/things": {"get": {}},
        },
    }  # fmt: skip
    found = condense.kubernetes(swagger, "1.2.3")
    assert [(each["kind"], each["namespaced"]) for each in found["kinds"]] == [("Thing", True)]
    assert found["definitions"] == {
        "a.Thing": {"type": "object", "properties": {"spec": {"$ref": f"{ref}a.Spec"}}},
        "a.Spec": {"type": "object", "properties": {
            "port": {"$ref": f"{ref}a.Port"}, "raw": {"$ref": f"{ref}a.Raw"},
            "cpu": {"$ref": f"{ref}io.k8s.apimachinery.pkg.api.resource.Quantity"},
        }},
        "a.Port": {"x-kubernetes-int-or-string": True},
        "a.Raw": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["number", "string"], "format": "quantity"},
    }  # fmt: skip


def test_files_are_written_beside_condense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condense, "HERE", tmp_path)
    (tmp_path / "widget-1.0.0.yaml").write_text(WIDGETS)
    said: list[str] = []
    condense.main([tmp_path], said.append)
    assert module.load(tmp_path).namespaced("example.com/v1", "Widget")
    assert said == [f"widget.json.gz: 1 kinds, {(tmp_path / 'widget.json.gz').stat().st_size} bytes\n"]
    condense.main([tmp_path / "widget-1.0.0.yaml"], said.append)
    assert said[0] == said[1]
