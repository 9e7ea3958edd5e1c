"""A container registry over HTTP: ask for digests, push what is missing.

Only what a local registry needs; no authentication. https://github.com/opencontainers/distribution-spec
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from tasks.lib.errors import FetchFailed

if TYPE_CHECKING:
    import requests

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_ACCEPT = ", ".join(
    (
        MANIFEST,
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
_TIMEOUT_S = 60
_CREATED, _ACCEPTED = 201, 202


class Registry:
    """One registry, by the address of its API (`http://127.0.0.1:32768`)."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def answers(self, timeout_s: float = 2) -> bool:
        """Whether the API answers."""
        import requests

        try:
            with self._session() as session:
                return session.get(f"{self.url}/v2/", timeout=timeout_s).ok
        except requests.RequestException:
            return False

    def digest(self, repository: str, reference: str) -> str | None:
        """Return the digest of a manifest, or None when it is not there."""
        with self._session() as session:
            reply = self._send(session, "HEAD", f"/v2/{repository}/manifests/{reference}", headers={"Accept": _ACCEPT})
        return reply.headers.get("Docker-Content-Digest") if reply.ok else None

    def push(
        self, repository: str, tag: str, manifest: bytes, blobs: Iterable[tuple[str, Path | bytes]], shared: str = ""
    ) -> bool:
        """Push an image: blobs that are missing, then its manifest. Return whether anything was sent.

        `blobs` are (digest, content). `shared` is a repository from which layers may be mounted instead of sent.
        Raises FetchFailed when the registry refuses or does not answer.
        """
        wanted = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        if self.digest(repository, tag) == wanted:
            return False
        self.push_blobs(repository, blobs, shared)
        with self._session() as session:
            path = f"/v2/{repository}/manifests/{tag}"
            self._expect(self._send(session, "PUT", path, data=manifest, headers={"Content-Type": MANIFEST}), _CREATED)
        return True

    def push_blobs(self, repository: str, blobs: Iterable[tuple[str, Path | bytes]], shared: str = "") -> None:
        """Push what is missing of these blobs."""
        with self._session() as session:
            for digest, content in blobs:
                self._push_blob(session, repository, digest, content, shared)

    def _push_blob(
        self, session: "requests.Session", repository: str, digest: str, content: Path | bytes, shared: str
    ) -> None:
        if self._send(session, "HEAD", f"/v2/{repository}/blobs/{digest}").ok:
            return
        mount = {"mount": digest, "from": shared} if shared and shared != repository else None
        reply = self._send(session, "POST", f"/v2/{repository}/blobs/uploads/", params=mount)
        if reply.status_code == _CREATED:  # mounted
            return
        self._expect(reply, _ACCEPTED)
        upload = {"params": {"digest": digest}, "headers": {"Content-Type": "application/octet-stream"}}
        if isinstance(content, bytes):
            self._expect(self._send(session, "PUT", reply.headers["Location"], data=content, **upload), _CREATED)
            return
        with content.open("rb") as file:
            self._expect(self._send(session, "PUT", reply.headers["Location"], data=file, **upload), _CREATED)

    def _session(self) -> "requests.Session":
        import requests

        session = requests.Session()
        session.trust_env = False  # a proxy of the machine has no business between us and a local registry
        return session

    def _send(self, session: "requests.Session", method: str, path: str, **more: object) -> "requests.Response":
        import requests

        try:
            return session.request(method, urljoin(f"{self.url}/", path), timeout=_TIMEOUT_S, **more)  # type: ignore[arg-type]
        except requests.RequestException as error:
            raise FetchFailed(
                f"the registry at {self.url} does not answer",
                facts={"request": f"{method} {path}", "cause": error},
                hint="run again; what was pushed is kept",
            ) from error

    def _expect(self, reply: "requests.Response", status: int) -> None:
        if reply.status_code != status:
            raise FetchFailed(
                f"the registry at {self.url} refused a push",
                facts={"request": f"{reply.request.method} {reply.url}", "answer": f"HTTP {reply.status_code}",
                       "cause": reply.text[:300]},
            )  # fmt: skip


def split(ref: str) -> tuple[str, str, str]:
    """Split `docker.io/istio/pilot:1.2.3@sha256:…` into host, repository and reference (the digest when there is one).

    A name without a host belongs to docker.io, and there to `library` when it has no other folder.
    """
    name, _, digest = ref.partition("@")
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = "docker.io", name if slash else f"library/{name}"
    repository, colon, tag = rest.rpartition(":")
    if not colon:
        repository, tag = rest, "latest"
    return host, repository, digest or tag
