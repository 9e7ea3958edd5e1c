"""Models as records, and the objects a record becomes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.lib import names, quantity, tenancy
from tasks.lib.errors import BadInput
from tasks.lib.render import Obj

_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_LONGEST = 40
FORMATS = ("sklearn",)


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model: whose it is, what serves it, where its artefact comes from, and an example with its right answer."""

    name: str
    tenant: str
    format: str
    trainer: str
    min_replicas: int = 0
    max_replicas: int = 3
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    instances: Sequence[Any] = ()
    predictions: Sequence[Any] = ()

    @property
    def namespace(self) -> str:
        """The namespace of its tenant."""
        return f"tenant-{self.tenant}"

    @property
    def knative_service(self) -> str:
        """The Knative Service that KServe makes for it; its route is the model's address."""
        return f"{self.name}-predictor"

    @property
    def storage_uri(self) -> str:
        """Where KServe's storage initializer finds the artefact."""
        return f"s3://tenant-{self.tenant}/{self.name}"

    def host(self, domain: str) -> str:
        """The host name of its external URL."""
        return f"{self.knative_service}.{self.namespace}.{domain}"


def load(path: Path, tenants: Sequence[str] | None = None) -> list[Model]:
    """Read config/models.yaml. Raises BadInput naming file and key.

    A model of an unknown tenant is an error too, unless `tenants` is None: then they are not known yet.
    """
    from tasks.lib import yamlfile

    document = yamlfile.mapping(yamlfile.load(path), where=str(path), required=("schema", "models"))
    models: list[Model] = []
    for index, each in enumerate(document["models"] or []):
        model = _model(each, f"{path}: models[{index}]", tenants)
        if any((other.tenant, other.name) == (model.tenant, model.name) for other in models):
            raise BadInput(f"{path}: models[{index}].name: {model.name!r} is there twice in tenant {model.tenant}")
        models.append(model)
    return models


def _model(given: object, where: str, tenants: Sequence[str] | None) -> Model:
    from tasks.lib import yamlfile

    entry = yamlfile.mapping(
        given, where=where, required=("name", "tenant", "format", "trainer"),
        optional=("min_replicas", "max_replicas", "resources", "example"),
    )  # fmt: skip
    name = str(entry["name"])
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise BadInput(f"{where}.name: {name!r} is not a DNS label of at most {_LONGEST} characters")
    if tenants is not None and entry["tenant"] not in tenants:
        raise BadInput(f"{where}.tenant: no tenant {entry['tenant']!r}", facts={"known": ", ".join(tenants)})
    if entry["format"] not in FORMATS:
        raise BadInput(f"{where}.format: {entry['format']!r} is not served", facts={"known": ", ".join(FORMATS)})
    example = yamlfile.mapping(
        entry.get("example", {}), where=f"{where}.example", optional=("instances", "predictions")
    )
    return Model(
        name=name,
        tenant=str(entry["tenant"]),
        format=entry["format"],
        trainer=str(entry["trainer"]),
        **_replicas(entry, where),
        resources=_resources(entry.get("resources", {}), f"{where}.resources"),
        instances=example.get("instances", []),
        predictions=example.get("predictions", []),
    )


def _replicas(entry: Mapping[str, Any], where: str) -> dict[str, int]:
    low, high = entry.get("min_replicas", 0), entry.get("max_replicas", 3)
    if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high and high > 0):
        raise BadInput(
            f"{where}: min_replicas {low!r} and max_replicas {high!r} must be whole numbers, 0 <= min <= max"
        )
    return {"min_replicas": low, "max_replicas": high}


def _resources(given: object, where: str) -> dict[str, dict[str, str]]:
    from tasks.lib import yamlfile

    out: dict[str, dict[str, str]] = {}
    for side, amounts in yamlfile.mapping(given, where=where, optional=("requests", "limits")).items():
        below = yamlfile.mapping(amounts, where=f"{where}.{side}", optional=("cpu", "memory"))
        for key, value in below.items():
            quantity.parse(value, f"{where}.{side}.{key}")
        out[side] = {key: str(value) for key, value in below.items()}
    return out


def inference_service(model: Model) -> Obj:
    """The InferenceService of a model, Serverless, scaling down to `min_replicas`."""
    server: dict[str, Any] = {
        "modelFormat": {"name": model.format},
        "storageUri": model.storage_uri,
        "resources": {side: dict(amounts) for side, amounts in model.resources.items()},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": model.name,
            "namespace": model.namespace,
            "labels": {names.TENANT_LABEL: model.tenant, names.MODEL_LABEL: model.name},
        },
        "spec": {
            "predictor": {
                "serviceAccountName": tenancy.SERVICE_ACCOUNT,
                "minReplicas": model.min_replicas,
                "maxReplicas": model.max_replicas,
                "model": server,
            }
        },
    }
