"""Go modules: the wrapper, the flags, what is built when, and what is said when it cannot be had."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.lib import shell
from tasks.lib.errors import BadInput, BoxError, CommandFailed, FetchFailed, NotAvailable
from tasks.lib.packages import recipes
from tasks.lib.packages.gomodule import GoModules, default_name, flags, wrapper_gomod
from tasks.lib.packages.recipes import Module
from tasks.lib.packages.store import Store
from tasks.lib.packages.workshop import Turns, Workshop

ROOT = Path(__file__).parents[2]
MODULE = Module(
    name="tool", module="example.com/tool", version="v1.2.3", stage="cluster", seconds=100,
    commands={"tool": "cmd/tool", "other": "cmd/other"},
)  # fmt: skip


class FakeGo:
    """Answers as `go` does; an undeclared command fails the test."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.builds: list[list[str]] = []
        self.wrappers: list[str] = []
        self.refused = ""
        self.compiler = ""
        self.gomod: dict[str, Any] = {"Go": "1.23"}

    def run(self, argv: Sequence[str | Path], **more: Any) -> shell.Result:
        words = [str(word) for word in argv]
        words = words[words.index("go") :]
        if words[1] == "env":
            return _said(json.dumps({"GOVERSION": "go1.26", "GOPROXY": "https://proxy.example", "GOARCH": "amd64"}))
        if words[1:3] == ["mod", "download"]:
            return self._download(words[-1])
        if words[1:3] == ["mod", "edit"]:
            return _said(json.dumps(self.gomod))
        assert words[1] == "build", words
        return self._build(words, more["cwd"])

    def _download(self, what: str) -> shell.Result:
        if self.refused:
            return shell.Result(returncode=1, stdout=json.dumps({"Error": self.refused}), stderr="")
        folder = self.tmp / "mod"
        folder.mkdir(exist_ok=True)
        (folder / "go.sum").write_text(f"{what} h1:known\n")
        return _said(json.dumps({"Dir": str(folder), "GoMod": str(folder / "go.mod"), "Sum": "h1:abc"}))

    def _build(self, words: list[str], cwd: Path) -> shell.Result:
        self.builds.append(words)
        self.wrappers.append((cwd / "go.mod").read_text())
        assert (cwd / "go.sum").read_text().endswith("h1:known\n")
        if self.compiler:
            raise CommandFailed("go: exit status 1", returncode=1, output=self.compiler)
        into = Path(words[words.index("-o") + 1])
        for package in words[words.index("-o") + 2 :]:
            (into / default_name(package)).write_text(package)
        return _said("")


def _said(text: str) -> shell.Result:
    return shell.Result(returncode=0, stdout=text, stderr="")


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGo:
    fake = FakeGo(tmp_path)
    monkeypatch.setattr(shell, "run", fake.run)
    return fake


@pytest.fixture
def modules(tmp_path: Path) -> GoModules:
    return GoModules(Store(tmp_path / "cache"))


def test_all_commands_of_a_module_come_from_one_build(go: FakeGo, modules: GoModules) -> None:
    folder = modules.build(MODULE)
    assert len(go.builds) == 1
    assert (folder / "tool").read_text() == "example.com/tool/cmd/tool"
    assert (folder / "other").exists()
    assert modules.record(MODULE)["sum"] == "h1:abc"


def test_a_finished_module_is_not_built_again(go: FakeGo, modules: GoModules) -> None:
    assert modules.build(MODULE) == modules.build(MODULE)
    assert len(go.builds) == 1


def test_a_failed_build_leaves_nothing_behind(go: FakeGo, modules: GoModules) -> None:
    go.compiler = "cmd/tool/main.go:3: undefined: x"
    with pytest.raises(CommandFailed):
        modules.build(MODULE)
    assert not modules.built(MODULE)
    assert [each.name for each in modules.target(MODULE).parent.iterdir()] == []
    go.compiler = ""
    assert (modules.build(MODULE) / "tool").exists()


