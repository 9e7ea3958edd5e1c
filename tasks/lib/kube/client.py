"""A Kubernetes client: JSON objects in and out, every failure one of ours, safe for threads.

Reads, applies and deletes are repeated for a few seconds when the API server is busy, restarts or closes a connection;
a request that may have had an effect that a repetition would double is not.
"""

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tasks.lib import names
from tasks.lib.errors import BadInput, BoxError
from tasks.lib.kube.api import ApiError, Key, NotServed, Obj, Ref, Resource
from tasks.lib.kube.connection import READ_S, Connection, NoAnswer, Reply
from tasks.lib.kube.discovery import Discovery

__all__ = ["Key", "Kube", "Obj", "Ref", "Resource"]

PATIENCE_S = 8.0
"""Seconds for which a request is repeated while the API server is busy or restarting."""

FIRST_S = 5.0
"""Seconds within which an API server has to say its version."""

_PAGE = 500
_SLOWEST_S = 2.0
_NOT_FOUND, _CONFLICT, _UNAUTHORIZED, _TOO_MANY = 404, 409, 401, 429
_BUSY = frozenset({429, 502, 503, 504})
_HEADS = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


class Kube:
    """One context of a kubeconfig. `cancel` ends the repetitions of a run that is to stop.

    Raises BadInput when there is no such kubeconfig or context; nothing is sent before the first request. Every
    request raises ClusterGone when there is no answer (naming server, context and cause), and Refused when the answer
    is no.
    """

    def __init__(self, kubeconfig: Path, context: str | None = None, *, cancel: threading.Event | None = None) -> None:
        self._connection = Connection(kubeconfig, context)
        self._cancel = cancel or threading.Event()
        self._discovery = Discovery(lambda path: self.raw("GET", path, patience_s=PATIENCE_S))

    @property
    def server(self) -> str:
        """The API server's address."""
        return self._connection.server

    @property
    def context(self) -> str:
        """The name of the context in use."""
        return self._connection.context

    def version(self) -> str:
        """Return the API server's version ("v1.30.0"). Answers, or raises ClusterGone, within seconds."""
        return str(self.raw("GET", "/version", timeout_s=FIRST_S)["gitVersion"])

    def get(self, ref: Ref, *, heads: bool = False) -> Obj | None:
        """Return an object, or None when it or its kind is not there. `heads`: only its metadata."""
        resource = self.resource(ref.api_version, ref.kind)
        if resource is None:
            return None
        accept = _HEADS.format("") if heads else "application/json"
        try:
            found = self.raw("GET", self._path(resource, ref), accept=accept, patience_s=PATIENCE_S, subject=str(ref))
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return _typed(found, resource)

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        selector: str = "",
        *,
        fields: str = "",
        heads: bool = False,
    ) -> list[Obj]:
        """Return all objects of a kind that match, in pages; empty when the kind is not served.

        `selector` is a label selector, `fields` a field selector. `heads`: only their metadata.
        """
        resource = self.resource(api_version, kind)
        if resource is None:
            return []
        path = self._collection(resource, namespace)
        query = {"labelSelector": selector, "fieldSelector": fields, "limit": str(_PAGE)}
        accept = _HEADS.format("List") if heads else "application/json"
        return [_typed(each, resource) for each in self._pages(path, query, accept, f"list of {kind}")]

    def _pages(self, path: str, query: dict[str, str], accept: str, subject: str) -> Iterator[Obj]:
        token: str | None = ""
        while token is not None:
            asked = urlencode({key: value for key, value in {**query, "continue": token}.items() if value})
            try:
                page = self.raw("GET", f"{path}?{asked}", accept=accept, patience_s=PATIENCE_S, subject=subject)
            except ApiError as error:
                if error.status == _NOT_FOUND:  # its definition went away since we asked
                    return
                raise
            yield from page.get("items") or []
            token = page.get("metadata", {}).get("continue") or None

    def apply(self, obj: Obj, *, dry_run: bool = False, force: bool = True, patience_s: float = PATIENCE_S) -> Obj:
        """Server-side apply with our field manager; return the object as it is then.

        Raises Refused with the API server's or the webhook's own words.
        """
        ref = Ref.of(obj)
        resource = self._served(ref)
        query = {"fieldManager": names.FIELD_MANAGER, "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        path = f"{self._path(resource, ref)}?{urlencode(query)}"
        what = f"dry run of {ref}" if dry_run else str(ref)
        found = self.raw(
            "PATCH", path, obj, content_type="application/apply-patch+yaml", patience_s=patience_s, subject=what
        )
        return _typed(found, resource)

    def create(self, obj: Obj) -> Obj:
        """Create an object. Raises Refused with status 409 when it is there already."""
        ref = Ref.of(obj)
        resource = self._served(ref)
        path = f"{self._collection(resource, ref.namespace)}?{urlencode({'fieldManager': names.FIELD_MANAGER})}"
        return _typed(self.raw("POST", path, obj, patience_s=PATIENCE_S, subject=str(ref)), resource)

    def delete(self, ref: Ref, propagation: str = "Background", uid: str | None = None) -> bool:
        """Delete an object, and only the one with that uid when it is given. False when it is not there."""
        resource = self.resource(ref.api_version, ref.kind)
        if resource is None:
            return False
        body: Obj = {"propagationPolicy": propagation, **({"preconditions": {"uid": uid}} if uid else {})}
        try:
            self.raw("DELETE", self._path(resource, ref), body, patience_s=PATIENCE_S, subject=str(ref))
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return False
            raise
        return True

    def end_pods(self, namespace: str) -> None:
        """Delete all pods of a namespace without the time they ask for to end."""
        path = f"/api/v1/namespaces/{quote(namespace)}/pods?gracePeriodSeconds=0"
        self.raw("DELETE", path, patience_s=PATIENCE_S, subject=f"pods of {namespace}")

    def follow(self, pod: Ref, container: str, *, since_s: int, silence_s: float) -> Iterator[str]:
        """Yield the lines of a container's log as they are written, from some seconds ago on.

        Ends when the log does, or when nothing was written for `silence_s` seconds.
        """
        path = log_path(pod, container, follow="true", sinceSeconds=since_s)
        rest = b""
        for chunk in self._connection.stream(path, timeout_s=silence_s):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)

    def served(self, api_version: str, kind: str) -> bool:
        """Whether the API server knows a kind."""
        return self.resource(api_version, kind) is not None

    def resource(self, api_version: str, kind: str) -> Resource | None:
        """Return how a kind is served; a kind that is not known is asked for anew, once for each call."""
        return self._discovery.find(api_version, kind)

    def resources(self) -> tuple[Sequence[Resource], Mapping[str, str]]:
        """Return every kind that is served, in one version each, and why a group could not be asked."""
        return self._discovery.everything()

    def raw(
        self,
        method: str,
        path: str,
        body: Obj | None = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout_s: float = READ_S,
        patience_s: float = 0.0,
        subject: str = "",
    ) -> Any:  # noqa: ANN401 (JSON)
        """Send a request and return the answer: parsed JSON, or text where it is not JSON.

        `subject` names the object for the message of a refusal. With `patience_s` it is repeated for that long, when
        that can do no harm.
        """
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {"Accept": accept, **({"Content-Type": content_type} if data is not None else {})}
        deadline = time.monotonic() + patience_s
        pause = 0.1
        while True:
            reply, error = self._once(method, path, data, headers, timeout_s, subject)
            if reply is not None:
                return _parsed(reply)
            pause = _retry_after(error) or min(pause * 2, _SLOWEST_S) * random.uniform(0.7, 1.0)  # noqa: S311 (jitter)
            late = time.monotonic() + pause > deadline
            if late or not _repeatable(method, error) or self._cancel.wait(pause):
                raise error

    def _once(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str], timeout_s: float, subject: str
    ) -> tuple[Reply | None, BoxError]:
        try:
            reply = self._connection.send(method, path, body=data, headers=headers, timeout_s=timeout_s)
        except NoAnswer as error:
            if "/proxy" in path and error.sent and not error.passing:  # it is the proxied pod that does not answer
                return None, _refusal(Reply(status=504, headers={}, data=b""), subject or path)
            return None, error
        if reply.status < 300:  # noqa: PLR2004
            return reply, BoxError("")
        refusal = _refusal(reply, subject or f"{method} {path}")
        if (reply.status == _UNAUTHORIZED and refusal.reason) or 'User "system:anonymous"' in refusal.message:
            raise self._connection.refused(f"{refusal.message} (expired, or not meant for this cluster)")
        return None, refusal

    def _served(self, ref: Ref) -> Resource:
        resource = self.resource(ref.api_version, ref.kind)
        if resource is None:
            raise NotServed(ref.api_version, ref.kind)
        return resource

    def _collection(self, resource: Resource, namespace: str | None) -> str:
        root = "/apis/" if "/" in resource.api_version else "/api/"
        inside = f"/namespaces/{quote(namespace)}" if namespace and resource.namespaced else ""
        return f"{root}{resource.api_version}{inside}/{resource.plural}"

    def _path(self, resource: Resource, ref: Ref) -> str:
        if resource.namespaced and not ref.namespace:
            raise BadInput(f"{ref} has no namespace")
        return f"{self._collection(resource, ref.namespace)}/{quote(ref.name, safe='')}"


