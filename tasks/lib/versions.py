"""config/versions.yaml, typed and strict, with the overlay of source `packages` laid over it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from tasks.lib import compatibility, versionfile, yamlfile
from tasks.lib.compatibility import Outside, Product
from tasks.lib.errors import BadInput
from tasks.lib.versionfile import FILE, STAGES, Overlaid
from tasks.lib.yamlfile import Located

__all__ = ["FILE", "PACKAGES", "STAGES", "TOOLS", "Chart", "Image", "Kubernetes", "Manifest", "Outside", "Overlaid",
           "Pins", "Tool", "Versions", "load"]  # fmt: skip

PACKAGES = "packages"
TOOLS = ("helm", "kind", "kubectl")

T = TypeVar("T")


class Pins(dict[str, T]):
    """The entries of a section by name. One that is not there is the user's error, not the program's."""

    section = ""

    def __missing__(self, name: str) -> T:
        raise BadInput(f"{FILE}: {self.section}.{name} is missing", facts={"known": ", ".join(self)})


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program in the project's own folder, and where its publisher has it. `member`: its path in an archive."""

    name: str
    version: str
    url: str
    checksum_url: str
    member: str = ""

    def at(self, template: str, system: str, machine: str) -> str:
        """Fill one of its templates for a system (linux, darwin) and a machine (amd64, arm64)."""
        return template.replace("{version}", self.version).replace("{os}", system).replace("{arch}", machine)


@dataclass(frozen=True, kw_only=True)
class Kubernetes:
    """The version of the cluster; `node_image` includes its tag, `digest` may be empty."""

    version: str
    node_image: str
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart. `repo` is an https repository or an oci:// folder."""

    name: str
    version: str
    repo: str
    chart: str
    stage: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A file of objects, at its complete address."""

    name: str
    version: str
    url: str
    stage: str


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image by its upstream name. `version` is its tag; `digest` is empty unless the publisher's own is pinned."""

    name: str
    repository: str
    version: str
    stage: str
    digest: str = ""

    @property
    def ref(self) -> str:
        """Repository and tag."""
        return f"{self.repository}:{self.version}"

    @property
    def pinned(self) -> str:
        """The reference with the digest, where there is one."""
        return f"{self.ref}@{self.digest}" if self.digest else self.ref


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Every version a run uses. `outside` lists what an overlay takes beyond the vendors' ranges."""

    source: str
    kubernetes: Kubernetes
    tools: Pins[Tool]
    charts: Pins[Chart]
    manifests: Pins[Manifest]
    images: Pins[Image]
    products: Mapping[str, Product] = field(default_factory=dict)
    overlaid: tuple[Overlaid, ...] = ()
    outside: tuple[Outside, ...] = ()

    @property
    def kubernetes_range(self) -> str:
        """The versions of Kubernetes that every vendor supports."""
        return compatibility.common(self._in_cluster, "kubernetes")

    def unsupported_kubernetes(self, version: str) -> dict[str, str]:
        """Return the products that do not support a cluster of this version, each with its range."""
        return compatibility.unsupported(self._in_cluster, "kubernetes", version)

    @property
    def _in_cluster(self) -> list[Product]:
        """The products that run in the cluster; tools only have to do with one we make ourselves."""
        return [product for product in self.products.values() if not product.pins[0].startswith("tools.")]


def load(root: Path, source: str = "upstream") -> Versions:
    """Read config/versions.yaml under `root`; with source `packages`, the overlay of config/packages.yaml over it.

    What `packages` builds has bytes of its own, so digests that publishers name are left out then.

    Raises BadInput naming file, line and key: unknown or duplicate keys, wrong types, a missing or inexact pin, and
    a pin outside what the vendors support together. An overlay may be outside, because it says why.
    """
    entries, products = versionfile.read(root)
    pins = {key: entry["version"] for key, entry in entries.items()}
    overlaid: list[Overlaid] = []
    if source == PACKAGES:
        overlaid = versionfile.overlay(root, entries)
        entries = {key: _without_digest(entry) for key, entry in entries.items()}
        products = _present(products, entries)
    where = str(root / FILE)
    outside = _outside(products, pins, entries, overlaid, where)
    return replace(_versions(source, entries, where), products=products, overlaid=tuple(overlaid), outside=outside)


def _without_digest(entry: Located) -> Located:
    return yamlfile.relocated({field: value for field, value in entry.items() if field != "digest"}, entry)


def _present(products: Mapping[str, Product], entries: Mapping[str, Located]) -> dict[str, Product]:
    """Leave out pins that the overlay says are absent, and products without any."""
    left = {
        name: replace(product, pins=tuple(pin for pin in product.pins if pin in entries))
        for name, product in products.items()
    }
    return {name: product for name, product in left.items() if product.pins}


def _outside(
    products: Mapping[str, Product], pins: Mapping[str, str], entries: Mapping[str, Located],
    overlaid: Iterable[Overlaid], where: str,
) -> tuple[Outside, ...]:  # fmt: skip
    """Return what the overlay takes beyond the vendors' ranges. Raises BadInput for a pin of ours that is outside."""
    why = {each.key.removesuffix(".version"): each.why for each in overlaid}
    used = {key: str(entry["version"]) for key, entry in entries.items()}
    found = compatibility.check(products, used, stated=pins, why=why)
    wrong = [each for each in found if not each.why]
    if wrong:
        first, *others = wrong
        raise yamlfile.bad(
            entries[first.key], "version", f"{where}: {first.key}", f"{first.version} is outside {first.by}",
            allowed=first.allowed, also="\n".join(str(each) for each in others),
        )  # fmt: skip
    return tuple(found)


def _versions(source: str, entries: Mapping[str, Located], where: str) -> Versions:
    tools = _section(Tool, "tools", entries)
    for name in TOOLS:
        if name not in tools:
            raise BadInput(f"{where}: tools.{name} is missing", facts={"allowed": ", ".join(TOOLS)})
    return Versions(
        source=source,
        kubernetes=Kubernetes(**_filled(entries["kubernetes"])),
        tools=tools,
        charts=_section(Chart, "charts", entries),
        manifests=_section(Manifest, "manifests", entries),
        images=_section(Image, "images", entries),
    )


def _section(kind: Callable[..., T], section: str, entries: Mapping[str, Any]) -> Pins[T]:
    made: Pins[T] = Pins()
    made.section = section
    for key, entry in entries.items():
        if key.startswith(f"{section}."):
            name = key.partition(".")[2]
            made[name] = kind(name=name, **(entry if section == "tools" else _filled(entry)))
    return made


def _filled(entry: Mapping[str, str]) -> dict[str, str]:
    return {field: value.replace("{version}", entry["version"]) for field, value in entry.items()}
