"""Behaviours that make a component ready, as small functions: None when observed, otherwise the obstacle in words.

A Deployment that says Available is not proof that its webhook answers (cert-manager#1873, kserve#5037,
knative/serving#6353). A server-side dry run of a real object is.
"""

from collections.abc import Callable

from tasks.lib.box import Box
from tasks.lib.errors import Refused
from tasks.lib.kube.client import Ref
from tasks.lib.render import Obj

Check = Callable[[Box], str | None]


def admits(obj: Obj) -> Check:
    """The API server, and every webhook on the way, takes this object in a dry run."""

    def check(box: Box) -> str | None:
        try:
            box.kube.apply(obj, dry_run=True)
        except Refused as error:
            return f"dry run of {obj['kind']}: {_short(error)}"
        return None

    return check


def refuses(obj: Obj, webhook: str) -> Check:
    """The webhook named refuses this object in a dry run. A refusal by anything else does not count."""

    def check(box: Box) -> str | None:
        try:
            box.kube.apply(obj, dry_run=True)
        except Refused as error:
            denied = f'admission webhook "{webhook}" denied'
            return None if denied in str(error) else f"{webhook} has not answered: {_short(error)}"
        return f"{webhook} let a bad {obj['kind']} through"

    return check


def changes(obj: Obj, seen: Callable[[Obj], bool], what: str) -> Check:
    """A mutating webhook leaves its mark on this object in a dry run: `seen` tells whether it did."""

    def check(box: Box) -> str | None:
        try:
            result = box.kube.apply(obj, dry_run=True)
        except Refused as error:
            return f"dry run of {obj['kind']}: {_short(error)}"
        return None if seen(result) else f"{what} has not happened"

    return check


def answers(namespace: str, service: str, port: int, path: str) -> Check:
    """A Service's endpoint answers 200 to GET, asked through the API server (works for any cluster)."""

    def check(box: Box) -> str | None:
        where = f"/api/v1/namespaces/{namespace}/services/http:{service}:{port}/proxy{path}"
        try:
            box.kube.raw("GET", where)
        except Refused as error:
            return f"{service}:{port}{path}: HTTP {error.status}"
        return None

    return check


def refuses_plain_text(namespace: str, service: str, port: int) -> Check:
    """A Service of the mesh closes a connection that is not the mesh's TLS, asked through the API server.

    The sidecar resets it; an HTTP answer of any kind is one too many, and silence is no proof.
    """

    def check(box: Box) -> str | None:
        where = f"/api/v1/namespaces/{namespace}/services/http:{service}:{port}/proxy/"
        try:
            box.kube.raw("GET", where)
        except Refused as error:
            closed = any(word in str(error) for word in ("connection reset", "EOF"))
            return None if closed else f"{service}:{port}: no refusal: {_short(error)}"
        return f"{service}:{port} answers plain text"

    return check


def exists(ref: Ref) -> Check:
    """An object that a controller makes on its own is there."""

    def check(box: Box) -> str | None:
        return None if box.kube.get(ref) else f"{ref} is not there yet"

    return check


def _short(error: Refused) -> str:
    return str(error).splitlines()[0][:200]
