"""The node image and the userland under it: what decides that they are built again, and what the wrapper takes out."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.lib.container import ContainerEngine
from tasks.lib.daemon import RUNTIME, has_sys_resource
from tasks.lib.errors import BadInput
from tasks.lib.packages import debian, node
from tasks.lib.packages.node import NodeImage, Parts
from tasks.lib.packages.recipes import Debian
from tasks.lib.packages.store import Store

TEMPLATED = "# would you kindly template this file\n"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Parts that are whole."""
    for name in node.BINARIES:
        (tmp_path / name).write_text(name)
    (tmp_path / "default-cni.yaml").write_text(TEMPLATED)
    (tmp_path / "default-storage.yaml").write_text("kind: StorageClass\n")
    return Parts(
        version="v1.2.3",
        base=lambda: "base:1",
        base_key="base",
        binaries={name: tmp_path / name for name in node.BINARIES},
        kind_files=lambda: tmp_path,
        manifests=tmp_path,
        pause="pause:1",
        preload=lambda target: target.touch(),
        inputs_key="inputs",
    )


def test_the_same_parts_make_the_same_image(parts: Parts) -> None:
    assert parts.key() == replace(parts).key()
    assert parts.ref == "docker.io/kindest/node:v1.2.3"


@pytest.mark.parametrize("change", [{"version": "v1.2.4"}, {"base_key": "x"}, {"pause": "x"}, {"inputs_key": "x"}])
def test_another_part_makes_another_image(parts: Parts, change: dict[str, str]) -> None:
    assert replace(parts, **change).key() != parts.key()  # type: ignore[arg-type]


def test_another_network_makes_another_image(parts: Parts) -> None:
    before = parts.key()
    (parts.manifests / "default-cni.yaml").write_text(f"{TEMPLATED}kind: DaemonSet\n")

    assert parts.key() != before


def test_a_network_without_kinds_words_would_get_no_subnet(parts: Parts) -> None:
    (parts.manifests / "default-cni.yaml").write_text("kind: DaemonSet\n")

    with pytest.raises(BadInput, match="default-cni"):
        node.check(parts)


def test_a_missing_binary_is_named(parts: Parts) -> None:
    parts.binaries["kubelet"].unlink()

    with pytest.raises(BadInput, match="kubelet"):
        node.check(parts)


class FakeEngine(ContainerEngine):
    """Remembers what was run; answers that it has one image with one label."""

    def __init__(self, store: Store, labels: dict[str, str]) -> None:
        super().__init__(store)
        self.labels = labels
        self.commands: list[list[str]] = []

    def docker(self, *args: str | Path, **_: object) -> object:  # type: ignore[override]
        """Remember a command."""
        self.commands.append([str(arg) for arg in args])
        return None

    def label(self, ref: str, name: str) -> str:
        """Return the label that the test gave."""
        return self.labels.get(ref, "")


def test_an_image_of_the_same_parts_is_not_built_again(parts: Parts, tmp_path: Path) -> None:
    engine = FakeEngine(Store(tmp_path), {parts.ref: parts.key()})

    NodeImage(engine, Store(tmp_path), parts).build(pytest.fail)

    assert engine.commands == []


def test_an_image_of_other_parts_is_replaced_and_nothing_is_left(parts: Parts, tmp_path: Path) -> None:
    engine = FakeEngine(Store(tmp_path), {parts.ref: "other"})

    NodeImage(engine, Store(tmp_path), parts).build(lambda _: None)

    assert [words[0] for words in engine.commands] == ["rm", "run", "commit", "rm"]
    assert f"LABEL {node.RECIPE_LABEL}={parts.key()}" in engine.commands[2]
    assert engine.commands[2][-1] == parts.ref
    assert list((tmp_path / "node").iterdir()) == []


RECIPE = Debian(suite="bookworm", why="", base=("curl", "jq"))


