"""Everything we apply, held against the real schemas of the pinned versions and against what Kubernetes asks beyond."""

import json
import re
from collections.abc import Iterator

import pytest

from tasks.lib import names
from tasks.lib.kube import kinds as tables
from tasks.lib.kube.api import Obj, Ref
from tests.render import naming
from tests.render.rendering import COMPONENTS, DEFINITION, GRAPH, OWN, Rendering, name_of
from tests.render.schemas import Schemas

THERE_ALREADY = frozenset({"default", "kube-system", names.PLATFORM_NAMESPACE})
"""Namespaces that no component makes: Kubernetes' own, and the one that holds the inventories (kube.inventory)."""


def problems(rendering: Rendering, schemas: Schemas, component: str) -> dict[str, set[str]]:
    """Return what is wrong with a component's objects, definitions aside."""
    found = {
        name_of(each): {*schemas.problems(each), *naming.problems(each)}
        for each in rendering[component]
        if each["kind"] != DEFINITION
    }
    return {name: wrong for name, wrong in found.items() if wrong}


def one(rendering: Rendering, component: str, kind: str, name: str) -> Obj:
    """Return the one object of a component that has this kind and name."""
    (found,) = (each for each in rendering[component] if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_object_is_valid_by_the_pinned_schemas(rendering: Rendering, schemas: Schemas, component: str) -> None:
    assert problems(rendering, schemas, component) == {}


@pytest.mark.parametrize("component", COMPONENTS)
def test_and_by_the_definitions_that_this_source_installs(rendering: Rendering, component: str) -> None:
    """They may be older or newer than the pins (config/packages.yaml says where): objects have to suit both."""
    assert problems(rendering, rendering.installed, component) == {}


def test_nothing_is_in_two_components_or_twice_in_one(rendering: Rendering) -> None:
    assert {str(key): owners for key, owners in rendering.owners.items() if len(owners) > 1} == {}


def test_a_definition_is_called_what_it_defines(rendering: Rendering) -> None:
    for each in (each for found in rendering.definitions.values() for each in found):
        spec = each["spec"]
        assert each["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
        assert [version["name"] for version in spec["versions"] if version["storage"]], name_of(each)


@pytest.mark.parametrize("component", COMPONENTS)
def test_what_belongs_in_a_namespace_names_one_that_is_there_by_then(rendering: Rendering, component: str) -> None:
    before = [each for name in GRAPH.closure([component]) if name in COMPONENTS for each in rendering[name]]
    there = THERE_ALREADY | {each["metadata"]["name"] for each in before if each["kind"] == "Namespace"}
    homes = {name_of(each): each["metadata"].get("namespace") for each in rendering[component]}
    belong = {
        name_of(each): rendering.schemas.namespaced(each["apiVersion"], each["kind"]) for each in rendering[component]
    }
    assert {name: home for name, home in homes.items() if belong[name] and home not in there} == {}
    assert {name: home for name, home in homes.items() if not belong[name] and home} == {}


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_kind_is_defined_by_then(rendering: Rendering, schemas: Schemas, component: str) -> None:
    """Ours or what it needs defines it; Kubernetes has its own. The version is one that is served, in both."""
    before = [each for name in GRAPH.closure([component]) if name in COMPONENTS for each in rendering[name]]
    there = {
        (f"{each['spec']['group']}/{version['name']}", each["spec"]["names"]["kind"])
        for each in before if each["kind"] == DEFINITION
        for version in each["spec"]["versions"] if version["served"]
    }  # fmt: skip
    there |= {key for key, kind in schemas.kinds.items() if kind.product == "kubernetes"}
    assert {(each["apiVersion"], each["kind"]) for each in rendering[component]} - there == set()


# images

IMAGE = re.compile(
    r"(?<![\w./-])((?:[a-z0-9-]+\.)+[a-z]+/[\w./-]+|[a-z0-9-]+/[a-z0-9-]+)(:[\w][\w.-]*|@sha256:[0-9a-f]{64})(?![\w/])"
)
NEVER_PULLED = {
    "docker.io/kserve/agent": "KServe's logger and batcher, which no model here asks for",
    "docker.io/kserve/router": "InferenceGraphs, of which there are none",
    "docker.io/kserve/storage-initializer:latest": "KServe's LocalModelCaches, which are switched off",
    "quay.io/jetstack/cert-manager-acmesolver": "challenges of an ACME issuer; ours is a CA",
    **dict.fromkeys(
        (
            "docker.io/kserve/huggingfaceserver", "docker.io/kserve/lgbserver", "docker.io/kserve/paddleserver",
            "docker.io/kserve/pmmlserver", "docker.io/kserve/xgbserver", "docker.io/pytorch/torchserve-kfs",
            "docker.io/seldonio/mlserver", "docker.io/tensorflow/serving", "nvcr.io/nvidia/tritonserver",
        ),
        "a runtime for formats that no model here may have (modelling.FORMATS)",
    ),
}  # fmt: skip
"""Images that are named somewhere and not pinned, and what they would be for."""

INJECTED = "auto"
"""What Istio's injector puts its proxy's image in the place of."""


def full(ref: str) -> str:
    """Return an image's reference with its registry."""
    host = ref.partition("/")[0]
    return ref if "." in host or ":" in host or host == "localhost" else f"docker.io/{ref}"


def pulled(obj: Obj) -> Iterator[str]:
    """Return every image of an object's pods."""
    template = naming.pod_template(obj)
    for each in naming.containers(template["spec"]) if template else ():
        injected = template and template["metadata"]["labels"].get("sidecar.istio.io/inject") == "true"
        yield INJECTED if each["image"] == INJECTED and injected else full(each["image"])


def mentioned(value: object) -> Iterator[str]:
    """Return every image that is named anywhere in an object: in a field, an argument, a file of a ConfigMap."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key != "_example":  # (documentation in the ConfigMaps of Knative and KServe)
                yield from mentioned(each)
    elif isinstance(value, list):
        for each in value:
            yield from mentioned(each)
    elif isinstance(value, str):
        yield from (full("".join(found)) for found in IMAGE.findall(value))


def pinned(rendering: Rendering) -> set[str]:
    """Return the reference of every pinned image, with and without its digest."""
    return {ref for each in rendering.box.versions.images.values() for ref in (each.ref, each.pinned)}


@pytest.mark.parametrize("component", COMPONENTS)
def test_what_is_pulled_is_pinned_and_the_component_says_so(rendering: Rendering, component: str) -> None:
    named = {rendering.box.versions.images[name].ref for name in COMPONENTS[component].images}
    found = {(name_of(each), ref) for each in rendering[component] for ref in pulled(each) if ref != INJECTED}
    assert {(name, ref) for name, ref in found if ref not in pinned(rendering)} == set()
    assert {(name, ref) for name, ref in found if ref not in named} == set()


def test_what_is_not_pinned_is_never_pulled(rendering: Rendering) -> None:
    known = pinned(rendering)
    strangers = {
        ref
        for objects in rendering.everything.values() for each in objects if each["kind"] != DEFINITION
        for ref in mentioned(each) if ref not in known
    }  # fmt: skip
    excused = {ref for ref in strangers if {ref, ref.rpartition(":")[0]} & NEVER_PULLED.keys()}
    assert strangers - excused == set()
    assert {name for name in NEVER_PULLED if not any(ref.startswith(name) for ref in excused)} == set()


def test_the_injector_injects_the_pinned_proxy(rendering: Rendering) -> None:
    config = one(rendering, "istiod", "ConfigMap", "istio-sidecar-injector")
    values = json.loads(config["data"]["values"])["global"]
    image = f"{values['hub']}/{values['proxy']['image']}:{values['tag']}"
    assert image == rendering.box.versions.images["istio-proxy"].ref
    assert values["proxy_init"]["image"] == values["proxy"]["image"]


# the gateway's Service


def test_clients_reach_the_gateway_as_the_provider_says(rendering: Rendering) -> None:
    service = one(rendering, "ingress-gateway", "Service", names.INGRESS_GATEWAY)
    wanted = rendering.box.provider.service_type
    ports = {each["name"]: each.get("nodePort") for each in service["spec"]["ports"]}
    assert service["spec"]["type"] == wanted
    assert (ports["http2"], ports["https"]) == (
        (names.HTTP_NODE_PORT, names.HTTPS_NODE_PORT) if wanted == "NodePort" else (None, None)
    )
    deployment = one(rendering, "ingress-gateway", "Deployment", names.INGRESS_GATEWAY)
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


# what is said above about the components


def test_the_tables_name_components_that_there_are() -> None:
    assert set(COMPONENTS) >= OWN


def test_each_kind_has_its_place_in_the_order(schemas: Schemas) -> None:
    """One of Kubernetes' own that nobody thought of would be applied with the custom ones, in wave 3."""
    for (api_version, kind), known in schemas.kinds.items():
        third = tables.wave(Ref(api_version, kind, None, "")) == 3
        assert third == (known.product != "kubernetes"), (api_version, kind)
