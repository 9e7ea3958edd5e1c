"""The validator can say no: each kind of mistake, in Kubernetes' own kinds and in custom ones, and only those."""

import copy
from typing import Any

import pytest

from tests.render import naming
from tests.render.schemas import FORMATS, IGNORED_FORMATS, Kind, Obj, Schema, Schemas, closed, filled

DEPLOYMENT: Obj = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "it", "namespace": "app", "labels": {"app": "it"}},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "it"}},
        "template": {
            "metadata": {"labels": {"app": "it"}},
            "spec": {
                "containers": [
                    {
                        "name": "it",
                        "image": "example.com/it:1",
                        "ports": [{"name": "http", "containerPort": 80}],
                        "resources": {"requests": {"cpu": 0.5, "memory": "64Mi"}},
                        "livenessProbe": {"httpGet": {"port": "http"}},
                        "volumeMounts": [{"name": "tmp", "mountPath": "/var/it"}],
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
    },
}
INFERENCE_SERVICE: Obj = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "it", "namespace": "app"},
    "spec": {
        "predictor": {
            "minReplicas": 0,
            "model": {
                "modelFormat": {"name": "sklearn"},
                "storageUri": "s3://a/b",
                "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
                "env": [{"name": "A", "value": "b"}],
                "ports": [{"containerPort": 80}],
            },
        }
    },
}
CERTIFICATE: Obj = {
    "apiVersion": "cert-manager.io/v1",
    "kind": "Certificate",
    "metadata": {"name": "it", "namespace": "app"},
    "spec": {"secretName": "it", "issuerRef": {"name": "it"}, "dnsNames": ["a.example.com"], "revisionHistoryLimit": 1},
}
SECRET: Obj = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "it"}, "data": {"key": "dmFsdWU="}}
POLICY: Obj = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "it"},
    "spec": {"action": "ALLOW", "rules": [{"from": [{"source": {"namespaces": ["a"]}}]}]},
}
VALID = {each["kind"]: each for each in (DEPLOYMENT, INFERENCE_SERVICE, CERTIFICATE, SECRET, POLICY)}

_CONTAINER = "spec.template.spec.containers[0]"
_REQUESTS = f"{_CONTAINER}.resources.requests"
_MODEL = "spec.predictor.model"

Change = tuple[str, Any, str]
ABSENT = object()

