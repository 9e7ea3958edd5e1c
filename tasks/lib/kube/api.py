"""Names for what a Kubernetes API holds, and what the rest of this package needs of a client.

Objects are plain JSON. `Cluster` is met by `client.Kube`, and by the fake that the unit tests use.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from tasks.lib.errors import Refused

Obj = dict[str, Any]


class Key(NamedTuple):
    """What makes an object the same one, whatever API version it is asked for in."""

    group: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, order=True)
class Ref:
    """Names one object. `namespace` is None for what belongs to no namespace."""

    api_version: str
    kind: str
    namespace: str | None
    name: str

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> "Ref":
        """Return the name of an object."""
        meta = obj["metadata"]
        return cls(obj["apiVersion"], obj["kind"], meta.get("namespace") or None, meta["name"])

    @property
    def group(self) -> str:
        """The API group; empty for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def key(self) -> Key:
        """What identifies the object in every version of its API."""
        return Key(self.group, self.kind, self.namespace or "", self.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A kind as the API server serves it. `plural` is its name in a path."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str]


class ApiError(Refused):
    """The API server's own words for a refusal. `reason` is the machine's word ("Forbidden"), `message` the sentence.

    `causes` are the reasons listed below it; `retry_after` is the header of that name.
    """

    def __init__(
        self, what: str, *, status: int, reason: str = "", message: str = "", causes: Iterable[str] = (), hint: str = ""
    ) -> None:
        facts = {"status": f"{status} {reason}".strip()}
        if message and message not in what:
            facts["message"] = message
        super().__init__(what, status=status, facts=facts, hint=hint)
        self.reason, self.message, self.causes = reason, message, tuple(causes)
        self.retry_after = ""


class NotServed(ApiError):  # noqa: N818 (named like the rest of errors.py)
    """The API server does not know this kind (its definition is not there, or not yet)."""

    def __init__(self, api_version: str, kind: str) -> None:
        what = f"the cluster does not know the kind {kind} of {api_version}"
        super().__init__(what, status=404, reason="NotServed", message=what)


_NOT_YET_WORDS = (
    "failed calling webhook",  # its pods are not there yet, its certificate is not known yet, it does not answer
    "no endpoints available for service",
    "is being deleted",
    "status unknown for quota",
)
_NOT_YET_CAUSES = frozenset({"NamespaceTerminating"})


def not_yet(error: Refused) -> bool:
    """Whether the same request can be taken later, without anyone changing it.

    True for a webhook that does not answer (not for one that answers "no"), a kind or a namespace that is not there
    yet, and a namespace or an object that is still going away.
    """
    if isinstance(error, NotServed):
        return True
    if not isinstance(error, ApiError):
        return False
    if error.status == 404:  # noqa: PLR2004 (of a write: the namespace, or the kind behind a stale discovery)
        return True
    return bool(_NOT_YET_CAUSES.intersection(error.causes)) or any(word in error.message for word in _NOT_YET_WORDS)


class Cluster(Protocol):
    """What apply, inventory and wait need of a client. See `client.Kube`."""

    def get(self, ref: Ref, *, heads: bool = False) -> Obj | None:
        """Return an object, or None. `heads`: only its metadata."""

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
        """Return all objects of a kind that match; empty when the kind is not served."""

    def apply(self, obj: Obj, *, dry_run: bool = False, force: bool = True) -> Obj:
        """Server-side apply; return the object as it is then."""

    def create(self, obj: Obj) -> Obj:
        """Create an object; Refused with status 409 when it is there."""

    def delete(self, ref: Ref, propagation: str = "Background", uid: str | None = None) -> bool:
        """Delete an object (that very one, when `uid` is given). False when it was not there."""

    def end_pods(self, namespace: str) -> None:
        """Delete all pods of a namespace without the time they ask for to end."""

    def resource(self, api_version: str, kind: str) -> Resource | None:
        """Return how a kind is served, or None."""

    def resources(self) -> tuple[Sequence[Resource], Mapping[str, str]]:
        """Return every kind that is served, and why a group could not be asked."""
