"""Two components for each model: its artefact in the store, and the service that answers."""

from functools import partial
from typing import Any

from tasks.components import model_store, tenants
from tasks.lib import isolation, modelling, names, predict, render, routes, tenancy, trust
from tasks.lib.box import Box
from tasks.lib.kube import status
from tasks.lib.kube.api import Ref
from tasks.lib.modelling import Model
from tasks.lib.objects import ObjectsComponent, Probe
from tasks.lib.render import Obj

_LOADS = "internal.serving.kserve.io/storage-initializer-sourceuri"
"""KServe's annotation on a pod: where its storage initializer fetches from."""


def components(model: Model) -> tuple[ObjectsComponent, ObjectsComponent]:
    """Return the two components of a model."""
    artefact = ObjectsComponent(
        name=names.artefact_component(model.tenant, model.name),
        stage="models",
        summary=f"the artefact of {model.name}, trained in the cluster",
        needs=(tenants.component_name(model.tenant),),
        build=partial(_training, model),
        images=("kserve-sklearnserver",),
        timeout_s=240,
    )
    service = ObjectsComponent(
        name=component_name(model),
        stage="models",
        summary=f"{model.name} of tenant {model.tenant}, answering",
        needs=(artefact.name, "net-istio", "edge", "knative", "kserve-runtimes"),
        build=partial(_service, model),
        probes=(
            Probe("its newest artefact is served", partial(_rolled_out, model)),
            Probe("nobody without a token is answered", partial(_refuses, model)),
            Probe("it answers with the right classes", partial(_answers, model), costly=True),
        ),
        images=("kserve-storage-initializer", "kserve-sklearnserver", "knative-queue"),
        timeout_s=300,
    )
    return artefact, service


def component_name(model: Model) -> str:
    """Return the name of the component that serves a model."""
    return names.model_component(model.tenant, model.name)


def _training(model: Model, box: Box) -> list[Obj]:
    """A Job that trains the model and puts it into the tenant's bucket, under the tenant's own keys and policies."""
    objects: list[Obj] = render.fill(render.load_objects(box.manifest("models/training.yaml")), _values(model, box))
    return objects


def _values(model: Model, box: Box) -> dict[str, Any]:
    """Return what the training is made with.

    The Job's name and the artefact's folder carry a digest of all the rest: a change trains anew, beside what was
    there; a repetition finds it done.
    """
    values: dict[str, Any] = {
        "bucket": model_store.bucket(model.tenant),
        "endpoint": model_store.URL,
        "image": box.versions.images["kserve-sklearnserver"].ref,
        "namespace": model.namespace,
        "region": model_store.REGION,
        "rootKey": trust.KEY,
        "rootMap": trust.NAME,
        "script": box.manifest(f"models/{model.trainer}/train.py").read_text(),
        "secret": tenancy.CREDENTIALS_SECRET,
        "tenant": model.tenant,
        "tenantLabel": names.TENANT_LABEL,
    }
    stamp = render.digest([model.name, values])[:8]
    return {**values, "name": names.training_job(model.name, stamp), "folder": f"{model.name}/{stamp}"}


def _storage_uri(model: Model, box: Box) -> str:
    """Where KServe's storage initializer finds the artefact that is wanted now."""
    values = _values(model, box)
    return f"s3://{values['bucket']}/{values['folder']}"


def _service(model: Model, box: Box) -> list[Obj]:
    return [
        modelling.inference_service(model, _storage_uri(model, box)),
        isolation.model_policy(model),
        routes.model_route(model, box.settings.domain),
    ]


def _rolled_out(model: Model, box: Box) -> str | None:
    """Ask the Knative Service: the InferenceService's own status may still be about the revision before."""
    ref = Ref("serving.knative.dev/v1", "Service", model.namespace, model.knative_service)
    found = box.kube.get(ref)
    if found is None:
        return f"{ref} is not there"
    annotations = found["spec"]["template"].get("metadata", {}).get("annotations") or {}
    if annotations.get(_LOADS) != _storage_uri(model, box):
        return f"{ref} has an older artefact"
    state = status.compute(found)
    return None if state.state is status.State.CURRENT else f"{ref}: {state}"


def _refuses(model: Model, box: Box) -> str | None:
    """Ask without a token. The edge refuses before anything is woken."""
    reply = predict.ask(box, model, model.instances, token="", timeout_s=10)
    if reply.status == predict.UNAUTHORIZED:
        return None
    return reply.obstacle or f"{model.name} answers without a token"


def _answers(model: Model, box: Box) -> str | None:
    """Ask for the example, from outside, by the v1 and the v2 protocol."""
    for protocol in predict.PROTOCOLS:
        reply = predict.ask(box, model, model.instances, protocol=protocol)
        if reply.obstacle:
            return reply.obstacle
        if reply.predictions != list(model.predictions):
            return f"{model.name} answered {reply.predictions} by {protocol} instead of {list(model.predictions)}"
    return None
