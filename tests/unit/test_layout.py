"""The shape of the source: who may import what, how long things may be, what has to say what it is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "tasks"
LIB = TASKS / "lib"
SHELL = LIB / "shell.py"
STANDINS = LIB / "packages/standins"
"""Programs that run alone inside an image: they cannot import our own."""

LONGEST_FUNCTION = 50
LONGEST_MODULE = 320

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def modules(folder: Path) -> list[Path]:
    """Return every module below a folder."""
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def at(path: Path, line: int) -> str:
    """Name a place."""
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{line}"


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Return line and full name of everything that is imported, wherever in the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def importers(path: Path, package: str) -> list[str]:
    """Return the places at which a module imports a package, or something in it."""
    found = imported(ast.parse(path.read_text(encoding="utf-8")))
    return [at(path, line) for line, name in found if name.partition(".")[0] == package]


def long_functions(path: Path, most: int = LONGEST_FUNCTION) -> list[str]:
    """Return the functions of a module that are too long, from `def` to the end."""
    return [
        f"{at(path, node.lineno)} {node.name}: {length} lines"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > most
    ]


def undocumented(path: Path) -> list[str]:
    """Return the public functions, classes and methods of a module without a docstring."""

    def public(body: list[ast.stmt]) -> Iterator[Definition]:
        for node in body:
            if isinstance(node, Definition) and not node.name.startswith("_"):
                yield node
                if isinstance(node, ast.ClassDef):
                    yield from public(node.body)

    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [f"{at(path, node.lineno)} {node.name}" for node in public(tree.body) if not ast.get_docstring(node)]


def test_the_library_does_not_know_the_command_line() -> None:
    assert [place for path in modules(LIB) for place in importers(path, "invoke")] == []


def test_programs_are_started_in_one_place() -> None:
    assert importers(SHELL, "subprocess")
    others = [path for path in modules(TASKS) if path != SHELL and not path.is_relative_to(STANDINS)]
    assert [place for path in others for place in importers(path, "subprocess")] == []


def test_no_function_is_too_long() -> None:
    assert [found for path in modules(TASKS) for found in long_functions(path)] == []


def test_no_module_is_too_long() -> None:
    lengths = {at(path, 1): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(TASKS)}
    assert {place: length for place, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_everything_public_in_the_library_says_what_it_is() -> None:
    assert [found for path in modules(LIB) for found in undocumented(path)] == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import invoke", True),
        ("import os, invoke.tasks as t", True),
        ("from invoke import task", True),
        ("from invoke.tasks import Task", True),
        ("def late():\n    from invoke import task", True),
        ("if TYPE_CHECKING:\n    import invoke", True),
        ("from tasks.invoke import x", False),
        ("from .invoke import x", False),
        ("import invoked", False),
        ("invoke = 'import invoke'", False),
    ],
)
def test_an_import_is_seen_wherever_it_is(tmp_path: Path, line: str, found: bool) -> None:
    (tmp_path / "module.py").write_text(f"{line}\n")
    assert bool(importers(tmp_path / "module.py", "invoke")) == found


def test_what_is_too_long_or_undocumented_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "def two():\n    return 2\n\n\nclass Known:\n    '''Known.'''\n\n    def method(self):\n        self.x = 1\n"
        "        return 3\n\n    def _private(self):\n        pass\n\n\ndef _hidden():\n    pass\n"
    )
    assert long_functions(path, most=2) == [f"{path}:8 method: 3 lines"]
    assert undocumented(path) == [f"{path}:1 two", f"{path}:8 method"]
