"""Where the bytes of charts, manifests, images and tools come from. What they are called is in config/versions.yaml.

`upstream`: the projects' own registries and release pages. `mirror`: one registry and one base address that have them
all. `packages`: built from Go modules, PyPI and Debian. `auto` takes the first that works, and says why not the others.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tasks.lib.errors import BadInput, NotAvailable

if TYPE_CHECKING:
    from tasks.lib.component import Say
    from tasks.lib.settings import Settings
    from tasks.lib.versions import Versions

NAMES = ("upstream", "mirror", "packages")
AUTO = "auto"


class Source(Protocol):
    """One place that everything comes from. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """The word that --source takes."""

    def available(self) -> str | None:
        """Return None when it can work here, otherwise why not. Answers within seconds and changes nothing."""

    def describe(self) -> str:
        """Say in one line where things come from."""

    def tool(self, name: str) -> Path | None:
        """Return a tool that this source makes itself, or None when it is to be downloaded from its release page."""

    def chart(self, name: str) -> Path:
        """Return a chart, fetched once: a folder or a .tgz that helm takes."""

    def manifest(self, name: str) -> Path:
        """Return a manifest, fetched once."""

    def values(self, chart: str) -> Mapping[str, Any]:
        """Return what is laid over our values for a chart (for stand-ins)."""

    def node_image(self) -> str:
        """Return the node image's reference, as the engine knows it."""

    def containerd_hosts(self) -> dict[str, str]:
        """Return, for each registry host (or `_default`), the hosts.toml that the nodes need."""

    def registries_without_tag_resolving(self) -> list[str]:
        """Return the registries whose tags Knative's controller must not resolve itself."""

    def begin(self, stages: Sequence[str], cancel: threading.Event | None = None) -> None:
        """Start in the background on what these stages will need. Returns at once; what fails, fails in `prepare`."""

    def prepare(self, stages: Sequence[str], say: "Say", cancel: threading.Event | None = None) -> None:
        """Get ready what these stages pull. Safe to call for several stages at once; returns when they are ready."""

    def estimate(self) -> dict[str, float | None]:
        """Return what is still to be fetched or built, with seconds where they are known."""

    def standins(self) -> dict[str, str]:
        """Return what stands in for what, and what stays untested because of it."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The source that was taken, the versions it uses, and what was tried."""

    source: Source
    versions: "Versions"
    why: tuple[str, ...]


Make = Callable[[str, "Versions"], Source]


def detect(settings: "Settings", load: Callable[[str], "Versions"], make: Make) -> Choice:
    """Return the source named in the settings; with `auto`, the first that works.

    `load` reads the versions for a source (its overlay included), `make` makes the source. Raises BadInput for an
    unknown name, NotAvailable with everything that was tried when nothing works.
    """
    wanted = candidates(settings)
    tried: dict[str, str] = {}
    for name in wanted:
        versions = load(name)
        source = make(name, versions)
        reason = source.available()
        if reason is None:
            return Choice(source=source, versions=versions, why=_why(settings.source, name, tried))
        tried[name] = reason
    raise NotAvailable(
        "no source of charts and images works here" if len(tried) > 1 else f"source {wanted[0]} does not work here",
        facts=tried,
        hint="check the network, or name a registry that has everything: --source mirror --mirror HOST:PORT",
    )


def candidates(settings: "Settings") -> list[str]:
    """Return the sources that come into question, the preferred one first. Raises BadInput for an unknown name."""
    if settings.source == AUTO:
        return [name for name in NAMES if name != "mirror" or settings.mirror]
    if settings.source in NAMES:
        return [settings.source]
    raise BadInput(f"no source {settings.source!r}", facts={"known": ", ".join((AUTO, *NAMES))})


def _why(asked: str, name: str, tried: Mapping[str, str]) -> tuple[str, ...]:
    passed = [f"not {other}: {' '.join(reason.split())}" for other, reason in tried.items()]
    return (*passed, f"{name}: asked for" if asked == name else f"{name}: the first that works")
