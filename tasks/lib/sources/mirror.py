"""Source `mirror`: one registry that has every image, and one base address that has the files.

`--mirror` is an address that serves both (`mirror.example.com:5000`, `http://10.0.0.5:5000`), or two of them: registry,
then base (`registry.example.com/proxy,https://files.example.com/box`). Below the base lie `charts/CHART-VERSION.tgz`,
`manifests/NAME-VERSION.yaml` and `tools/NAME-VERSION-OS-ARCH`. Images keep their upstream names.
"""

import platform
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.lib import registry
from tasks.lib.errors import BadInput
from tasks.lib.mirror import hosts_file
from tasks.lib.packages.store import Store
from tasks.lib.sources import reach
from tasks.lib.sources.fetch import fetch
from tasks.lib.sources.upstream import NO_TAG_RESOLVING, Locked, nothing_locked

if TYPE_CHECKING:
    from tasks.lib.component import Say
    from tasks.lib.versions import Versions

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class MirrorSource:
    """Everything from one place that somebody else keeps."""

    name = "mirror"

    def __init__(self, versions: "Versions", store: Store, address: str, *, locked: Locked = nothing_locked) -> None:
        self._versions = versions
        self._store = store
        self._locked = locked
        self.registry, self.base = parse(address)

    def available(self) -> str | None:
        """Ask the registry and the base address."""
        where = urlsplit(self.registry)
        asked = (f"{where.scheme}://{where.netloc}/v2/", f"{self.base}/")
        failed = reach.probe({url: url for url in asked})
        return "\n".join(f"{url}: {reason}" for url, reason in failed.items()) or None

    def describe(self) -> str:
        """Say where things come from."""
        return f"images from {self.registry}; charts, manifests and tools from {self.base}"

    def tool(self, name: str) -> Path | None:
        """Return a tool from below the base address."""
        version = self._versions.tools[name].version
        machine = _ARCHITECTURES.get(platform.machine(), platform.machine())
        path = self._file("tools", name, f"{name}-{version}-{platform.system().lower()}-{machine}")
        path.chmod(0o755)
        return path

    def chart(self, name: str) -> Path:
        """Return the chart's archive from below the base address."""
        chart = self._versions.charts[name]
        return self._file("charts", name, f"{chart.chart}-{chart.version}.tgz")

    def manifest(self, name: str) -> Path:
        """Return the manifest from below the base address."""
        return self._file("manifests", name, f"{name}-{self._versions.manifests[name].version}.yaml")

    def values(self, chart: str) -> Mapping[str, Any]:  # noqa: ARG002 (part of the protocol)
        """Nothing is laid over the charts' values."""
        return {}

    def node_image(self) -> str:
        """Return kind's node image under the mirror's name: the engine, unlike the nodes, knows no hosts.toml."""
        kubernetes = self._versions.kubernetes
        _, repository, tag = registry.split(kubernetes.node_image)
        where = urlsplit(self.registry)
        name = f"{where.netloc}{where.path}/{repository}"
        return f"{name}@{kubernetes.digest}" if kubernetes.digest else f"{name}:{tag}"

    def containerd_hosts(self) -> dict[str, str]:
        """Return one entry that stands for every registry."""
        return {"_default": hosts_file(self.registry)}

    def registries_without_tag_resolving(self) -> list[str]:
        """Return every registry: the controller in the cluster would ask the real ones."""
        return unresolved(self._versions)

    def begin(self, stages: Sequence[str], cancel: threading.Event | None = None) -> None:
        """Nothing takes long enough to begin early."""

    def prepare(self, stages: Sequence[str], say: "Say", cancel: threading.Event | None = None) -> None:
        """Nothing: the mirror has what it has."""

    def estimate(self) -> dict[str, float | None]:
        """Return nothing: what is in the mirror is near."""
        return {}

    def standins(self) -> dict[str, str]:
        """Nothing stands in for anything."""
        return {}

    def _file(self, kind: str, name: str, file: str) -> Path:
        target = self._store.path(kind, file)
        return fetch(self._store, f"{self.base}/{kind}/{file}", target, self._locked(kind, name))


def parse(address: str) -> tuple[str, str]:
    """Split what `--mirror` was given into the registry's and the base's address. Raises BadInput for nonsense."""
    parts = [each.strip() for each in address.split(",")]
    if not address.strip() or len(parts) > 2 or not all(parts):  # noqa: PLR2004 (registry and base)
        raise BadInput(
            f"--mirror {address!r} is not an address",
            hint="HOST:PORT, an http(s) address, or registry and base address with a comma between",
        )
    full = [each if "://" in each else f"https://{each}" for each in parts]
    for each in full:
        if urlsplit(each).scheme not in ("http", "https") or not urlsplit(each).netloc:
            raise BadInput(f"--mirror {address!r}: {each!r} is not an http(s) address")
    return full[0].rstrip("/"), full[-1].rstrip("/")


def unresolved(versions: "Versions") -> list[str]:
    """Return the registries of all images as Knative's controller spells them."""
    hosts = {registry.split(each.ref)[0] for each in versions.images.values()}
    spelled = {"index.docker.io" if host == "docker.io" else host for host in hosts}
    return [*NO_TAG_RESOLVING, *sorted(hosts | spelled)]
