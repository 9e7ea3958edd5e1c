"""Models as records, and the objects a record becomes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.lib import names, quantity, tenancy
from tasks.lib.errors import BadInput
from tasks.lib.render import Obj

FORMATS = ("sklearn",)
_SCHEMA = 1
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class OpenAI:
    """That a model's server answers OpenAI's paths too: its tokens for all callers together, and the key it asks for.

    `key_secret` names a Secret in the tenant's namespace, with the key under `apiKey`; empty when it asks for none.
    """

    tokens_per_hour: int = 100_000
    key_secret: str = ""


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
    openai: OpenAI | None = None

    @property
    def namespace(self) -> str:
        """The namespace of its tenant."""
        return names.tenant_namespace(self.tenant)

    @property
    def knative_service(self) -> str:
        """The Knative Service that KServe makes for it; its route is the model's address."""
        return f"{self.name}-predictor"

    @property
    def inside(self) -> str:
        """Its host name inside the cluster."""
        return names.service_host(self.knative_service, self.namespace)

    @property
    def predict_path(self) -> str:
        """The path of its predictions, by protocol v1."""
        return f"/v1/models/{self.name}:predict"

    def host(self, domain: str) -> str:
        """The host name of its external URL."""
        return f"{self.knative_service}.{self.namespace}.{domain}"


def load(path: Path, tenants: Sequence[str] | None = None) -> list[Model]:
    """Read config/models.yaml. Its trainers are in manifests/models beside config. Raises BadInput naming file and key.

    A model of an unknown tenant is an error too, unless `tenants` is None: then they are not known yet.
    """
    from tasks.lib import yamlfile

    document = yamlfile.mapping(yamlfile.load(path), where=str(path), required=("schema", "models"))
    yamlfile.check_schema(document, _SCHEMA, where=str(path))
    models: list[Model] = []
    for index, each in enumerate(document["models"] or []):
        where = f"{path}: models[{index}]"
        entry = yamlfile.mapping(
            each, where=where, required=("name", "tenant", "format", "trainer", "example"),
            optional=("min_replicas", "max_replicas", "resources", "openai"),
        )  # fmt: skip
        _check(entry, where, path.parents[1], tenants)
        model = _model(entry, where)
        if any((other.tenant, other.name) == (model.tenant, model.name) for other in models):
            raise yamlfile.bad(entry, "name", where, f"{model.name!r} is there twice in tenant {model.tenant}")
        models.append(model)
    return models


def _check(entry: dict[str, Any], where: str, root: Path, tenants: Sequence[str] | None) -> None:
    """Raise BadInput unless the names in an entry are possible, and those of things that are there."""
    from tasks.lib import yamlfile

    name, tenant, form, trainer = (
        yamlfile.text(entry, key, where=where) for key in ("name", "tenant", "format", "trainer")
    )
    if not _NAME.fullmatch(name):
        problem = f"{name!r} is not a DNS label that begins with a letter: lower-case letters, digits and '-'"
        raise yamlfile.bad(entry, "name", where, problem)
    if tenants is not None and tenant not in tenants:
        raise yamlfile.bad(entry, "tenant", where, f"no tenant {tenant!r}", known=", ".join(tenants))
    longest, tightest = room(tenant)
    if len(name) > longest:
        problem = f"{name!r} has {len(name)} characters; {longest} is the limit, so that {tightest} fits in a label"
        raise yamlfile.bad(entry, "name", where, problem)
    if form not in FORMATS:
        raise yamlfile.bad(entry, "format", where, f"{form!r} is not served", known=", ".join(FORMATS))
    script = f"manifests/models/{trainer}/train.py"
    if not (root / script).is_file():
        raise yamlfile.bad(entry, "trainer", where, f"there is no {script}")


def room(tenant: str) -> tuple[int, str]:
    """Return how long the name of a model of this tenant may be, and the name made of it that says so."""
    return names.room((names.artefact_component(tenant, "NAME"), names.training_job("NAME"), names.revision("NAME")))


def _model(entry: dict[str, Any], where: str) -> Model:
    instances, predictions = _example(entry["example"], f"{where}.example")
    return Model(
        name=entry["name"],
        tenant=entry["tenant"],
        format=entry["format"],
        trainer=entry["trainer"],
        **_replicas(entry, where),
        resources=_resources(entry.get("resources", {}), f"{where}.resources"),
        instances=instances,
        predictions=predictions,
        openai=_openai(entry["openai"], f"{where}.openai") if "openai" in entry else None,
    )


def _openai(given: object, where: str) -> OpenAI:
    """Return what an entry says of OpenAI's protocol; `{}` says that it is spoken, and no more."""
    from tasks.lib import yamlfile

    entry = yamlfile.mapping(given, where=where, optional=("tokens_per_hour", "key_secret"))
    tokens, secret = entry.get("tokens_per_hour", OpenAI.tokens_per_hour), entry.get("key_secret", "")
    if not tenancy.possible_rate(tokens):
        problem = f"{tokens!r} is not a whole number from 1 to {tenancy.MOST_REQUESTS}"
        raise yamlfile.bad(entry, "tokens_per_hour", where, problem)
    if "key_secret" in entry and not (isinstance(secret, str) and names.SUBDOMAIN.fullmatch(secret)):
        raise yamlfile.bad(entry, "key_secret", where, f"{secret!r} is not the name of a Secret")
    return OpenAI(tokens_per_hour=tokens, key_secret=secret)


def _example(given: object, where: str) -> tuple[list[list[float]], list[Any]]:
    """Return what a model is asked, rows of numbers of one length, and the right answer to each."""
    from tasks.lib import yamlfile

    example = yamlfile.mapping(given, where=where, required=("instances", "predictions"))
    rows, answers = example["instances"], example["predictions"]
    lengths = {_length(each) for each in rows} if isinstance(rows, list) else set()
    if len(lengths) != 1 or 0 in lengths:
        raise yamlfile.bad(example, "instances", where, "rows of numbers are wanted, at least one, all of one length")
    if not (isinstance(answers, list) and len(answers) == len(rows)):
        raise yamlfile.bad(example, "predictions", where, f"a list of {len(rows)} is wanted, one for each instance")
    return rows, answers


def _length(row: object) -> int:
    return len(row) if isinstance(row, list) and all(type(each) in {int, float} for each in row) else 0


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


def inference_service(model: Model, storage_uri: str) -> Obj:
    """The InferenceService of a model, Serverless, scaling down to `min_replicas`.

    `storage_uri` is that of one artefact, and no other is ever there: a new one makes a new revision, and an older
    revision that starts again still finds its own.
    """
    server: dict[str, Any] = {
        "modelFormat": {"name": model.format},
        "storageUri": storage_uri,
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
