"""The command line: how commands end, whatever happens in them, and what they say of themselves."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from invoke import Exit

import tasks
from tasks import edge
from tasks.lib.errors import NotAvailable
from tests.commandline import arguments

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(edge, "BOX", tmp_path / ".box")
    return tmp_path / ".box"


def ended(error: BaseException) -> Exit:
    """Return how a command ends in which this is raised."""

    @edge.edge
    def command() -> None:
        raise error

    with pytest.raises(Exit) as caught:
        command()
    return caught.value


def test_a_failure_is_a_message_and_its_status() -> None:
    found = ended(NotAvailable("no engine", facts={"tried": "docker"}, hint="install one"))
    assert (found.message, found.code) == ("error: no engine\n  tried  docker\n\n  try: install one", 3)


def test_what_a_command_returns_and_its_own_exit_pass() -> None:
    assert edge.edge(lambda: "answer")() == "answer"
    assert ended(Exit(code=1)).code == 1


def test_a_fault_of_ours_is_a_message_too_and_its_traceback_is_in_a_file(folder: Path) -> None:
    found = ended(KeyError("a bug\nin two lines"))
    assert found.code == 70
    assert found.message == (
        "error: unexpected KeyError: 'a bug\\nin two lines' (this is a fault of the pipeline)\n"
        f"  traceback  {folder}/crash.log"
    )
    kept = (folder / "crash.log").read_text()
    assert "Traceback (most recent call last)" in kept
    assert "test_edge.py" in kept


def test_where_no_file_can_be_written_the_message_has_the_traceback(folder: Path) -> None:
    folder.write_text("in the way")
    found = ended(ValueError("a bug"))
    assert found.code == 70
    said = found.message or ""
    assert "crash.log: File exists" in said or "crash.log: Not a directory" in said
    assert "Traceback (most recent call last)" in said


class Late(NotAvailable):
    """An error whose telling is interrupted."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Late("no engine")], ids=["at work", "while an error is told"])
def test_an_interrupt_is_130_in_any_place(error: BaseException) -> None:
    found = ended(error)
    assert (found.code, found.message) == (130, "interrupted; the same command again goes on from here")


def invoke(*words: str, stdout: int, **variables: str) -> "subprocess.CompletedProcess[str]":
    known = {key: value for key, value in os.environ.items() if not key.startswith(("INVOKE_", "PYTHON"))}
    return subprocess.run(
        [sys.executable, "-m", "invoke", *words], cwd=ROOT, env={**known, **variables}, stdout=stdout,
        stderr=subprocess.PIPE, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["at its end", "at once"])
def test_a_reader_that_has_gone_is_no_failure_and_leaves_no_traceback(variables: dict[str, str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        found = invoke("versions.list", "--json", stdout=write, **variables)
    finally:
        os.close(write)
    assert (found.returncode, found.stderr) == (141, "")


def test_answers_have_no_colours_for_a_pipe() -> None:
    found = invoke("versions.list", stdout=subprocess.PIPE)
    assert found.returncode == 0
    assert "\x1b" not in found.stdout + found.stderr


def commands() -> dict[str, Any]:
    return {name: tasks.ns[name] for name in tasks.ns.task_names}


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_and_option_says_what_it_is(name: str) -> None:
    command = commands()[name]
    first, *rest = (command.__doc__ or "").strip().splitlines()
    assert first.endswith(".")
    assert len(first) <= 60, "longer ones are broken in `invoke --list`"
    assert not rest or not rest[0].strip()
    assert {each.name: each.help for each in arguments()[name] if not each.help} == {}


@pytest.mark.parametrize("name", sorted(commands()))
def test_help_is_never_taken_for_a_value(name: str) -> None:
    assert [each.name for each in arguments()[name] if each.positional] == []
