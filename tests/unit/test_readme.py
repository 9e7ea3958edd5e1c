"""The README's two commands are the ones that are run: the first by the cluster tests, the second by CI."""

import re
from pathlib import Path

import yaml

from tests.cluster.platform import Platform

ROOT = Path(__file__).parents[2]


def commands() -> list[str]:
    """Return the lines of the README's first block."""
    found = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1].split("\n")[:-1]


def test_the_readme_opens_with_two_commands() -> None:
    assert commands() == ["./scripts/invoke up", "./scripts/invoke test"]


def test_the_first_is_what_the_cluster_tests_start() -> None:
    assert " ".join(Platform.command("up")) == commands()[0]


def test_the_second_is_what_ci_runs() -> None:
    last = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()[-1]

    assert last == f"exec {commands()[1]}"


def test_the_workflow_runs_it_in_parts_that_make_the_whole() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if commands()[1] in step.get("run", "")]

    assert {word for step in steps for word in step.split("--only ")[1:] if word} == {
        "lint ", "unit", "render ", "cluster"
    }  # fmt: skip


def test_every_action_of_the_workflow_is_pinned_by_commit() -> None:
    text = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")

    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", each)] == []