CHANGES: dict[str, list[Change]] = {
    "Deployment": [
        ("spec.replica", 1, "spec: unknown field replica"),
        ("spec.replicas", "1", 'spec.replicas: "1" is not integer'),
        ("spec.replicas", 1 << 40, "spec.replicas: 1099511627776 is not right: format int32"),
        ("spec.selector", ABSENT, "spec: selector is missing"),
        ("spec.template.spec.containers", ABSENT, "spec.template.spec: containers is missing"),
        ("spec.template.spec.containers", {}, "spec.template.spec.containers: {} is not array"),
        (f"{_CONTAINER}.name", ABSENT, f"{_CONTAINER}: name is missing"),
        (f"{_CONTAINER}.imagee", "x", f"{_CONTAINER}: unknown field imagee"),
        (f"{_CONTAINER}.env", None, f"{_CONTAINER}.env: null is not array"),
        (f"{_REQUESTS}.memory", "64Mib", f'{_REQUESTS}.memory: "64Mib" is not right: format quantity'),
        (f"{_CONTAINER}.livenessProbe.httpGet.port", 1.5, "livenessProbe.httpGet.port: 1.5 is not integer or string"),
        (f"{_CONTAINER}.ports[1]", {"containerPort": 80}, f"{_CONTAINER}.ports: two entries with containerPort 80"),
        ("metadata.labels.app", 1, "metadata.labels.app: 1 is not string"),
        ("metadata.label", {}, "metadata: unknown field label"),
        ("status", {}, "the object: unknown field status"),
        ("specs", {}, "the object: unknown field specs"),
        ("kind", "Deploymint", "no schema is known for Deploymint of apps/v1"),
        ("apiVersion", "apps/v1beta1", "no schema is known for Deployment of apps/v1beta1"),
    ],
    "InferenceService": [
        ("spec.predictor.minReplica", 0, "spec.predictor: unknown field minReplica"),
        ("spec.predictor.minReplicas", "0", 'spec.predictor.minReplicas: "0" is not integer'),
        (f"{_MODEL}.modelFormat.name", ABSENT, f"{_MODEL}.modelFormat: name is missing"),
        (f"{_MODEL}.resources.limits.cpu", "one", f'{_MODEL}.resources.limits.cpu: "one" is not right: pattern'),
        (f"{_MODEL}.resources.limits.memory", "1GiB", f"{_MODEL}.resources.limits.memory: "),
        (f"{_MODEL}.env[0].valuefrom", {}, f"{_MODEL}.env[0]: unknown field valuefrom"),
        ("metadata.annotations", {"a": True}, "metadata.annotations.a: true is not string"),
        ("metadata.labels", {"a.b/c": 2}, 'metadata.labels["a.b/c"]: 2 is not string'),
        ("metadata", ABSENT, "the object: metadata is missing"),
        ("status", {}, "the object: unknown field status"),
    ],
    "Certificate": [
        ("spec.secretName", ABSENT, "spec: secretName is missing"),
        ("spec.dnsnames", [], "spec: unknown field dnsnames"),
        ("spec.dnsNames", "a", 'spec.dnsNames: "a" is not array'),
        ("spec.usages", ["serving"], 'spec.usages[0]: "serving" is not one of signing, '),
        ("spec.revisionHistoryLimit", 1 << 31, "spec.revisionHistoryLimit: 2147483648 is not right: format int32"),
    ],
    "Secret": [
        ("data.key", "not base64", 'data.key: "not base64" is not right: format byte'),
        ("stringdata", {}, "the object: unknown field stringdata"),
    ],
    "AuthorizationPolicy": [
        ("spec.action", "PERMIT", 'spec.action: "PERMIT" is not one of ALLOW, DENY, AUDIT, CUSTOM'),
        ("spec.rules[0].from[0].source.notNamespace", [], "spec.rules[0].from[0].source: unknown field notNamespace"),
        ("spec.targetRef", {"kind": "Gateway"}, "spec.targetRef: name is missing"),
    ],
}


def changed(obj: Obj, path: str, value: object) -> Obj:
    """Return an object with one field set, or without it."""
    out: Any = copy.deepcopy(obj)
    at = out
    *steps, last = [
        int(step) if step.isdigit() else step for step in path.replace("[", ".").replace("]", "").split(".")
    ]
    for step in steps:
        at = at[step]
    if value is ABSENT:
        del at[last]
    elif isinstance(at, list) and last == len(at):
        at.append(value)
    else:
        at[last] = value
    return dict(out)


@pytest.mark.parametrize("kind", VALID)
def test_what_is_right_is_let_through(schemas: Schemas, kind: str) -> None:
    assert schemas.problems(VALID[kind]) == []
    assert naming.problems(VALID[kind]) == []


@pytest.mark.parametrize(
    ("kind", "path", "value", "said"),
    [(kind, *change) for kind, changes in CHANGES.items() for change in changes],
)
def test_what_is_wrong_is_named(schemas: Schemas, kind: str, path: str, value: object, said: str) -> None:
    (found,) = schemas.problems(changed(VALID[kind], path, value))
    assert said in found


def test_every_mistake_is_told_and_none_is_long(schemas: Schemas) -> None:
    obj = changed(changed(DEPLOYMENT, "spec.a", 1), f"{_CONTAINER}.b", "x" * 1000)
    obj = changed(obj, "spec.replicas", {"x" * 10: "y" * 1000})
    found = schemas.problems(obj)
    assert len(found) == 3
    assert all(len(each) < 200 for each in found), found


# structural schemas