def test_what_a_killed_build_left_is_removed(go: FakeGo, modules: GoModules) -> None:
    left = modules.target(MODULE).parent / f".{modules.target(MODULE).name}.left"
    (left / "it").mkdir(parents=True)
    modules.build(MODULE)
    assert not left.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"version": "v1.2.4"},
        {"commands": {"tool": "cmd/tool"}},
        {"variables": {"main.Version": "1"}},
        {"keep_inlining": True},
    ],
)
def test_the_key_changes_with_all_that_decides_the_result(
    go: FakeGo, modules: GoModules, change: Mapping[str, Any]
) -> None:
    assert modules.key(replace(MODULE, **change)) != modules.key(MODULE)
    assert modules.key(replace(MODULE, seconds=1)) == modules.key(MODULE)


def test_a_module_that_is_not_the_locked_one_is_not_built(go: FakeGo, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    with pytest.raises(FetchFailed, match="not the locked module") as caught:
        GoModules(store, lambda module, version: f"h1:another of {module} {version}").build(MODULE)
    assert caught.value.facts["locked"] == f"h1:another of {MODULE.module} {MODULE.version}"
    assert go.builds == []
    got = str(caught.value.facts["got"])
    GoModules(store, lambda module, version: got).build(MODULE)
    assert len(go.builds) == 1


def test_a_refused_module_is_named(go: FakeGo, modules: GoModules) -> None:
    go.refused = "reading https://proxy.example/x: 403 Forbidden"
    with pytest.raises(FetchFailed) as caught:
        modules.build(MODULE)
    assert "example.com/tool@v1.2.3" in caught.value.what
    assert "403" in str(caught.value)
    assert "https://proxy.example" in str(caught.value)


def test_a_dependency_that_cannot_be_had_is_a_fetch_failure(go: FakeGo, modules: GoModules) -> None:
    go.compiler = "x.go:1: example.com/dep@v1: reading https://proxy.example/dep: 403 Forbidden"
    with pytest.raises(FetchFailed, match=r"example\.com/tool"):
        modules.build(MODULE)


def test_without_go_it_is_said_what_to_type(modules: GoModules, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> shell.Result:
        raise NotAvailable("go: cannot be run")

    monkeypatch.setattr(shell, "run", missing)
    with pytest.raises(NotAvailable, match="no `go` on PATH") as caught:
        modules.key(MODULE)
    assert "go.dev" in caught.value.hint


def test_staging_modules_become_their_published_versions() -> None:
    parsed = {
        "Go": "1.24.0",
        "Godebug": [{"Key": "default", "Value": "go1.24"}],
        "Replace": [
            {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
            {"Old": {"Path": "a.b/c", "Version": "v1.0.0"}, "New": {"Path": "a.b/d", "Version": "v2.0.0"}},
            {"Old": {"Path": "a.b/sibling"}, "New": {"Path": "../sibling"}},
        ],
    }
    text = wrapper_gomod(replace(MODULE, module="k8s.io/kubernetes", version="v1.34.3"), parsed)
    assert "go 1.24.0\n" in text
    assert "require k8s.io/kubernetes v1.34.3\n" in text
    assert "replace k8s.io/api => k8s.io/api v0.34.3\n" in text
    assert "replace a.b/c v1.0.0 => a.b/d v2.0.0\n" in text
    assert "godebug default=go1.24\n" in text
    assert "sibling" not in text


def test_flags_keep_inlining_where_it_is_asked_for() -> None:
    assert "-gcflags=all=-dwarf=false -l" in flags(MODULE)
    assert "-gcflags=all=-dwarf=false" in flags(replace(MODULE, keep_inlining=True))
    variables = {"main.B": "2", "main.A": "1"}
    assert "-ldflags=-s -w -X main.A=1 -X main.B=2" in flags(replace(MODULE, variables=variables))


@pytest.mark.parametrize(
    ("package", "name"),
    [("a.b/c/cmd/tool", "tool"), ("go.etcd.io/etcd/server/v3", "server"), ("sigs.k8s.io/kind", "kind")],
)
def test_go_names_a_command_by_its_path(package: str, name: str) -> None:
    assert default_name(package) == name


def test_a_command_in_the_root_of_its_module() -> None:
    assert replace(MODULE, commands={"kind": "."}).package("kind") == "example.com/tool"


def test_the_longest_of_the_first_stage_is_first() -> None:
    turns, order, cancel = Turns(1), list[str](), threading.Event()

    def work(name: str, priority: tuple[float, ...]) -> None:
        with turns.turn(priority, cancel):
            order.append(name)

    with turns.turn((0, 0), cancel):
        wanted = {"late": (1.0, -500.0), "short": (0.0, -10.0), "long": (0.0, -500.0)}
        threads = [threading.Thread(target=work, args=each) for each in wanted.items()]
        for thread in threads:
            thread.start()
        _until(lambda: len(turns._waiting) == len(wanted))
    for thread in threads:
        thread.join(60)
    assert order == ["long", "short", "late"]


def test_waiting_for_a_turn_ends_with_the_run() -> None:
    turns, cancel = Turns(0), threading.Event()
    cancel.set()
    with pytest.raises(BoxError, match="interrupted"), turns.turn((0,), cancel):
        pass
    assert turns._waiting == []


def test_one_module_wanted_by_many_is_built_once(go: FakeGo, modules: GoModules) -> None:
    known = replace(recipes.load(ROOT), modules={"tool": MODULE})
    workshop = Workshop(modules, known)
    threads = [threading.Thread(target=workshop.build, args=("tool", threading.Event())) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(go.builds) == 1
    assert workshop.missing(["tool"]) == []


def test_the_estimate_follows_what_was_seen(go: FakeGo, modules: GoModules) -> None:
    other = replace(MODULE, name="other", module="example.com/other", seconds=300)
    workshop = Workshop(modules, replace(recipes.load(ROOT), modules={"tool": MODULE, "other": other}))
    assert workshop.left(["tool", "other"]) == other.seconds
    workshop._took["tool"] = MODULE.seconds * 2.0
    assert workshop.expected(other) == other.seconds * 2
    assert "of about" not in workshop.progress(["tool", "other"])
    workshop._started["other"] = time.monotonic() - 30
    assert "other 30 s of about 600" in workshop.progress(["tool", "other"])


def test_the_recipes_of_this_project_are_whole() -> None:
    found = recipes.load(ROOT)
    assert found.module_of("kubectl").name == "kubernetes"
    assert all(module.seconds > 0 for module in found.modules.values())
    with pytest.raises(BadInput, match=r"images\.nothing is missing"):
        found.image("nothing")
    with pytest.raises(BadInput, match="no module builds"):
        found.module_of("nothing")


@pytest.mark.parametrize(
    ("line", "becomes", "complaint"),
    [
        ("    seconds: 29", "    seconds: soon", r"modules\.etcd\.seconds"),
        (
            "    commands: {etcd: .}",
            "    commands: {etcd: .}\n    nonsense: 1",
            r"modules\.etcd\.nonsense: unknown key",
        ),
        ("    module: go.etcd.io/etcd/server/v3\n", "", r"modules\.etcd\.module: is missing"),
        ("{module: etcd, command: etcd}", "{module: etcd, command: nothing}", "builds no command 'nothing'"),
        ("{module: etcd, command: etcd}", "{module: nothing, command: etcd}", "no module 'nothing'"),
        ("{wheel: envoy}", "{wheel: envoy, program: pause}", "one of module, wheel"),
        ("    base: debian", "    base: alpine", "'alpine' is not a base"),
        ("schema: 1", "schema: 2", "schema: 2 is not known"),
    ],
)
def test_a_mistake_in_the_recipes_names_its_place(tmp_path: Path, line: str, becomes: str, complaint: str) -> None:
    (tmp_path / "config").mkdir()
    text = (ROOT / recipes.FILE).read_text()
    assert line in text
    (tmp_path / recipes.FILE).write_text(text.replace(line, becomes))
    with pytest.raises(BadInput, match=complaint) as caught:
        recipes.load(tmp_path)
    assert "packages.yaml" in str(caught.value)


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
