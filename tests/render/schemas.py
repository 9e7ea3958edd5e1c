"""Hold objects against the schemas of their kinds, more strictly than the API server does.

The API server prunes fields it does not know; here they are errors, in Kubernetes' own kinds and in custom ones. So is
a kind without a schema. Defaults are filled in first, as the API server does it.

What this does not see: rules in CEL (`x-kubernetes-validations`), and what is checked in code (Kubernetes' own
validation, admission webhooks). Patterns are read by Python, not by RE2.
"""

import base64
import binascii
import copy
import gzip
import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator, FormatChecker, ValidationError
from jsonschema.validators import extend

Obj = dict[str, Any]
Schema = dict[str, Any]

FOLDER = Path(__file__).parent / "crds"

_META = {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
_HEAD: Schema = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": _META}
_AS_IT_IS = frozenset({
    "$ref", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "maxItems", "maxLength", "maxProperties",
    "maximum", "minItems", "minLength", "minProperties", "minimum", "multipleOf", "pattern", "required", "type",
    "uniqueItems",
})  # fmt: skip
_SHORT = 80
_EACH_KEY_ONCE = "eachKeyOnce"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is known of a kind: whose it is, whether it belongs in a namespace, and its structural schema."""

    product: str
    namespaced: bool
    schema: Schema


class Schemas:
    """Kinds by (apiVersion, kind), and the definitions that Kubernetes' own refer to."""

    def __init__(self, kinds: Mapping[tuple[str, str], Kind], definitions: Mapping[str, Schema]) -> None:
        self.kinds = kinds
        self.definitions = definitions
        self._closed = {name: closed(schema) for name, schema in definitions.items()}
        self._validators: dict[tuple[str, str], Draft4Validator] = {}

    def problems(self, obj: Obj) -> list[str]:
        """Return everything that is wrong with an object, each as `place: what`; empty when it is valid."""
        key = (obj["apiVersion"], obj["kind"])
        if key not in self.kinds:
            return [f"no schema is known for {obj['kind']} of {obj['apiVersion']}"]
        if key not in self._validators:
            self._validators[key] = _Validator(self._root(self.kinds[key].schema), format_checker=FORMATS)
        found = self._validators[key].iter_errors(filled(obj, self.kinds[key].schema))
        return sorted(f"{_place(error)}: {_said(error)}" for error in found)

    def namespaced(self, api_version: str, kind: str) -> bool | None:
        """Return whether a kind belongs in a namespace; None for an unknown one."""
        known = self.kinds.get((api_version, kind))
        return known.namespaced if known else None

    def over(self, kinds: Mapping[tuple[str, str], Kind]) -> "Schemas":
        """Return these schemas with other ones in the place of some."""
        return Schemas({**self.kinds, **kinds}, self.definitions)

    def _root(self, schema: Schema) -> Schema:
        root = closed(schema)
        if "$ref" in root:  # one of Kubernetes' own
            return {"allOf": [root], "definitions": self._closed}
        root["properties"] = {**root.get("properties", {}), **_HEAD}
        root["required"] = sorted({"apiVersion", "kind", "metadata", *root.get("required", [])})
        return {**root, "definitions": self._closed}


def read(path: Path) -> Schema:
    """Return the content of one of the files that crds/condense.py writes."""
    return dict(json.loads(gzip.decompress(path.read_bytes())))


def kinds(content: Schema) -> dict[tuple[str, str], Kind]:
    """Return the kinds of a file."""
    return {
        (f"{each['group']}/{each['version']}".lstrip("/"), each["kind"]): Kind(
            product=content["product"], namespaced=each["namespaced"], schema=each["schema"]
        )
        for each in content["kinds"]
    }


def load(folder: Path = FOLDER) -> Schemas:
    """Return the schemas of every product. Fails when two products define the same kind."""
    found: dict[tuple[str, str], Kind] = {}
    definitions: dict[str, Schema] = {}
    for path in sorted(folder.glob("*.json.gz")):
        content = read(path)
        new = kinds(content)
        assert not found.keys() & new.keys(), f"{path.name}: {sorted(found.keys() & new.keys())} are there twice"
        found |= new
        definitions |= content["definitions"]
    return Schemas(found, definitions)


def filled(value: Any, schema: Schema) -> Any:
    """Return a value with the defaults of its schema filled in, also in the place of a null that may not be one."""
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties")
        rest = other if isinstance(other, dict) else {}
        out = {key: filled(each, known.get(key, rest)) for key, each in value.items()}
        for name, below in known.items():
            if "default" in below and (name not in out or (out[name] is None and not below.get("nullable"))):
                out[name] = filled(copy.deepcopy(below["default"]), below)
        return out
    if isinstance(value, list):
        return [filled(each, schema.get("items", {})) for each in value]
    return value


def closed(schema: Schema, *, structural: bool = True) -> Schema:
    """Return a structural schema as one of JSON Schema (draft 4), in which a field that is not known is an error.

    `structural` is false inside allOf, anyOf, oneOf and not: these only judge, and define no fields.
    """
    out: Schema = {key: value for key, value in schema.items() if key in _AS_IT_IS}
    if "properties" in schema:
        out["properties"] = {name: closed(each, structural=structural) for name, each in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in schema:
            below = schema[key]
            out[key] = closed(below, structural=structural) if isinstance(below, dict) else below
    for key in ("allOf", "anyOf", "oneOf"):
        if key in schema:
            out[key] = [closed(each, structural=False) for each in schema[key]]
    if "not" in schema:
        out["not"] = closed(schema["not"], structural=False)
    if structural:
        _close(out, schema)
    _types(out, schema)
    return out


def _close(out: Schema, schema: Schema) -> None:
    if schema.get("x-kubernetes-embedded-resource"):
        out["properties"] = {**out.get("properties", {}), **_HEAD}
        out["required"] = sorted({"apiVersion", "kind", *out.get("required", [])})
    is_object = schema.get("type") == "object" or "properties" in schema
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-list-type") == "map":
        keys = schema["x-kubernetes-list-map-keys"]
        out[_EACH_KEY_ONCE] = keys
    if schema.get("x-kubernetes-list-type") == "set":
        out["uniqueItems"] = True


def _types(out: Schema, schema: Schema) -> None:
    if schema.get("x-kubernetes-int-or-string"):
        out.setdefault("type", ["integer", "string"])
    if schema.get("nullable"):
        if "type" in out:
            given = out["type"]
            out["type"] = [*(given if isinstance(given, list) else [given]), "null"]
        if "enum" in out:
            out["enum"] = [*out["enum"], None]


def _each_key_once(_: Any, keys: list[str], value: Any, __: Any) -> Iterator[ValidationError]:
    """Refuse two entries with the same keys in a list that is a map."""
    seen: set[str] = set()
    for each in value if isinstance(value, list) else ():
        if isinstance(each, Mapping):
            key = json.dumps([each.get(name) for name in keys])
            if key in seen:
                named = ", ".join(f"{name} {each.get(name)!r}" for name in keys)
                yield ValidationError(f"two entries with {named}")
            seen.add(key)


_Validator = extend(Draft4Validator, {_EACH_KEY_ONCE: _each_key_once})  # type: ignore[no-untyped-call]

_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?\d+))?")
_DURATION = re.compile(r"[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+)")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

