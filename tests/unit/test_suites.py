"""`invoke test`: what is run, what its end means, and that what was skipped is never taken for passed."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.lib import shell, suites
from tasks.lib.errors import BadInput
from tasks.lib.report import ASCII
from tasks.lib.suites import Check, Result, State
from tests import conftest

CLUSTER = Check(name="cluster", argv=("pytest",), folder="tests/cluster")
UNIT = Check(name="unit", argv=("pytest",), folder="tests/unit")
REASON = "SKIPPED [2] tests/conftest.py:21: there is no container engine on this machine"


def names(*only: str, **more: Any) -> list[str]:
    return [each.name for each in suites.checks(only, **more)]


def test_linters_first_then_tests_from_quick_to_slow() -> None:
    assert names() == ["ruff check", "ruff format", "mypy", "unit", "render", "cluster"]
    assert names("cluster", "unit") == ["unit", "cluster"]
    assert names("lint") == ["ruff check", "ruff format", "mypy"]
    with pytest.raises(BadInput, match="no suite fast, slow") as caught:
        names("slow", "fast", "unit")
    assert caught.value.facts == {"known": "lint, unit, render, cluster"}


def test_options_reach_the_tests_they_are_for() -> None:
    unit, render, cluster = suites.checks(suites.FOLDERS, keyword="lock", keep_cluster=True)
    for each in (unit, render, cluster):
        assert each.argv[-1] == "--keep-cluster" or each.argv[-2:] == ("-k", "lock")
        assert {"-ra", "--durations=15", each.folder} < set(each.argv)
    assert "--keep-cluster" not in unit.argv + render.argv


@pytest.mark.parametrize(
    ("code", "last", "state", "says"),
    [
        (0, "== 12 passed, 1 skipped in 1.20s ==", State.PASSED, "12 passed, 1 skipped"),
        (0, "== 12 skipped in 0.12s ==", State.SKIPPED, "12 skipped"),
        (1, "== 1 failed, 12 passed in 61.02s (0:01:01) ==", State.FAILED, "1 failed, 12 passed"),
        (1, "== 26 errors in 0.12s ==", State.FAILED, "26 errors"),
        (5, "== no tests ran in 0.01s ==", State.FAILED, "exit status 5"),
        (0, "\x1b[32m== \x1b[32m\x1b[1m3 passed\x1b[0m in 0.01s ==\x1b[0m", State.PASSED, "3 passed"),
        (2, "error: no such option", State.FAILED, "exit status 2"),
        (0, "All checks passed!", State.PASSED, ""),
    ],
)
def test_an_end_is_read(code: int, last: str, state: State, says: str) -> None:
    found = suites.judge(UNIT, code, f"tests .\n{last}\n", 1.0)
    assert (found.state, found.says) == (state, says)


def test_a_keyword_that_nothing_matches_is_no_failure() -> None:
    found = suites.judge(Check(name="unit", argv=("pytest", "-k", "x")), 5, "no tests ran in 0.01s\n", 1.0)
    assert (found.state, found.says) == (State.SKIPPED, "nothing matches the keyword")


def test_in_ci_the_tests_on_a_cluster_must_not_be_skipped() -> None:
    out = f"{REASON}\n== 2 skipped in 0.12s ==\n"
    assert suites.judge(CLUSTER, 0, out, 1.0).state is State.SKIPPED
    assert suites.judge(CLUSTER, 0, out, 1.0, strict=True).state is State.FAILED
    assert suites.judge(UNIT, 0, out, 1.0, strict=True).state is State.SKIPPED
    assert suites.judge(CLUSTER, 0, "== 1 passed, 2 skipped in 0.12s ==\n", 1.0, strict=True).state is State.PASSED


def test_the_end_says_what_was_skipped_and_why() -> None:
    results = [
        Result(name="mypy", state=State.FAILED, says="exit status 1", seconds=61),
        Result(name="render", state=State.SKIPPED, says="there is no tests/render"),
        suites.judge(UNIT, 0, f"{REASON}\n== 3 passed, 2 skipped in 0.12s ==\n", 2.0),
    ]
    assert suites.summary(results, ASCII) == (
        "  x mypy    failed      61s  exit status 1\n"
        "  - render  skipped    0.0s  there is no tests/render\n"
        "  + unit    passed     2.0s  3 passed, 2 skipped\n"
        "skipped, and why:\n"
        "  unit: [2] tests/conftest.py:21: there is no container engine on this machine\n"
        "  render: there is no tests/render\n"
        "failed: mypy\n"
    )
    assert suites.summary(results[2:], ASCII).endswith("\nnothing failed\n")


# Running

Run = Callable[..., tuple[list[Result], list[str]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run two suites, the first of which fails; programs say their names."""
    (tmp_path / "tests/unit").mkdir(parents=True)
    for name in ("CI", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)

    def start(argv: tuple[str, ...], *, on_line: Callable[[str], None], **more: Any) -> shell.Result:
        assert more["cwd"] == tmp_path
        on_line(f"running {argv[0]}")
        return shell.Result(returncode=int(argv[0] == "bad"), stdout="", stderr="")

    monkeypatch.setattr(shell, "run", start)

    def go() -> tuple[list[Result], list[str]]:
        lines: list[str] = []
        wanted = [Check(name="mypy", argv=("bad",)), Check(name="unit", argv=("good",), folder="tests/unit"), CLUSTER]
        return suites.run(tmp_path, wanted, lines.append, colour=False), lines

    return go


def test_a_failure_does_not_hide_the_rest(run: Run) -> None:
    results, lines = run()
    assert [each.state for each in results] == [State.FAILED, State.PASSED, State.SKIPPED]
    assert results[2].says == "there is no tests/cluster"
    assert lines == ["\n== mypy", "running bad", "\n== unit", "running good", "\n== cluster"]


def test_output_is_grouped_where_github_folds_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    _, lines = run()
    assert lines[:3] == ["::group::mypy", "running bad", "::endgroup::"]


def test_in_ci_a_suite_that_is_not_there_is_a_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    results, lines = run()
    assert results[2].state is State.FAILED
    assert not [line for line in lines if "::" in line], "GitHub's marks are for GitHub"


# What needs a cluster


def item(*markers: str) -> Any:
    return SimpleNamespace(get_closest_marker=lambda name: name if name in markers else None)


@pytest.mark.parametrize("ci", [True, False])
def test_without_an_engine_it_is_skipped_and_in_ci_it_fails(ci: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "no_engine", lambda: "there is no container engine")
    monkeypatch.setenv("CI", "true" if ci else "")
    conftest.pytest_runtest_setup(item())
    with pytest.raises(pytest.fail.Exception if ci else pytest.skip.Exception, match="there is no container engine"):
        conftest.pytest_runtest_setup(item("cluster"))


def test_with_one_it_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "no_engine", lambda: None)
    conftest.pytest_runtest_setup(item("cluster"))
