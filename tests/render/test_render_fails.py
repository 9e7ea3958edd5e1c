"""Each check of test_render says no to a platform that has what it is about."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tasks.lib import names
from tasks.lib.box import Box
from tasks.lib.kube.api import Obj
from tests.render import test_render as checks
from tests.render.rendering import COMPONENTS, Rendering, box
from tests.render.schemas import Schemas

IMAGE = "docker.io/kserve/sklearnserver"


def config(name: str = "it", namespace: str | None = "kube-system", **data: Any) -> Obj:
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def job(image: str, **labels: str) -> Obj:
    pod = {"restartPolicy": "Never", "containers": [{"name": "it", "image": image}]}
    spec = {"template": {"metadata": {"labels": labels}, "spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "it", "namespace": "default"}, "spec": spec}


def definition(name: str = "certificates.cert-manager.io") -> Obj:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    spec = {
        "group": "cert-manager.io", "scope": "Namespaced", "versions": [version],
        "names": {"kind": "Certificate", "plural": "certificates"},
    }  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name}, "spec": spec,
    }  # fmt: skip


CERTIFICATE: Obj = {
    "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
    "metadata": {"name": "it", "namespace": "default"},
    "spec": {"secretName": "it", "issuerRef": {"name": "it"}},
}  # fmt: skip
ROLE: Obj = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "it"}}

Check = Callable[..., None]
Objects = dict[str, list[Obj]]

CASES: dict[str, tuple[Check, Objects, Objects]] = {
    "one owner": (
        checks.test_nothing_is_in_two_components_or_twice_in_one,
        {"issuers": [config("a")], "cert-manager": [config("b"), ROLE]},
        {"issuers": [config("a"), ROLE], "cert-manager": [ROLE]},
    ),
    "not twice": (
        checks.test_nothing_is_in_two_components_or_twice_in_one,
        {"issuers": [config("a"), config("a", "default")]},
        {"issuers": [config("a"), config("a")]},
    ),
    "a definition's name": (
        checks.test_a_definition_is_called_what_it_defines,
        {"issuers": [definition()]},
        {"issuers": [definition("certificate.cert-manager.io")]},
    ),
    "a namespace": (
        checks.test_what_belongs_in_a_namespace_names_one_that_is_there_by_then,
        {"issuers": [config(namespace=names.PLATFORM_NAMESPACE), ROLE]},
        {"issuers": [config(namespace=None)]},
    ),
    "a namespace by then": (
        checks.test_what_belongs_in_a_namespace_names_one_that_is_there_by_then,
        {"cert-manager": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}],
         "issuers": [config(namespace="x")]},
        {"istio-base": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}],
         "issuers": [config(namespace="x")]},
    ),
    "a kind by then": (
        checks.test_a_kind_is_defined_by_then,
        {"cert-manager": [definition()], "issuers": [CERTIFICATE]},
        {"istio-base": [definition()], "issuers": [CERTIFICATE]},
    ),
    "valid": (
        checks.test_every_object_is_valid_by_the_pinned_schemas,
        {"issuers": [CERTIFICATE]},
        {"issuers": [{**CERTIFICATE, "spec": {**CERTIFICATE["spec"], "secret": "it"}}]},
    ),
    "valid by what is installed": (
        checks.test_and_by_the_definitions_that_this_source_installs,
        {"issuers": [CERTIFICATE]},
        {"issuers": [CERTIFICATE], "cert-manager": [definition()]},
    ),
    "a pinned image": (
        checks.test_what_is_pulled_is_pinned_and_the_component_says_so,
        {"tenant-a": [job("kserve/sklearnserver:VERSION")]},
        {"tenant-a": [job("kserve/sklearnserver:latest")]},
    ),
    "an image of the component": (
        checks.test_what_is_pulled_is_pinned_and_the_component_says_so,
        {"tenant-a": [job(f"{IMAGE}:VERSION")]},
        {"istiod": [job(f"{IMAGE}:VERSION")]},
    ),
    "an injected image": (
        checks.test_what_is_pulled_is_pinned_and_the_component_says_so,
        {"istiod": [job("auto", **{"sidecar.istio.io/inject": "true"})]},
        {"istiod": [job("auto")]},
    ),
}  # fmt: skip


def pinned(value: Any, version: str) -> Any:
    """Fill in the pinned version, which is not known here."""
    if isinstance(value, dict):
        return {key: pinned(each, version) for key, each in value.items()}
    if isinstance(value, list):
        return [pinned(each, version) for each in value]
    return value.replace("VERSION", version) if isinstance(value, str) else value


def held(check: Check, schemas: Schemas, objects: Objects) -> None:
    """Run a check over a platform of these objects, for each component that has any."""
    given = box()
    filled = pinned(objects, given.versions.images["kserve-sklearnserver"].version)
    made = Rendering(box=given, schemas=schemas, _made={**{name: [] for name in COMPONENTS}, **filled})
    wanted = check.__code__.co_varnames[: check.__code__.co_argcount]
    for component in objects:
        known = {"rendering": made, "schemas": schemas, "component": component}
        check(**{name: known[name] for name in wanted})


@pytest.mark.parametrize(("check", "good", "bad"), CASES.values(), ids=CASES)
def test_a_check_tells_good_from_bad(schemas: Schemas, check: Check, good: Objects, bad: Objects) -> None:
    held(check, schemas, good)
    with pytest.raises(AssertionError):
        held(check, schemas, bad)


def test_a_stranger_among_the_images_is_told(schemas: Schemas, monkeypatch: pytest.MonkeyPatch) -> None:
    check = checks.test_what_is_not_pinned_is_never_pulled
    monkeypatch.setattr(checks, "NEVER_PULLED", {})
    held(check, schemas, {"istiod": [config(_example="docker.io/kserve/agent:latest"), config(a=f"{IMAGE}:VERSION")]})
    for said in ("image: kserve/agent:latest", f"--image={IMAGE}:0.0.1", "gcr.io/a/b@sha256:" + "0" * 64):
        with pytest.raises(AssertionError):
            held(check, schemas, {"istiod": [config(a=said)]})
    monkeypatch.setattr(checks, "NEVER_PULLED", {"docker.io/kserve/agent": "the logger"})
    held(check, schemas, {"istiod": [config(a='{"image": "kserve/agent:latest"}')]})
    with pytest.raises(AssertionError):
        held(check, schemas, {"istiod": []})


def test_a_component_is_rendered_once(schemas: Schemas, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Box] = []

    def build(given: Box) -> list[Obj]:
        seen.append(given)
        return [config("a")]

    monkeypatch.setitem(COMPONENTS, "issuers", replace(COMPONENTS["issuers"], build=build))
    made = Rendering(box=box(), schemas=schemas)
    assert made["issuers"] is made["issuers"]
    assert len(seen) == 1
