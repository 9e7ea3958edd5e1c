"""What an error says to type: every command, option and setting in it exists."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from invoke.parser import ParserContext

from tasks.lib.providers import machine
from tasks.lib.settings import Settings
from tests.commandline import arguments

ROOT = Path(__file__).parents[2]
MODULES = [path for path in sorted((ROOT / "tasks").rglob("*.py")) if "standins" not in path.parts]

_KEYWORDS = {"hint", "fix"}
_FUNCTIONS = {"fail", "warn"}
"""Those of doctor.py: what to type is their second argument."""

_COMMAND = re.compile(r"\binvoke +([a-z][\w.-]*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_SETTING = re.compile(r"\b(?:INVOKE_BOX_|box\.)(\w+)")
_OTHERS = re.compile(r"\b(apt-get|docker|kubectl|less|ss|sudo)\b.*")
"""Other programs have options of their own."""


def text_of(node: ast.expr, constants: dict[str, ast.expr]) -> Iterator[str]:
    """Return the texts of an expression; what is filled in later is an X."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
        yield "".join("".join(text_of(part, constants)) or "X" for part in parts)
    elif isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.Name) and node.id in constants:
        yield from text_of(constants[node.id], constants)
    else:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield from text_of(child, constants)


def hints(source: str) -> list[str]:
    """Return everything that a module says to type."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
        if isinstance(target, ast.Name)
    }  # fmt: skip
    found: list[str] = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = [each.value for each in call.keywords if each.arg in _KEYWORDS]
        if isinstance(call.func, ast.Name) and call.func.id in _FUNCTIONS:
            given += call.args[1:]
        found += [text for each in given for text in text_of(each, constants)]
    return found


def options() -> dict[str, set[str]]:
    """Return the commands there are, each with its options."""
    contexts = {name: ParserContext(name=name, args=found) for name, found in arguments().items()}
    return {name: {"--help", *each.flags, *each.inverse_flags} for name, each in contexts.items()}


def untrue(hint: str) -> list[str]:
    """Return what a hint names and does not exist."""
    known, settings, wrong = options(), {each.name for each in fields(Settings)}, list[str]()
    for part in re.split(r" {3,}|\n", hint):
        ours = _OTHERS.sub("", part)
        command = _COMMAND.search(ours)
        if command and command[1] not in known:
            wrong.append(f"invoke {command[1]}")
            continue
        allowed = known[command[1]] if command else set().union(*known.values())
        wrong += [each for each in _OPTION.findall(ours) if each not in allowed]
        wrong += [each for each in _SETTING.findall(ours) if each.lower() not in settings]
    return wrong


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_an_error_says_to_type_can_be_typed(path: Path) -> None:
    found = {hint: wrong for hint in hints(path.read_text(encoding="utf-8")) if (wrong := untrue(hint))}
    assert found == {}


def test_the_hints_are_found() -> None:
    everything = [hint for path in MODULES for hint in hints(path.read_text(encoding="utf-8"))]
    for known in (
        "invoke tenant.remove --name X --force   removes them too",
        "INVOKE_BOX_WORKERS=X   or   invoke down   then   invoke up",
        "install Docker beside it: https://docs.docker.com/engine/install",
        f"{machine.OTHER_PORTS}   (ss -ltnp shows what listens)",
        "another cluster with --context NAME, or one of our own: --provider kind",
    ):
        assert known in everything


@pytest.mark.parametrize(
    ("hint", "wrong"),
    [
        ("choose others: --http-port 8090", ["--http-port"]),
        ("invoke up --name a", ["--name"]),
        ("invoke tenant.add --name a   or   invoke updo", ["invoke updo"]),
        ("INVOKE_BOX_COLOUR=red, or box.colour in invoke.yaml", ["COLOUR", "colour"]),
        ("kubectl --namespace a get pods   then   --workers 2", ["--workers"]),
        ("invoke up --no-wait   or   docker ps --all; box.cache", []),
    ],
)
def test_what_does_not_exist_is_seen(hint: str, wrong: list[str]) -> None:
    assert untrue(hint) == wrong
