"""Files by URL: whole, with the right checksum, or not at all."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.lib.errors import FetchFailed
from tasks.lib.packages.store import Store, file_digest
from tasks.lib.sources import reach

if TYPE_CHECKING:
    import requests

_CONNECT_S, _READ_S = 10, 60
_BLOCK = 1 << 20


def fetch(store: Store, url: str, target: Path, sha256: str = "") -> Path:
    """Return `target`, downloaded if it is not there. `sha256` may be empty when nothing is locked yet.

    Raises FetchFailed when the server does not answer, the download is cut off or the checksum is wrong; nothing is
    left behind then.
    """
    return locked(store.once(target, lambda work: download(url, work, sha256)), sha256)


def locked(path: Path, sha256: str) -> Path:
    """Hold a file against the lock: an earlier run may have fetched it, before it was locked. Raises FetchFailed."""
    wanted = sha256.removeprefix("sha256:")
    if wanted and (got := file_digest(path)) != wanted:
        raise FetchFailed(
            f"{path.name}: not the locked file",
            facts={"file": path, "locked": f"sha256:{wanted}", "got": f"sha256:{got}"},
            hint=f"rm {path}   then run again",
        )
    return path


def download(url: str, target: Path, sha256: str = "") -> None:
    """Download to `target`, checking length and checksum."""
    import requests

    try:
        with requests.get(url, timeout=(_CONNECT_S, _READ_S), stream=True) as reply:
            if not reply.ok:
                raise FetchFailed(f"{url}: HTTP {reply.status_code}", hint="check the address in config/versions.yaml")
            got, size = _write(reply, target)
            promised = reply.headers.get("Content-Length")
    except requests.RequestException as error:
        raise FetchFailed(
            f"{url}: cannot be fetched",
            facts={"cause": reach.innermost(error)},
            hint="check the network, then run again",
        ) from error
    if promised and "Content-Encoding" not in reply.headers and size != int(promised):
        raise FetchFailed(
            f"{url}: the download was cut off", facts={"got": f"{size} of {promised} bytes"}, hint="run again"
        )
    if sha256 and got != sha256.removeprefix("sha256:"):
        raise FetchFailed(
            f"{url}: wrong checksum",
            facts={"locked": f"sha256:{sha256.removeprefix('sha256:')}", "got": f"sha256:{got}"},
            hint="if the new file is right, `invoke versions.lock` records it",
        )


def _write(reply: "requests.Response", target: Path) -> tuple[str, int]:
    sha, size = hashlib.sha256(), 0
    with target.open("wb") as file:
        for block in reply.iter_content(_BLOCK):
            sha.update(block)
            size += len(block)
            file.write(block)
    return sha.hexdigest(), size
