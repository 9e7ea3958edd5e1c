"""Make the schemas that the tests validate against: one small file per product, with nothing in it but schemas.

    .box/venv/bin/python -m tests.render.crds.condense FILE_OR_FOLDER...

reads a project's definitions (`<product>-<version>.yaml`) and Kubernetes' own `swagger.json` (product and version are
in the path: `kubernetes@v<version>/api/…`), and writes `<product>.json.gz` beside itself.

Descriptions go, and so do rules in CEL, which are not evaluated. A keyword that is not known here is an error: nothing
that decides about an object gets lost unnoticed.
"""

import gzip
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]

HERE = Path(__file__).parent

PRODUCTS = {"knative-serving": "knative"}
"""Where the name of a file is not the name that config/versions.yaml gives to the product."""

KEPT = frozenset({
    "$ref", "default", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "maxItems", "maxLength",
    "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum", "multipleOf", "nullable",
    "pattern", "required", "type", "uniqueItems", "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-preserve-unknown-fields",
})  # fmt: skip
DROPPED = frozenset({
    "description", "example", "externalDocs", "title", "x-kubernetes-group-version-kind", "x-kubernetes-map-type",
    "x-kubernetes-patch-merge-key", "x-kubernetes-patch-strategy", "x-kubernetes-unions", "x-kubernetes-validations",
})  # fmt: skip
BELOW = frozenset({"additionalProperties", "allOf", "anyOf", "items", "not", "oneOf", "properties"})
"""Keywords that hold schemas."""

_MADE_FROM = re.compile(r"([a-z][a-z-]*[a-z])[-@]v?(\d+\.\d+\.\d+)")
_STABLE = re.compile(r"v\d+")
_REF = "#/definitions/"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def condensed(schema: Schema) -> Schema:
    """Return a schema without what does not decide. Raises ValueError for a keyword that is not known."""
    out: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: condensed(each) for name, each in value.items()}
        elif key in BELOW and isinstance(value, dict):
            out[key] = condensed(value)
        elif key in BELOW and isinstance(value, list):
            out[key] = [condensed(each) for each in value]
        elif key in KEPT or key in BELOW:  # (`additionalProperties: true`)
            out[key] = value
        elif key not in DROPPED:
            raise ValueError(f"unknown keyword {key!r}")
    return out


def kinds(definitions: Iterable[Schema]) -> Iterator[Schema]:
    """Return the kinds that CustomResourceDefinitions define: every version that is served.

    `status` goes where it is a subresource: the API server takes nothing from it then.
    """
    for each in definitions:
        spec = each["spec"]
        for version in spec["versions"]:
            if version["served"]:
                schema = condensed(version["schema"]["openAPIV3Schema"])
                if "status" in version.get("subresources", {}):
                    schema["properties"].pop("status", None)
                yield {
                    "group": spec["group"], "version": version["name"], "kind": spec["names"]["kind"],
                    "namespaced": spec["scope"] == "Namespaced", "schema": schema,
                }  # fmt: skip


def product(name: str, version: str, found: Iterable[Schema], definitions: Mapping[str, Schema]) -> Schema:
    """Return the content of a file."""
    ordered = sorted(found, key=lambda each: (each["group"], each["kind"], each["version"]))
    return {"product": name, "version": version, "kinds": ordered, "definitions": dict(definitions)}


def kubernetes(swagger: Schema, version: str) -> Schema:
    """Return Kubernetes' own kinds: those of stable versions, which every cluster serves, that can be applied."""
    known, found = swagger["definitions"], []
    of_kind = {
        _key(each): name for name, schema in known.items() for each in schema.get("x-kubernetes-group-version-kind", [])
    }
    for path, methods in swagger["paths"].items():
        served = methods.get("patch", {}).get("x-kubernetes-group-version-kind")
        if served and path.endswith("/{name}") and _STABLE.fullmatch(served["version"]):
            schema = {"$ref": f"{_REF}{of_kind[_key(served)]}"}
            found.append({**served, "namespaced": "/{namespace}/" in path, "schema": schema})
    schemas = {name: _built_in(name, schema) for name, schema in known.items()}
    for each in found:
        schemas[each["schema"]["$ref"].removeprefix(_REF)]["properties"].pop("status", None)
    wanted = _reached(schemas, [each["schema"] for each in found])
    return product("kubernetes", version, found, {name: schemas[name] for name in wanted})


def _key(kind: Schema) -> tuple[str, str, str]:
    return kind["group"], kind["version"], kind["kind"]


def _built_in(name: str, schema: Schema) -> Schema:
    """Say in a definition's own words what Kubernetes' Go types say: what takes several types, and what is open."""
    if name == _QUANTITY:
        return {"type": ["number", "string"], "format": "quantity"}
    if schema.get("format") == "int-or-string":
        return {"x-kubernetes-int-or-string": True}
    out = condensed(schema)
    if not {"properties", "additionalProperties"} & out.keys():
        out["x-kubernetes-preserve-unknown-fields"] = True
    return out


def _reached(schemas: Mapping[str, Schema], roots: Iterable[Schema]) -> list[str]:
    found, todo = set[str](), [name for each in roots for name in _refs(each)]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(_refs(schemas[name]))
    return sorted(found)


def _refs(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "$ref" and isinstance(each, str):
                yield each.removeprefix(_REF)
            yield from _refs(each)
    elif isinstance(value, list):
        for each in value:
            yield from _refs(each)


def made_from(path: Path) -> tuple[str, str]:
    """Return product and version, which are in a path. Raises ValueError when they are not."""
    found = _MADE_FROM.findall(str(path))
    if not found:
        raise ValueError(f"{path}: the path names no product and version")
    name, version = found[-1]
    return PRODUCTS.get(name, name), version


def read(path: Path) -> Schema:
    """Return a file, condensed."""
    name, version = made_from(path)
    if path.name == "swagger.json":
        return kubernetes(json.loads(path.read_bytes()), version)
    documents = yaml.safe_load_all(path.read_bytes())
    return product(name, version, kinds(each for each in documents if each), {})


def packed(content: Schema) -> bytes:
    """Return the bytes of a file: the same for the same content (and the same zlib)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return gzip.compress(f"{text}\n".encode(), compresslevel=9, mtime=0)


def main(paths: Iterable[Path], say: Callable[[str], object] = sys.stdout.write) -> None:
    """Condense these files, and every YAML file of these folders."""
    for path in paths:
        for each in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
            content = read(each)
            target = HERE / f"{content['product']}.json.gz"
            target.write_bytes(packed(content))
            say(f"{target.name}: {len(content['kinds'])} kinds, {target.stat().st_size} bytes\n")


if __name__ == "__main__":
    main(Path(each) for each in sys.argv[1:])
