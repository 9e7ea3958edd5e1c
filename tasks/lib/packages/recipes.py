"""config/packages.yaml, strictly: what is built from which package, and what each image is put together from."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from tasks.lib import render, yamlfile
from tasks.lib.errors import BadInput

FILE = Path("config/packages.yaml")

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Module:
    """A Go module, and the commands built from it in one go."""

    name: str
    module: str
    version: str
    stage: str
    seconds: int
    commands: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    keep_inlining: bool = False
    links: Mapping[str, str] = field(default_factory=dict)

    def package(self, command: str) -> str:
        """Return the import path of a command."""
        return f"{self.module}/{self.commands[command]}".removesuffix("/.")


@dataclass(frozen=True, kw_only=True)
class File:
    """One thing put into an image: from a module's command or files, a wheel, a program or this repository."""

    module: str = ""
    command: str = ""
    path: str = ""
    wheel: str = ""
    program: str = ""
    own: str = ""
    executable: bool = False


@dataclass(frozen=True, kw_only=True)
class Image:
    """How an image is put together. `ref` is empty when config/versions.yaml names it.

    `packages`: its base has these Debian packages, and not those of the userland that the other images share.
    """

    name: str
    files: Mapping[str, File]
    entrypoint: tuple[str, ...]
    ref: str = ""
    base: str = "static"
    packages: tuple[str, ...] = ()
    python: bool = False
    preload: bool = False
    command: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    users: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def modules(self) -> list[str]:
        """Names of the modules whose commands or files it needs."""
        return sorted({each.module for each in self.files.values() if each.module})


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Where in a module a chart lies; `header` is its Chart.yaml under another name, `values` its values.yaml."""

    module: str
    path: str
    header: str = ""
    values: str = ""
    definitions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest put together from a module's files, or a stand-in's own file."""

    module: str = ""
    paths: tuple[str, ...] = ()
    standin: str = ""
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One file out of a wheel on PyPI."""

    package: str
    version: str
    member: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Python:
    """The Python packages of the model servers."""

    version: str
    machine: str
    glibc: str
    requirements: tuple[str, ...]
    lock: str
    prune: tuple[str, ...]
    seconds: int


@dataclass(frozen=True, kw_only=True)
class Debian:
    """The userland: a suite and the packages on top of its smallest variant."""

    suite: str
    why: str
    base: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """Everything that source `packages` knows."""

    root: Path
    debian: Debian
    python: Python
    wheels: Mapping[str, Wheel]
    modules: Mapping[str, Module]
    programs: Mapping[str, str]
    images: Mapping[str, Image]
    charts: Mapping[str, Chart]
    manifests: Mapping[str, Manifest]
    values: Mapping[str, Mapping[str, Any]]
    standins: Mapping[str, Mapping[str, str]]

    def module(self, name: str) -> Module:
        """Return a module by its name in the file. Raises BadInput naming file and key."""
        return _named(self.modules, "modules", name)

    def image(self, name: str) -> Image:
        """Return an image's recipe. Raises BadInput naming file and key."""
        return _named(self.images, "images", name)

    def chart(self, name: str) -> Chart:
        """Return where a chart lies. Raises BadInput naming file and key."""
        return _named(self.charts, "charts", name)

    def manifest(self, name: str) -> Manifest:
        """Return what a manifest is made of. Raises BadInput naming file and key."""
        return _named(self.manifests, "manifests", name)

    def module_of(self, command: str) -> Module:
        """Return the module that holds a command. Raises BadInput when none does."""
        for module in self.modules.values():
            if command in module.commands:
                return module
        raise BadInput(f"{FILE}: modules: no module builds {command!r}")


def _named(known: Mapping[str, _T], section: str, name: str) -> _T:
    if name not in known:
        raise BadInput(f"{FILE}: {section}.{name} is missing", facts={"known": ", ".join(known)})
    return known[name]


_SCHEMA = 1
_SECTIONS = ("debian", "python", "wheels", "modules", "programs", "images", "charts", "manifests", "values", "standins")


