"""Objects as paths to leaves, as server-side apply sees them: lists of named things are maps, other lists are whole.

And what the API server compares objects with: label and field selectors.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Path = tuple[str, ...]


def named(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) and "name" in each for each in value)


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            if path or key not in {"apiVersion", "kind", "status"}:
                yield from leaves(each, (*path, key))
    elif named(value):
        for each in value:
            yield from leaves(each, (*path, f"name={each['name']}"))
    else:
        yield path, value


def at(value: Any, path: Path) -> Any:
    for step in path:
        if isinstance(value, list):
            value = next((each for each in value if f"name={each.get('name')}" == step), None)
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def put(value: Any, path: Path, leaf: object) -> None:
    for step, after in zip(path, (*path[1:], ""), strict=True):
        last = not after
        if step.startswith("name=") and isinstance(value, list):
            found = next((each for each in value if f"name={each['name']}" == step), None)
            if found is None:
                found = {"name": step.removeprefix("name=")}
                value.append(found)
            value = found
        elif last and leaf is None:
            value.pop(step, None)
        elif last:
            value[step] = leaf
        else:
            value = value.setdefault(step, [] if after.startswith("name=") else {})


def under(steps: Path) -> Callable[[Path], bool]:
    return lambda path: path[: len(steps)] == steps or steps[: len(path)] == path


def matches(labels: Mapping[str, str], selector: str) -> bool:
    for term in filter(None, selector.split(",")):
        if "!=" in term:
            key, _, value = term.partition("!=")
            if labels.get(key) == value:
                return False
            continue
        key, equals, value = term.partition("=")
        if equals and labels.get(key) != value:
            return False
        if not equals and (key.lstrip("!") in labels) == key.startswith("!"):
            return False
    return True


def equals(obj: dict[str, Any], path: str, value: str) -> bool:
    return str(at(obj, tuple(path.split(".")))) == value