def log_path(pod: Ref, container: str, **query: object) -> str:
    """Return where the API server has a container's log."""
    return f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/log?{urlencode({'container': container, **query})}"


def _typed(obj: Obj, resource: Resource) -> Obj:
    """Name the kind: the items of a list do not carry it, and metadata carries another one."""
    return {**obj, "apiVersion": resource.api_version, "kind": resource.kind}


def _parsed(reply: Reply) -> Any:  # noqa: ANN401 (JSON)
    if "json" in reply.headers.get("Content-Type", ""):
        return json.loads(reply.data)
    return reply.data.decode(errors="replace")


def _refusal(reply: Reply, subject: str) -> ApiError:
    try:
        status = json.loads(reply.data)
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = reply.data.decode(errors="replace").strip()[:500]
        error = ApiError(f"{subject}: HTTP {reply.status}", status=reply.status, message=text)
    else:
        details = status.get("details") or {}
        causes = [str(each.get("reason", "")) for each in details.get("causes") or []]
        message, reason = str(status.get("message", "")), str(status.get("reason", ""))
        first = message.splitlines()[0] if message else f"HTTP {reply.status}"
        error = ApiError(f"{subject}: {first}", status=reply.status, reason=reason, message=message, causes=causes)
    error.retry_after = reply.headers.get("Retry-After", "")
    return error


def _retry_after(error: BoxError) -> float:
    given = error.retry_after if isinstance(error, ApiError) else ""
    return float(given) if given.isdigit() else 0.0


def _repeatable(method: str, error: BoxError) -> bool:
    """Whether the same request again can fare better, and cannot do twice what should be done once."""
    if isinstance(error, NoAnswer):
        return error.passing and not (error.sent and method == "POST")
    if not isinstance(error, ApiError):
        return False
    if error.status == _CONFLICT:  # others wrote at the same time; not when a field belongs to someone else
        return method == "PATCH" and error.reason == "Conflict" and "FieldManagerConflict" not in error.causes
    if error.status in _BUSY:
        return method != "POST" or error.status == _TOO_MANY
    return "etcdserver:" in error.message or "leader changed" in error.message
