"""What has to be locked: everything that versions.yaml and packages.yaml name, and how each value is found out."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from tasks.lib import lockfile, versions
from tasks.lib.lockfetch import Fetchers
from tasks.lib.lockfile import PLATFORMS, Value, Wanted
from tasks.lib.versions import PACKAGES, Chart, Manifest, Tool, Versions


class Module(Protocol):
    """What is needed of a recipe's Go module."""

    @property
    def module(self) -> str:
        """Its path."""

    @property
    def version(self) -> str:
        """Its version."""


class Wheel(Protocol):
    """What is needed of a recipe's wheel."""

    @property
    def package(self) -> str:
        """Its name on PyPI."""

    @property
    def version(self) -> str:
        """Its version."""

    @property
    def sha256(self) -> str:
        """The sha256 that packages.yaml pins."""


def of_versions(pins: Versions) -> list[Wanted]:
    """Return what versions.yaml wants locked. `pins` must be without an overlay, unless only names are compared."""
    node = pins.kubernetes
    return [
        _image("kubernetes", node.node_image, node.digest),
        *(_tool(each) for each in pins.tools.values()),
        *(_chart(each) for each in pins.charts.values()),
        *(_manifest(each) for each in pins.manifests.values()),
        *(_image(f"images.{each.name}", each.ref, each.digest) for each in pins.images.values()),
    ]


def of_packages(modules: Mapping[str, Module], wheels: Mapping[str, Wheel]) -> list[Wanted]:
    """Return what packages.yaml wants locked, beside its own lock of Python packages."""
    return [
        *(_module(f"modules.{name}", each) for name, each in modules.items()),
        *(_wheel(f"wheels.{name}", each) for name, each in wheels.items()),
    ]


def everything(root: Path) -> list[Wanted]:
    """Return all that is to be in the lock."""
    return [*of_versions(versions.load(root)), *_of_recipes(root)]


def told(root: Path, used: Versions, stages: Collection[str]) -> str:
    """Say what these stages take from this source and cannot hold against the lock; nothing when they can."""
    if used.source == PACKAGES:
        wanted = _of_recipes(root)
    else:
        charts = [each for each in used.charts.values() if each.stage in stages]
        files = [each for each in used.manifests.values() if each.stage in stages]
        wanted = [*map(_chart, charts), *map(_manifest, files)]
    return lockfile.told(lockfile.load(root), wanted)


def _of_recipes(root: Path) -> list[Wanted]:
    from tasks.lib.packages import recipes

    found = recipes.load(root)
    return of_packages(found.modules, found.wheels)


def _tool(tool: Tool) -> Wanted:
    def find(fetch: Fetchers) -> Value:
        return {each: fetch.published(tool.at(tool.checksum_url, *each.split("-"))) for each in PLATFORMS}

    return Wanted(key=f"tools.{tool.name}", of=tool.at(tool.url, "{os}", "{arch}"), kind="sha256", find=find)


def _chart(chart: Chart) -> Wanted:
    words = (chart.repo, chart.chart, chart.version)
    return Wanted(key=f"charts.{chart.name}", of=" ".join(words), kind="sha256", find=lambda fetch: fetch.chart(*words))


def _manifest(file: Manifest) -> Wanted:
    return Wanted(key=f"manifests.{file.name}", of=file.url, kind="sha256", find=lambda fetch: fetch.file(file.url))


def _module(key: str, module: Module) -> Wanted:
    words = (module.module, module.version)
    return Wanted(key=key, of="@".join(words), kind="sum", find=lambda fetch: fetch.module(*words))


def _wheel(key: str, wheel: Wheel) -> Wanted:
    of = f"{wheel.package}=={wheel.version}"
    return Wanted(key=key, of=of, kind="sha256", find=lambda _: wheel.sha256, pinned=wheel.sha256)


def _image(key: str, ref: str, pinned: str) -> Wanted:
    """A digest that the publisher states, and versions.yaml pins, needs no asking."""
    return Wanted(key=key, of=ref, kind="digest", find=lambda fetch: pinned or fetch.image(ref), pinned=pinned)
