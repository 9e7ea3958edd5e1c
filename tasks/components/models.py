"""Two components for each model: its artefact in the store, and the service that answers."""

from functools import partial
from typing import Any

from tasks.components import model_store, tenants
from tasks.lib import modelling, names, predict, render, tenancy
from tasks.lib.box import Box
from tasks.lib.modelling import Model
from tasks.lib.objects import ObjectsComponent, Probe
from tasks.lib.render import Obj


def components(model: Model) -> tuple[ObjectsComponent, ObjectsComponent]:
    """Return the two components of a model."""
    name = component_name(model)
    artefact = ObjectsComponent(
        name=f"{name}-artefact",
        stage="models",
        summary=f"the artefact of {model.name}, trained in the cluster",
        needs=(tenants.component_name(model.tenant),),
        build=partial(_training, model),
        images=("kserve-sklearnserver",),
        timeout_s=240,
    )
    service = ObjectsComponent(
        name=name,
        stage="models",
        summary=f"{model.name} of tenant {model.tenant}, answering",
        needs=(artefact.name, "net-istio", "ingress-gateway", "knative", "kserve-runtimes"),
        build=lambda _: [modelling.inference_service(model)],
        probes=(Probe("it answers with the right classes", partial(_answers, model), costly=True),),
        images=("kserve-storage-initializer", "kserve-sklearnserver", "knative-queue"),
        timeout_s=300,
    )
    return artefact, service


def component_name(model: Model) -> str:
    """Return the name of the component that serves a model."""
    return f"model-{model.tenant}-{model.name}"


def _training(model: Model, box: Box) -> list[Obj]:
    """A Job that trains the model and puts it into the tenant's bucket, under the tenant's own keys and policies.

    The Job's name carries a digest of its script and image: a change trains anew, a repetition finds it done.
    """
    script = box.manifest(f"models/{model.trainer}/train.py").read_text()
    values: dict[str, Any] = {
        "bucket": model_store.bucket(model.tenant),
        "endpoint": f"http://{model_store.ENDPOINT}",
        "image": box.versions.images["kserve-sklearnserver"].ref,
        "model": model.name,
        "namespace": model.namespace,
        "region": model_store.REGION,
        "secret": tenancy.CREDENTIALS_SECRET,
        "tenant": model.tenant,
        "tenantLabel": names.TENANT_LABEL,
    }
    values["name"] = f"train-{model.name}-{render.digest([values, script])[:8]}"
    values["script"] = script
    objects: list[Obj] = render.fill(render.load_objects(box.manifest("models/training.yaml")), values)
    return objects


def _answers(model: Model, box: Box) -> str | None:
    """Ask for the example, from outside, by the v1 and the v2 protocol."""
    for protocol in predict.PROTOCOLS:
        reply = predict.ask(box, model, model.instances, protocol=protocol)
        if reply.obstacle:
            return reply.obstacle
        if reply.predictions != list(model.predictions):
            return f"{model.name} answered {reply.predictions} by {protocol} instead of {list(model.predictions)}"
    return None
