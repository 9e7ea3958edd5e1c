"""Source `upstream`: the projects' own registries and release pages, with a cache here that outlives `down`."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.lib import mirror, registry, shell
from tasks.lib.errors import CommandFailed, FetchFailed
from tasks.lib.mirror import Engine, Mirror
from tasks.lib.packages.store import Store, file_digest
from tasks.lib.sources import fetch, reach

if TYPE_CHECKING:
    from tasks.lib.component import Say
    from tasks.lib.versions import Chart, Image, Manifest, Versions

NO_TAG_RESOLVING = ("kind.local", "ko.local", "dev.local")
"""Knative's own default."""

_HELM_TIMEOUT_S = 300
_LISTED = 4

Locked = Callable[[str, str], str]
"""From a kind ("charts", "manifests") and a name to the locked sha256; empty when it is not locked yet."""


def nothing_locked(kind: str, name: str) -> str:  # noqa: ARG001 (the form of every lock)
    """Return no checksum: nothing is locked yet."""
    return ""


class Upstream:
    """Everything from where its project publishes it.

    `engine` is None when the nodes are not containers of ours (provider `existing`): then there are no caches.
    `stages` are those of this version: what only others need must not make the source unusable. None means all.
    """

    name = "upstream"

    def __init__(
        self,
        versions: "Versions",
        store: Store,
        *,
        helm: Callable[[], Path],
        locked: Locked = nothing_locked,
        engine: Engine | None = None,
        stages: Collection[str] | None = None,
    ) -> None:
        self._versions = versions
        self._store = store
        self._helm = helm
        self._locked = locked
        self._engine = engine
        self._stages = stages

    def available(self) -> str | None:
        """Ask every registry, chart repository and release page that is needed."""
        addresses = self.addresses()
        failed = reach.probe(addresses)
        if not failed:
            return None
        shown = [f"{host}: {reason}" for host, reason in list(failed.items())[:_LISTED]]
        more = [f"and {len(failed) - _LISTED} more"] if len(failed) > _LISTED else []
        return "\n".join([f"{len(failed)} of {len(addresses)} addresses cannot be used", *shown, *more])

    def addresses(self) -> dict[str, str]:
        """Return what must be reachable: host → the address to ask."""
        found: dict[str, str] = {}
        for chart in filter(self._needed, self._versions.charts.values()):
            if chart.repo.startswith("oci://"):
                host = urlsplit(chart.repo).netloc
                found.setdefault(host, f"{mirror.upstream_url(host)}/v2/")
            else:
                found.setdefault(urlsplit(chart.repo).netloc, f"{chart.repo.rstrip('/')}/index.yaml")
        for manifest in filter(self._needed, self._versions.manifests.values()):
            found.setdefault(urlsplit(manifest.url).netloc, manifest.url)
        return found | {host: f"{mirror.upstream_url(host)}/v2/" for host in self._hosts}

    def describe(self) -> str:
        """Say where things come from."""
        return "the projects' own registries and release pages" + (", cached on this machine" if self._engine else "")

    def tool(self, name: str) -> Path | None:  # noqa: ARG002 (part of the protocol)
        """Tools come from their release pages."""
        return None

    def chart(self, name: str) -> Path:
        """Return the chart's archive, pulled once."""
        chart = self._versions.charts[name]
        target = self._store.path("charts", f"{chart.chart}-{chart.version}.tgz")
        words = (
            [f"{chart.repo.rstrip('/')}/{chart.chart}"]
            if chart.repo.startswith("oci://")
            else [chart.chart, "--repo", chart.repo]
        )
        found = self._store.once(target, lambda work: self._pull(name, [*words, "--version", chart.version], work))
        return fetch.locked(found, self._locked("charts", name))

    def _pull(self, name: str, words: list[str], target: Path) -> None:
        folder = target.parent
        own = {f"HELM_{kind}_HOME": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        try:
            shell.run([self._helm(), "pull", *words, "--destination", folder], env=own, timeout_s=_HELM_TIMEOUT_S)
        except CommandFailed as error:
            raise FetchFailed(
                f"chart {name} could not be pulled",
                facts={"command": " ".join(["helm", "pull", *words]), "cause": error.output},
                hint="check the network and config/versions.yaml, then run again",
            ) from error
        (found,) = folder.glob("*.tgz")
        locked, got = self._locked("charts", name).removeprefix("sha256:"), file_digest(found)
        if locked and got != locked:
            raise FetchFailed(
                f"chart {name}: wrong checksum",
                facts={"locked": f"sha256:{locked}", "got": f"sha256:{got}"},
                hint="if the new chart is right, `invoke versions.lock` records it",
            )
        found.rename(target)

    def manifest(self, name: str) -> Path:
        """Return the manifest, downloaded once."""
        manifest = self._versions.manifests[name]
        target = self._store.path("manifests", f"{name}-{manifest.version}.yaml")
        return fetch.fetch(self._store, manifest.url, target, self._locked("manifests", name))

    def values(self, chart: str) -> Mapping[str, Any]:  # noqa: ARG002 (part of the protocol)
        """Nothing is laid over the charts' values."""
        return {}

    def node_image(self) -> str:
        """Return kind's published node image, by digest where it is pinned."""
        kubernetes = self._versions.kubernetes
        return f"{kubernetes.node_image}@{kubernetes.digest}" if kubernetes.digest else kubernetes.node_image

    def containerd_hosts(self) -> dict[str, str]:
        """Return one entry for each registry: through its cache, or itself when the cache is away."""
        return mirror.cache_hosts(self._hosts) if self._engine else {}

    def registries_without_tag_resolving(self) -> list[str]:
        """Tags are resolved where they are published."""
        return list(NO_TAG_RESOLVING)

    def begin(self, stages: Sequence[str], cancel: threading.Event | None = None) -> None:
        """Nothing takes long enough to begin early."""

    def prepare(self, stages: Sequence[str], say: "Say", cancel: threading.Event | None = None) -> None:
        """Start the caches that these stages pull through."""
        if self._engine is None:
            return
        wanted = {registry.split(each.ref)[0] for each in self._versions.images.values() if each.stage in stages}
        for host in sorted(wanted):
            if cancel and cancel.is_set():
                return
            say(f"starting the cache of {host}")
            self._cache(host).ensure()

    def estimate(self) -> dict[str, float | None]:
        """Return the charts and manifests that are not here yet; how long they take is the network's business."""
        found = [
            f"chart {name}"
            for name, each in self._versions.charts.items()
            if self._needed(each) and not self._store.path("charts", f"{each.chart}-{each.version}.tgz").exists()
        ]
        found += [
            f"manifest {name}"
            for name, each in self._versions.manifests.items()
            if self._needed(each) and not self._store.path("manifests", f"{name}-{each.version}.yaml").exists()
        ]
        return dict.fromkeys(found)

    def standins(self) -> dict[str, str]:
        """Nothing stands in for anything."""
        return {}

    def _cache(self, host: str) -> Mirror:
        assert self._engine is not None  # noqa: S101 (only called where it is set)
        image = self._versions.images["registry"].ref
        return Mirror(
            engine=self._engine, store=self._store, image=image, name=mirror.cache_name(host),
            upstream=mirror.upstream_url(host),
        )  # fmt: skip

    @cached_property
    def _hosts(self) -> list[str]:
        needed = filter(self._needed, self._versions.images.values())
        return sorted({registry.split(each.ref)[0] for each in needed})

    def _needed(self, entry: "Chart | Manifest | Image") -> bool:
        return self._stages is None or entry.stage in self._stages