def test_the_userlands_key_changes_with_suite_and_packages(tmp_path: Path) -> None:
    def key(recipe: Debian) -> str:
        return debian.Base(Store(tmp_path), recipe, ContainerEngine(Store(tmp_path))).key

    assert key(RECIPE) == key(replace(RECIPE, base=("jq", "curl"), why="another reason"))
    assert key(RECIPE) != key(replace(RECIPE, base=("curl",)))
    assert key(RECIPE) != key(replace(RECIPE, suite="trixie"))


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        (
            "sources.list",
            "deb [signed-by=/k] https://mirror.example/debian/ bookworm main\n",
            "https://mirror.example/debian",
        ),
        (
            "sources.list.d/debian.sources",
            "Types: deb\n# URIs: http://no/debian\nURIs: http://a/debian\n",
            "http://a/debian",
        ),
        ("sources.list", "deb http://archive.ubuntu.com/ubuntu noble main\n", debian.DEFAULT_MIRROR),
        ("sources.list", "deb http://deb.debian.org/debian-security bookworm-security main\n", debian.DEFAULT_MIRROR),
        ("other", "", debian.DEFAULT_MIRROR),
    ],
)
def test_the_machines_own_mirror_is_used(tmp_path: Path, name: str, text: str, wanted: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)

    assert debian.find_mirror(tmp_path) == wanted


def test_pruning_keeps_what_programs_need(tmp_path: Path) -> None:
    for name in (
        "usr/share/doc/curl/copyright",
        "usr/share/zoneinfo/UTC",
        "etc/machine-id",
        "etc/passwd",
        "var/log/apt.log",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")

    debian.prune(tmp_path)

    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["etc/machine-id", "etc/passwd", "usr/share/zoneinfo/UTC"]
    assert (tmp_path / "etc/machine-id").read_text() == ""


BUNDLE = {
    "process": {
        "capabilities": {"bounding": ["CAP_KILL", "CAP_SYS_RESOURCE"], "effective": None},
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "hard": 1 << 30, "soft": 1024},
            {"type": "RLIMIT_CORE", "hard": 1, "soft": 1},
        ],
        "oomScoreAdj": -998,
    },
    "root": {"path": "rootfs"},
}


@pytest.fixture
def wrapper(tmp_path: Path) -> Callable[..., str]:
    """Return the wrapper with a runtime beside it that prints its arguments."""
    if shutil.which("jq") is None:
        pytest.skip("jq is not on this machine")
    runtime = tmp_path / "runc"
    runtime.write_text('#!/bin/sh\necho "$@"\n')
    runtime.chmod(0o755)
    text = RUNTIME.read_text().replace("/usr/sbin/runc /usr/bin/runc", str(runtime))
    (tmp_path / "wrapper").write_text(text.replace("if ! granted; then", "if true; then"))

    def run(*words: str) -> str:
        return subprocess.run(["bash", tmp_path / "wrapper", *words], check=True, capture_output=True, text=True).stdout

    return run


def test_the_wrapper_takes_out_what_the_kernel_refuses(tmp_path: Path, wrapper: Callable[..., str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(BUNDLE))

    said = wrapper("--root", "/run/x", "create", "--bundle", str(tmp_path), "name")

    process = json.loads((tmp_path / "config.json").read_text())["process"]
    assert process["capabilities"] == {"bounding": ["CAP_KILL"], "effective": None}
    assert [limit["type"] for limit in process["rlimits"]] == ["RLIMIT_NOFILE"]
    assert process["rlimits"][0]["hard"] < 1 << 30
    assert process["oomScoreAdj"] == 0
    assert said.split() == ["--root", "/run/x", "create", "--bundle", str(tmp_path), "name"]


def test_the_wrapper_rewrites_what_is_executed_later(tmp_path: Path, wrapper: Callable[..., str]) -> None:
    description = tmp_path / "process.json"
    description.write_text(json.dumps(BUNDLE["process"]))

    wrapper("exec", "--process", str(description), "name")

    assert json.loads(description.read_text())["capabilities"]["bounding"] == ["CAP_KILL"]


def test_the_wrapper_leaves_other_commands_alone(tmp_path: Path, wrapper: Callable[..., str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(BUNDLE))

    assert wrapper("state", "name").split() == ["state", "name"]
    assert json.loads((tmp_path / "config.json").read_text()) == BUNDLE


def test_shell_and_python_agree_about_the_capability(tmp_path: Path) -> None:
    start, end = "granted() {", "\n}\n"
    function = start + RUNTIME.read_text().partition(start)[2].partition(end)[0] + end
    script = f"set -eu\nCAP_SYS_RESOURCE=24\n{function}granted"

    code = subprocess.run(["bash", "-c", script], check=False, cwd=tmp_path).returncode

    assert (code == 0) == has_sys_resource()