FORMATS = FormatChecker(formats=())
IGNORED_FORMATS = frozenset({"double", "binary"})
"""Those that say nothing beyond the type."""


def _checks(name: str, applies: type | tuple[type, ...], test: Callable[[Any], Any]) -> None:
    def judge(value: object) -> bool:
        return not isinstance(value, applies) or isinstance(value, bool) or bool(test(value))

    FORMATS.checks(name, raises=(ValueError, binascii.Error))(judge)


_checks("int32", (int, float), lambda value: -(1 << 31) <= value < 1 << 31)
_checks("int64", (int, float), lambda value: -(1 << 63) <= value < 1 << 63)
_checks("quantity", str, _QUANTITY.fullmatch)
_checks("duration", str, _DURATION.fullmatch)
_checks("date-time", str, _TIME.fullmatch)
_checks("byte", str, lambda value: base64.b64decode(value, validate=True) is not None)
_checks("ipv4", str, ipaddress.IPv4Address)
_checks("ipv6", str, ipaddress.IPv6Address)


def _place(error: ValidationError) -> str:
    steps = [f"[{step}]" if isinstance(step, int) else _step(str(step)) for step in error.absolute_path]
    return "".join(steps).lstrip(".") or "the object"


def _step(name: str) -> str:
    return f".{name}" if re.fullmatch(r"[\w-]+", name) else f'["{name}"]'


def _said(error: ValidationError) -> str:
    """Return what is wrong, in one line and without whole objects."""
    wanted: Any = error.validator_value
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        schema: Any = error.schema
        unknown = sorted(set(instance) - set(schema.get("properties", {})))
        return f"unknown field{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}"
    if error.validator == "required":
        return f"{error.message.split(chr(39))[1]} is missing"
    if error.validator == _EACH_KEY_ONCE:
        return error.message
    value = _brief(json.dumps(instance))
    if error.validator == "type":
        return f"{value} is not {' or '.join(wanted) if isinstance(wanted, list) else wanted}"
    if error.validator == "enum":
        return f"{value} is not one of {_brief(', '.join(map(str, wanted)))}"
    if error.validator in {"anyOf", "oneOf", "allOf", "not"}:
        causes = dict.fromkeys(f"{_place(each)}: {_said(each)}" for each in error.context or ())
        return _brief(f"{value} has none of the allowed forms ({error.validator}): {'; '.join(causes)}", 2 * _SHORT)
    return f"{value} is not right: {error.validator} {_brief(str(wanted))}"


def _brief(text: str, longest: int = _SHORT) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"