def problems(schema: Schema, spec: object) -> list[str]:
    """Hold a value against the schema of a kind's spec."""
    kind = Kind(product="", namespaced=True, schema={"type": "object", "properties": {"spec": schema}})
    own = Schemas({("a/v1", "A"): kind}, {META: {"type": "object", "x-kubernetes-preserve-unknown-fields": True}})
    return own.problems({"apiVersion": "a/v1", "kind": "A", "metadata": {}, "spec": spec})


META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
OPEN = {"x-kubernetes-preserve-unknown-fields": True}
NAMED = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (NAMED, [{}, {"a": "x"}], [{"b": 1}, {"a": 1}, {"a": None}, None]),
        ({"type": "object"}, [{}], [{"b": 1}]),
        ({**NAMED, **OPEN}, [{"b": 1}], [{"a": 1}]),
        ({"type": "object", **OPEN}, [{"b": {"c": 1}}], ["x"]),
        (OPEN, [{"b": 1}, "x", 1], []),
        ({"type": "object", "additionalProperties": {"type": "string"}}, [{"b": "x"}], [{"b": 1}]),
        ({"type": "object", "additionalProperties": NAMED}, [{"b": {"a": "x"}}], [{"b": {"c": "x"}}]),
        ({"type": "object", "additionalProperties": True}, [{"b": 1}], ["x"]),
        ({"x-kubernetes-int-or-string": True}, [1, "1"], [1.5, True, None, {}]),
        ({"x-kubernetes-int-or-string": True, "pattern": "^[0-9]+%$"}, [1, "5%"], ["5"]),
        ({"type": "string", "nullable": True}, [None, "x"], [1]),
        ({"type": "string", "nullable": True, "enum": ["x"]}, [None, "x"], ["y"]),
        ({**NAMED, "nullable": True}, [None, {"a": "x"}], [{"b": 1}]),
        ({"x-kubernetes-int-or-string": True, "nullable": True}, [None, 1, "x"], [[]]),
        ({"type": "integer", "maximum": 5, "exclusiveMaximum": True}, [4], [5]),
        ({"type": "integer", "format": "int32"}, [0, -(1 << 31)], [1 << 31]),
        ({"type": "integer", "format": "int64"}, [1 << 62], [1 << 63]),
        ({"type": "string", "format": "duration"}, ["1h30m", "0", "1.5s"], ["1", "1d", "1 h"]),
        ({"type": "string", "format": "date-time"}, ["2024-01-01T00:00:00Z"], ["2024-01-01"]),
        ({"type": "string", "format": "ipv4"}, ["10.0.0.1"], ["10.0.0.256", "::1"]),
        ({"type": "string", "format": "ipv6"}, ["::1"], ["10.0.0.1"]),
        ({"type": "string", "format": "byte"}, ["eA=="], ["x"]),
        (
            {"type": "array", "items": NAMED, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"]},
            [[{"a": "x"}, {"a": "y"}]],
            [[{"a": "x"}, {"a": "x"}], [{}, {}], [{"b": 1}]],
        ),
        ({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}, [["a", "b"]], [["a", "a"]]),
        ({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"}, [["a", "a"]], [[1]]),
        # What only judges defines no fields, and closes none.
        ({**NAMED, "oneOf": [{"required": ["a"]}]}, [{"a": "x"}], [{}]),
        ({**NAMED, "anyOf": [{"properties": {"a": {"enum": ["x"]}}}]}, [{"a": "x"}], [{"a": "y"}]),
        ({**NAMED, "allOf": [{"properties": {"b": {}}}]}, [{"a": "x"}], [{"b": 1}]),
        ({**NAMED, "not": {"required": ["a"]}}, [{}], [{"a": "x"}]),
        (
            {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": NAMED}},
            [{"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}, "spec": {"a": "x"}}],
            [{"kind": "X"}, {"apiVersion": "v1", "kind": "X", "other": 1}],
        ),
    ],
)
def test_structural_schemas(schema: Schema, good: list[object], bad: list[object]) -> None:
    assert [(value, found) for value in good if (found := problems(schema, value))] == []
    assert [value for value in bad if not problems(schema, value)] == []


def test_defaults_are_filled_in_before_anything_is_judged() -> None:
    port = {
        "type": "object",
        "required": ["port", "protocol"],
        "properties": {"port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}},
    }
    keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"]}
    schema = {
        "type": "object",
        "required": ["kind", "inner"],
        "properties": {
            "kind": {"type": "string", "default": "A"},
            "inner": {"type": "object", "default": {}, "required": ["x"], "properties": {"x": {"default": 1}}},
            "ports": {"type": "array", "items": port, **keys},
        },
    }
    assert filled({"ports": [{"port": 1}], "kind": None}, schema) == {
        "ports": [{"port": 1, "protocol": "TCP"}], "kind": "A", "inner": {"x": 1},
    }  # fmt: skip
    assert problems(schema, {"ports": [{"port": 1}]}) == []
    assert problems(schema, {"ports": [{"port": 1}, {"port": 1, "protocol": "TCP"}]}) == [
        "spec.ports: two entries with port 1, protocol 'TCP'"
    ]
    given: Obj = {}
    filled(given, schema)["inner"]["x"] = 2
    assert schema["properties"]["inner"]["default"] == {}  # type: ignore[index]


def test_every_format_that_a_schema_has_is_checked_or_known_to_say_nothing(schemas: Schemas) -> None:
    found = set[str]()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("format"), str):
                found.add(value["format"])
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk([kind.schema for kind in schemas.kinds.values()])
    walk(schemas.definitions)
    assert found - set(FORMATS.checkers) == IGNORED_FORMATS


def test_a_closed_schema_has_no_words_that_its_validator_does_not_know(schemas: Schemas) -> None:
    text = str([closed(kind.schema) for kind in schemas.kinds.values()])
    assert "x-kubernetes" not in text
    assert "nullable" not in text


# names, labels, selectors


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("metadata.name", "It", "metadata.name: 'It'"),
        ("metadata.name", "a" * 254, "254 characters of at most 253"),
        ("metadata.labels.app", "no label", "metadata.labels[app]: 'no label' is no label"),
        ("metadata.labels.app", "x" * 64, "is no label"),
        ("metadata.annotations", {"a/b/c": "x"}, "metadata.annotations: 'a/b/c' is no key"),
        ("spec.template.metadata.labels.app", "other", "spec.selector: app=it is not a label of its pods"),
        (f"{_CONTAINER}.name", "It", "container 'It'"),
        (f"{_CONTAINER}.ports[0].name", "sixteen-letters-", "port 'sixteen-letters-'"),
        (f"{_CONTAINER}.volumeMounts[0].name", "temp", "container it: no volume 'temp'"),
        ("spec.template.spec.containers[1]", {"name": "it"}, "container 'it': a bad name, or one that is there twice"),
    ],
)
def test_names_and_labels(path: str, value: object, said: str) -> None:
    (found,) = naming.problems(changed(DEPLOYMENT, path, value))
    assert said in found


@pytest.mark.parametrize(
    ("kind", "name", "good"),
    [
        ("ConfigMap", "a.b", True),
        ("ConfigMap", "a:b", False),
        ("ClusterRole", "a:b", True),
        ("ClusterRole", "a/b", False),
        ("ClusterRole", "..", False),
        ("Namespace", "a.b", False),
        ("Service", "1a", False),
        ("Job", "j" * 63, True),
        ("Job", "j" * 64, False),
        ("CronJob", "j" * 53, False),
        ("StatefulSet", "j" * 53, False),
    ],
)
def test_names_of_kinds(kind: str, name: str, good: bool) -> None:
    template: Obj = {"template": {"spec": {"containers": []}}}
    spec = {"jobTemplate": {"spec": template}} if kind == "CronJob" else template
    obj: Obj = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    assert (naming.problems(obj) == []) == good
