"""Where checksums come from when the lock is made: publishers' pages, chart repositories, registries.

Each is bounded in time; what is not reached, or not what it should be, is FetchFailed.
"""

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin

from tasks.lib import mirror, registry, yamlfile
from tasks.lib.errors import BadInput, FetchFailed
from tasks.lib.sources import reach
from tasks.lib.sources.fetch import download

if TYPE_CHECKING:
    import requests

_TIMEOUT_S = (5, 30)
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_HEX = re.compile(r"[0-9a-f]{64}")
_UNAUTHORIZED = 401
_DIGEST_HEADER = "Docker-Content-Digest"


class Fetchers(Protocol):
    """How checksums are found out. Each raises FetchFailed when it cannot be."""

    def file(self, url: str) -> str:
        """Return the sha256 of a file."""

    def published(self, url: str) -> str:
        """Return the sha256 that a publisher's checksum file states."""

    def chart(self, repo: str, chart: str, version: str) -> str:
        """Return the sha256 of a chart's archive."""

    def image(self, ref: str) -> str:
        """Return the digest of an image (of all platforms)."""

    def module(self, module: str, version: str) -> str:
        """Return the h1 sum of a Go module."""


class Published:
    """The fetchers of `invoke versions.lock`. `module` asks Go's own client, which checks the checksum database."""

    def __init__(self, module: Callable[[str, str], str], *, base: Callable[[str], str] = mirror.upstream_url) -> None:
        self._module = module
        self._base = base

    def file(self, url: str) -> str:
        """Return the sha256 of a file."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "file"
            download(url, target)
            with target.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

    def published(self, url: str) -> str:
        """Return the sha256 that a publisher's checksum file states."""
        return published(url)

    def chart(self, repo: str, chart: str, version: str) -> str:
        """Return the sha256 of a chart's archive: from the repository's index, or of the layer that holds it."""
        if repo.startswith("oci://"):
            return self._chart_layer(f"{repo.removeprefix('oci://').rstrip('/')}/{chart}:{version}")
        url = f"{repo.rstrip('/')}/index.yaml"
        try:
            (index,) = yamlfile.parse_all(_get(url).text, where=url)
            known = {str(each["version"]): each for each in index["entries"][chart]}
        except (BadInput, KeyError, TypeError, ValueError) as error:
            raise FetchFailed(f"{url}: not an index with chart {chart}", facts={"cause": error}) from error
        if version not in known:
            raise FetchFailed(f"{url}: no chart {chart} {version}", facts={"known": ", ".join(list(known)[:8])})
        stated = str(known[version].get("digest", "")).removeprefix("sha256:")
        return stated if _HEX.fullmatch(stated) else self.file(urljoin(url, known[version]["urls"][0]))

    def image(self, ref: str) -> str:
        """Return the digest of an image (of all platforms)."""
        host, repository, tag = registry.split(ref)
        reply = self._ask("HEAD", host, f"/v2/{repository}/manifests/{tag}", {"Accept": _ACCEPT})
        return _known(reply.headers.get(_DIGEST_HEADER, "").removeprefix("sha256:"), ref, "sha256:")

    def module(self, module: str, version: str) -> str:
        """Return the h1 sum of a Go module."""
        return self._module(module, version)

    def _chart_layer(self, ref: str) -> str:
        host, repository, tag = registry.split(ref)
        reply = self._ask("GET", host, f"/v2/{repository}/manifests/{tag}", {"Accept": _ACCEPT})
        layers = _json(reply, ref).get("layers", [])
        found = [str(each.get("digest", "")) for each in layers if each.get("mediaType") == _CHART_LAYER]
        if len(found) != 1:
            raise FetchFailed(f"{ref}: not a chart")
        return _known(found[0].removeprefix("sha256:"), ref)

    def _ask(self, method: str, host: str, path: str, headers: Mapping[str, str]) -> "requests.Response":
        """Send a request to a registry, with an anonymous token when it wants one."""
        url = f"{self._base(host)}{path}"
        reply = _get(url, method=method, headers=headers, accept=(_UNAUTHORIZED,))
        if reply.status_code != _UNAUTHORIZED:
            return reply
        wants = dict(_CHALLENGE.findall(reply.headers.get("WWW-Authenticate", "")))
        if "realm" not in wants:
            raise FetchFailed(f"{url}: HTTP {_UNAUTHORIZED}, and it does not say where to get a token")
        answer = _get(wants.pop("realm"), params=wants)
        given = _json(answer, url)
        token = given.get("token") or given.get("access_token")
        return _get(url, method=method, headers={**headers, "Authorization": f"Bearer {token}"})


def published(url: str) -> str:
    """Return the sha256 in a publisher's checksum file: the bare digits, or digits and a file's name."""
    text = _get(url).text
    first = text.split(maxsplit=1)[0].lower() if text.strip() else ""
    return _known(first, url)


def _known(digits: str, where: str, prefix: str = "") -> str:
    if not _HEX.fullmatch(digits):
        raise FetchFailed(f"{where}: no checksum in the answer", facts={"got": digits[:80] or "nothing"})
    return prefix + digits


def _json(reply: "requests.Response", where: str) -> dict[str, Any]:
    try:
        return dict(reply.json())
    except (TypeError, ValueError) as error:
        raise FetchFailed(f"{where}: the answer is not JSON", facts={"cause": error}) from error


def _get(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    accept: tuple[int, ...] = (),
    **more: Any,  # noqa: ANN401 (passed on)
) -> "requests.Response":
    import requests

    try:
        reply = requests.request(method, url, headers=dict(headers or {}), timeout=_TIMEOUT_S, **more)
    except requests.RequestException as error:
        raise FetchFailed(f"{url}: cannot be reached", facts={"cause": reach.innermost(error)}) from error
    if not reply.ok and reply.status_code not in accept:
        raise FetchFailed(f"{url}: HTTP {reply.status_code}")
    return reply
