"""YAML, strictly: a key given twice, a key nobody knows and a value of the wrong type are errors with file and line.

What `load` returns remembers the line of every key (Located), so that whoever checks it later can still name the place.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tasks.lib.errors import BadInput

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dump: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_TYPES: dict[type, str] = {
    str: "text", int: "a whole number", bool: "true or false", dict: "a mapping", list: "a list", float: "a number",
    type(None): "nothing",
}  # fmt: skip


class Located(dict[Any, Any]):
    """A mapping of a file, with the line of each key. Behaves like any other dict."""

    file = ""
    line = 0
    lines: dict[Any, int]


class _Strict(_Base):  # type: ignore[misc]  # (with or without libyaml, decided when this is imported)
    """Refuses duplicate keys, which YAML forbids and PyYAML lets pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 (PyYAML's)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a plain value", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is there twice", key_node.start_mark)
            seen.add(key)
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found


for _tag in ("timestamp", "value"):  # dates and a lone "=" are text in Kubernetes' YAML
    _Strict.add_constructor(f"tag:yaml.org,2002:{_tag}", lambda loader, node: loader.construct_scalar(node))


class _Remembering(_Strict):
    """Makes Located mappings."""

    def located(self, node: yaml.MappingNode) -> object:
        """Build a mapping in two steps, as PyYAML does, so that anchors may refer to what is not finished."""
        out = Located()
        out.line = node.start_mark.line + 1
        out.lines = {
            self.construct_object(key, deep=True): key.start_mark.line + 1
            for key, _ in node.value
            if key.tag != "tag:yaml.org,2002:merge"
        }
        yield out
        out.update(self.construct_mapping(node))


_Remembering.add_constructor("tag:yaml.org,2002:map", _Remembering.located)


class _Writer(_Dump):  # type: ignore[misc]  # (as above)
    """Writes Located mappings as mappings, and never an alias."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 (PyYAML's own)
        return True


_Writer.add_multi_representer(dict, lambda writer, data: writer.represent_dict(data.items()))


def load(path: Path) -> Any:  # noqa: ANN401 (what a file holds)
    """Read a file of one document. Its mappings are Located.

    Raises BadInput naming file and line for malformed YAML, a duplicate key, or more than one document.
    """
    documents = _parse(_text(path), str(path), _Remembering)
    if len(documents) > 1:
        raise BadInput(f"{path}: {len(documents)} documents; one is wanted")
    _sign(documents, str(path))
    return documents[0] if documents else None


def load_all(path: Path) -> list[Any]:
    """Read every document of a file, as plain values. Raises BadInput like `load`."""
    return _parse(_text(path), str(path), _Strict)


def parse_all(text: str, *, where: str) -> list[Any]:
    """Read every document of a text, as plain values. Raises BadInput naming `where` and the line."""
    return _parse(text, where, _Strict)


def dump(value: object) -> str:
    """Write one document: block style, keys in their order, no aliases, stable for the same value."""
    return str(yaml.dump(value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=120))


def dump_all(values: Iterable[Any]) -> str:
    """Write several documents."""
    return "---\n".join(dump(value) for value in values)


def mapping(given: object, *, where: str, required: Iterable[str] = (), optional: Iterable[str] = ()) -> dict[str, Any]:
    """Return `given` when it is a mapping with these keys and no others.

    `where` begins with the file. Raises BadInput naming file, line and key, and what is allowed.
    """
    required, optional = tuple(required), tuple(optional)
    allowed = (*required, *optional)
    found = table(given, where=where)
    for key in found:
        if key not in allowed:
            raise bad(found, key, where, "unknown key", allowed=", ".join(allowed))
    for key in required:
        if key not in found:
            raise bad(found, key, where, "is missing", allowed=", ".join(allowed))
    return found


def check_schema(given: dict[str, Any], known: int, *, where: str) -> None:
    """Raise BadInput unless a file's `schema` is the one that is known."""
    if given["schema"] != known:
        raise bad(given, "schema", where, f"{given['schema']!r} is not known", allowed=str(known))


def table(given: object, *, where: str) -> dict[str, Any]:
    """Return `given` when it is a mapping whose keys are text (names chosen by the user). Raises BadInput."""
    if not isinstance(given, dict):
        raise BadInput(f"{where}: a mapping is wanted, not {_called(given)}")
    for key in given:
        if not isinstance(key, str):
            raise bad(given, key, where, f"the key is {_called(key)}, not text", hint=f'quote it: "{key}"')
    return given


def text(given: dict[str, Any], key: str, *, where: str, default: str | None = None) -> str:
    """Return the text under a key; `default` when the key is absent. Raises BadInput, also for empty text."""
    if key not in given and default is not None:
        return default
    value = given.get(key)
    if isinstance(value, str) and value.strip():
        return value
    if key not in given:
        raise bad(given, key, where, "is missing")
    hint = f'quote it: {key}: "{value}"' if isinstance(value, int | float) else ""
    raise bad(given, key, where, f"text is wanted, not {_called(value)}", hint=hint)


def texts(given: dict[str, Any], key: str, *, where: str) -> tuple[str, ...]:
    """Return the list of texts under a key. Raises BadInput."""
    value = given.get(key)
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise bad(given, key, where, "a list of texts is wanted")
    return tuple(value)


def relocated(values: dict[str, Any], place: dict[str, Any]) -> Located:
    """Return `values` as a mapping that stands where `place` does in its file."""
    out = Located(values)
    out.file, out.line = getattr(place, "file", ""), getattr(place, "line", 0)
    out.lines = getattr(place, "lines", {})
    return out


def bad(given: object, key: object, where: str, problem: str, *, hint: str = "", **facts: str) -> BadInput:
    """Return the error for a key of a mapping, with the line where the file says it."""
    if isinstance(given, Located) and given.file:
        at = f"{given.file}:{given.lines.get(key, given.line)}"
        if where.startswith(given.file):
            where = at + where.removeprefix(given.file)
        else:
            facts = {"at": at, **facts}
    name = f"{where}.{key}" if ": " in where else f"{where}: {key}"
    return BadInput(f"{name}: {problem}", facts={name: value for name, value in facts.items() if value}, hint=hint)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error


def _parse(source: str, where: str, loader: type[_Strict]) -> list[Any]:
    try:
        return list(yaml.load_all(source, Loader=loader))  # (a safe loader, made stricter)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise BadInput(f"{where}{line}: {error.problem or error.context}", facts=_quote(source, mark)) from error
    except yaml.YAMLError as error:
        raise BadInput(f"{where}: {error}") from error
    except ValueError as error:  # a number that only looks like one
        raise BadInput(f"{where}: {error}") from error


def _quote(source: str, mark: yaml.Mark | None) -> dict[str, str]:
    lines = source.splitlines()
    return {"line": lines[mark.line].strip()} if mark and mark.line < len(lines) else {}


def _sign(value: object, file: str) -> None:
    if isinstance(value, Located):
        value.file = file
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _sign(each, file)


def _called(value: object) -> str:
    """Say what a value is: its type, and the value itself where that is short."""
    kind = _TYPES[dict] if isinstance(value, dict) else _TYPES.get(type(value), type(value).__name__)
    return kind if isinstance(value, dict | list | None) else f"{kind} ({value!r})"
