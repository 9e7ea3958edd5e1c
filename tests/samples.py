"""A small component: a namespace, configuration, a Deployment, a definition and an object of it."""

from typing import Any

from tasks.lib import names
from tasks.lib.component import Changes
from tasks.lib.kube import apply
from tasks.lib.kube.api import Obj, Ref
from tests.fakes import FakeKube

A_NAMESPACE: Obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app"}}
NAMESPACE = Ref("v1", "Namespace", None, "app")
CONFIG = Ref("v1", "ConfigMap", "app", "config")
SECRET = Ref("v1", "Secret", "app", "key")
DEPLOYMENT = Ref("apps/v1", "Deployment", "app", "server")
WIDGETS = Ref("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, "widgets.example.com")
WIDGET = Ref("example.com/v1", "Widget", "app", "one")


def obj(ref: Ref, **body: Any) -> Obj:
    meta = {"name": ref.name, **({"namespace": ref.namespace} if ref.namespace else {})}
    return {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": meta, **body}


def config(**data: str) -> Obj:
    return obj(CONFIG, data=data or {"key": "value"})


def deployment(image: str = "server:1") -> Obj:
    containers = [{"name": "server", "image": image}]
    return obj(DEPLOYMENT, spec={"replicas": 1, "template": {"spec": {"containers": containers}}})


def definition() -> Obj:
    return custom(WIDGET.api_version, WIDGET.kind)


def custom(api_version: str, kind: str) -> Obj:
    """Return the definition of a kind of namespaced objects."""
    group, version = api_version.split("/")
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group, "names": {"kind": kind, "plural": plural}, "scope": "Namespaced",
            "versions": [{"name": version, "served": True, "storage": True}],
        },
    }  # fmt: skip


def everything() -> list[Obj]:
    return [deployment(), config(), A_NAMESPACE, obj(WIDGET, spec={"size": 1}), definition()]


def run(kube: FakeKube, objects: list[Obj], **options: Any) -> Changes:
    return apply.apply_all(kube, objects, "demo", patience_s=options.pop("patience_s", 3), **options)


def label(ref: Ref, kube: FakeKube) -> str | None:
    labels = kube.store[ref.key]["metadata"]["labels"]
    return str(labels[names.COMPONENT_LABEL]) if names.COMPONENT_LABEL in labels else None
