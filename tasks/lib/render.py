"""From files to the objects we apply: strict load, fill after parsing, named patches, tidying.

YAML here has no conditions and no loops (docs/adr/0002). A string `${{ tenant.name }}` is replaced after parsing, so
indentation and quoting cannot go wrong; a string that is only a placeholder takes the value's type.
"""

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.lib.errors import BadInput

Obj = dict[str, Any]

_PLACEHOLDER = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")


def load_objects(path: Path) -> list[Obj]:
    """Read every object of a YAML file, in order.

    Raises BadInput for malformed YAML, duplicate keys, or a document without apiVersion, kind and metadata.name.
    """
    from tasks.lib import yamlfile

    objects = [document for document in yamlfile.load_all(path) if document is not None]
    for number, document in enumerate(objects, start=1):
        if not (isinstance(document, dict) and document.get("apiVersion") and document.get("kind")):
            raise BadInput(f"{path}: document {number} is not an object: apiVersion or kind is missing")
        if not document.get("metadata", {}).get("name"):
            raise BadInput(f"{path}: document {number} ({document['kind']}) has no metadata.name")
    return objects


def fill(value: object, values: Mapping[str, Any], where: str = "") -> Any:  # noqa: ANN401 (of the type of `value`)
    """Replace each `${{ name }}` in the strings of a parsed document by `values[name]` (dots descend).

    Raises BadInput for a name that has no value, naming the place in the document.
    """
    if isinstance(value, dict):
        return {fill(key, values, where): fill(item, values, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, values, f"{where}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    if whole := _PLACEHOLDER.fullmatch(value):
        return copy.deepcopy(_lookup(whole[1], values, where))
    return _PLACEHOLDER.sub(lambda match: str(_lookup(match[1], values, where)), value)


def _lookup(name: str, values: Mapping[str, Any], where: str) -> object:
    found: Any = values
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise BadInput(f"{where.lstrip('.')}: ${{{{ {name} }}}} has no value", facts={"known": ", ".join(values)})
        found = found[part]
    return found


def patch(objects: Sequence[Obj], kind: str, name: str, change: Callable[[Obj], None]) -> None:
    """Apply `change` in place to the one object of that kind and name.

    Raises BadInput when it matches no object or more than one: a patch that silently does nothing is a bug.
    """
    found = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name]
    if len(found) != 1:
        raise BadInput(
            f"patch of {kind} {name} matches {len(found)} objects instead of one",
            facts={"cause": "the vendor's manifest is not the one this patch was written for"},
        )
    change(found[0])


def merge(base: Obj, extra: Mapping[str, Any]) -> Obj:
    """Return `base` with `extra` laid over it: maps merge, everything else is replaced."""
    out = dict(base)
    for key, value in extra.items():
        below = out.get(key)
        out[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return out


def tidy(objects: Iterable[Obj], *, drop_kinds: frozenset[str] = frozenset()) -> list[Obj]:
    """Take from vendors' objects what would fight with the cluster, and drop kinds another component owns.

    - Helm hooks and tests are not objects of the release.
    - `rules` of an aggregated ClusterRole belong to the aggregation controller.
    - `status` and an empty `creationTimestamp` belong to the API server.
    - `data`/`rules`/`webhooks` that are null are the same as absent.
    """
    return [_tidy(each) for each in objects if each["kind"] not in drop_kinds and not _is_hook(each)]


def _is_hook(obj: Obj) -> bool:
    return "helm.sh/hook" in (obj["metadata"].get("annotations") or {})


def _tidy(obj: Obj) -> Obj:
    out = {key: value for key, value in obj.items() if key != "status" and value is not None}
    out["metadata"] = {key: value for key, value in obj["metadata"].items() if value not in (None, {}, [])}
    out["metadata"].pop("creationTimestamp", None)
    if out["kind"] == "ClusterRole" and "aggregationRule" in out:
        out.pop("rules", None)
    return out


def digest(value: object) -> str:
    """Return a short stable digest of any JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