def load(root: Path) -> Recipes:
    """Read config/packages.yaml under `root`.

    Raises BadInput naming file, line and key for anything unknown, missing or of the wrong type. The section
    `versions` is read by tasks.lib.versions.
    """
    where = str(root / FILE)
    data = yamlfile.mapping(yamlfile.load(root / FILE), where=where, required=("schema", "versions", *_SECTIONS))
    yamlfile.check_schema(data, _SCHEMA, where=where)
    programs = yamlfile.table(data["programs"], where=f"{where}: programs")
    standins = yamlfile.table(data["standins"], where=f"{where}: standins")
    return check(
        Recipes(
            root=root,
            debian=_record(Debian, data["debian"], f"{where}: debian"),
            python=_record(Python, data["python"], f"{where}: python"),
            wheels=_records(Wheel, data["wheels"], f"{where}: wheels"),
            modules=_each(_module, data["modules"], f"{where}: modules"),
            programs={
                name: yamlfile.text(each, "source", where=f"{where}: programs.{name}")
                for name, each in programs.items()
            },
            images=_each(_image, data["images"], f"{where}: images"),
            charts=_records(Chart, data["charts"], f"{where}: charts"),
            manifests=_records(Manifest, data["manifests"], f"{where}: manifests"),
            values=yamlfile.table(data["values"], where=f"{where}: values"),
            standins={
                name: yamlfile.mapping(each, where=f"{where}: standins.{name}", required=("stands_for", "untested"))
                for name, each in standins.items()
            },
        )
    )


def check(recipes: Recipes) -> Recipes:
    """Raise BadInput for a name that leads nowhere: a module, command, wheel or program that is not in the file."""
    for image in recipes.images.values():
        for target, file in image.files.items():
            where = f"{FILE}: images.{image.name}.files.{target}"
            kinds = [kind for kind in ("module", "wheel", "program", "own") if getattr(file, kind)]
            if len(kinds) != 1:
                raise BadInput(f"{where}: one of module, wheel, program, own is wanted")
            known = {"module": recipes.modules, "wheel": recipes.wheels, "program": recipes.programs}.get(kinds[0])
            if known is not None and getattr(file, kinds[0]) not in known:
                raise BadInput(f"{where}: no {kinds[0]} {getattr(file, kinds[0])!r}", facts={"known": ", ".join(known)})
            if file.command and file.command not in recipes.modules[file.module].commands:
                raise BadInput(f"{where}: module {file.module} builds no command {file.command!r}")
    for section, entries in (("charts", recipes.charts), ("manifests", recipes.manifests)):
        for name, entry in entries.items():
            if entry.module and entry.module not in recipes.modules:
                raise BadInput(f"{FILE}: {section}.{name}: no module {entry.module!r}")
    return recipes


def _module(name: str, given: object, where: str) -> Module:
    module = _record(Module, given, where, name=name)
    major, _, rest = module.version.removeprefix("v").partition(".")
    values = {"version": module.version, "major": major, "minor": rest.partition(".")[0]}
    return replace(module, variables=render.fill(dict(module.variables), values, f"{where}.variables"))


def _image(name: str, given: object, where: str) -> Image:
    image = _record(Image, given, where, name=name)
    if image.base not in ("static", "debian"):
        raise yamlfile.bad(given, "base", where, f"{image.base!r} is not a base", allowed="static, debian")
    if image.packages and (image.base != "debian" or image.python):
        raise yamlfile.bad(given, "packages", where, "they are for an image with base debian and without python")
    return replace(image, files=_records(File, image.files, f"{where}.files"))


def _each(read: Callable[[str, Any, str], _T], given: object, where: str) -> dict[str, _T]:
    return {name: read(name, each, f"{where}.{name}") for name, each in yamlfile.table(given, where=where).items()}


def _records(kind: type[_T], given: object, where: str) -> dict[str, _T]:
    return _each(lambda _, each, at: _record(kind, each, at), given, where)


def _record(kind: type[_T], given: object, where: str, **known: str) -> _T:
    """Make a dataclass from a mapping. Its annotations say what is accepted, its defaults what may be left out."""
    wanted = {each.name: each for each in fields(kind) if each.name not in known}  # type: ignore[arg-type]
    required = [name for name, each in wanted.items() if each.default is MISSING and each.default_factory is MISSING]
    optional = [name for name in wanted if name not in required]
    found = yamlfile.mapping(given, where=where, required=required, optional=optional)
    return kind(**known, **{name: _value(wanted[name].type, found, name, where) for name in found})


def _value(wanted: object, given: dict[str, Any], key: str, where: str) -> object:
    if wanted == tuple[str, ...]:
        return yamlfile.texts(given, key, where=where)
    if wanted is str:
        return yamlfile.text(given, key, where=where)
    if wanted in (int, bool):
        if type(given[key]) is not wanted:
            raise yamlfile.bad(
                given, key, where, f"{given[key]!r} is not {'a whole number' if wanted is int else wanted}"
            )
        return given[key]
    return yamlfile.table(given[key], where=f"{where}.{key}")
