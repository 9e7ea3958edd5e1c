"""Keys and revocations where they are kept: the Secret `jwt-keys`, the ConfigMaps `jwks` and `jwt-revoked`.

The Secret is the one source. What the world may know of it is derived anew each time, so that nothing can disagree
with it. Private halves go to the API server and nowhere else: not to a file, a log, a digest, a message.
"""

import base64
import json
from collections.abc import Mapping

from tasks.lib import keys, names, present, tokens
from tasks.lib.box import Box
from tasks.lib.errors import BadInput, NotReady
from tasks.lib.keys import Jwks, Ring
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.objects import secret

SECRET = "jwt-keys"  # noqa: S105 (a name)
JWKS = "jwks"
REVOKED = "jwt-revoked"
JWKS_KEY = "jwks"
"""The key in the ConfigMap: the one that Envoy Gateway looks for."""

ROTATED = f"{names.DOMAIN}/rotated-at"
"""Annotation of the Secret: when `next` last began to sign, in seconds since 1970."""

_SECRET = Ref("v1", "Secret", names.PLATFORM_NAMESPACE, SECRET)
_REVOKED = Ref("v1", "ConfigMap", names.PLATFORM_NAMESPACE, REVOKED)


def ring(box: Box) -> Ring:
    """Return the keys. Raises NotReady when there are none yet, Refused for whoever may not read them."""
    return _ring(_live(box))


def public_jwks(box: Box) -> Jwks:
    """Return the public halves, as they are now. Without a cluster or a Secret (a rendering) there are none.

    Whoever puts them into an object needs the component `jwt-keys`.
    """
    found = present.get(box, _SECRET)
    return keys.jwks(_ring(found)) if found else {"keys": []}


def revoked(box: Box) -> dict[str, int]:
    """Return the tokens that were taken back: id → when it would have expired, in the order of the ids.

    What has expired since is still in it until the list is next written, so that nothing changes by itself.
    """
    found = present.get(box, _REVOKED)
    return {jti: int(exp) for jti, exp in sorted(((found or {}).get("data") or {}).items())}


def rotate(box: Box, *, now: float, drop_previous: bool = False, withdraw: bool = False) -> Ring:
    """Let `next` sign from now on, and return the ring. `withdraw` makes all three anew instead.

    Raises BadInput while a token of `previous` may still be valid, unless `drop_previous`.
    """
    live = _live(box)
    until = rotated_at(live) + tokens.LONGEST_S + keys.LEEWAY_S
    if now < until and not (drop_previous or withdraw):
        raise BadInput(
            f"the keys were rotated less than {tokens.LONGEST_S // 3600}h ago",
            facts={
                "cause": f"tokens of the previous key may be valid until {tokens.stamp(until)}",
                "skipped": "nothing was changed",
            },
            hint="invoke tenant.rotate-keys --drop-previous   refuses those",
        )
    made = keys.new_ring() if withdraw else keys.rotate(_ring(live))
    wanted = keys_secret(made)
    wanted["metadata"]["annotations"] = {ROTATED: "0" if withdraw else str(int(now))}
    _write(box, wanted, live)
    return made


def revoke(box: Box, jti: str, exp: int, now: float) -> dict[str, int]:
    """Put a token on the list, take off what has expired, and return the list. Raises BadInput when it is full."""
    live = box.kube.get(_REVOKED)
    if live is None:
        raise _nothing_yet(REVOKED)
    listed = tokens.with_revoked(revoked(box), jti, exp, now)
    _write(box, revoked_map(listed), live)
    return listed


def rotated_at(live: Obj) -> int:
    """Return when the keys were last rotated; 0 when they never were: then `previous` has signed nothing."""
    return int((live["metadata"].get("annotations") or {}).get(ROTATED, "0"))


def keys_secret(made: Ring) -> Obj:
    """The Secret of a ring."""
    return secret(SECRET, names.PLATFORM_NAMESPACE, made.record(), {ROTATED: "0"})


def jwks_map(found: Jwks) -> Obj:
    """The ConfigMap that publishes a key set."""
    return _config_map(JWKS, {JWKS_KEY: json.dumps(found, indent=1, sort_keys=True) + "\n"})


def revoked_map(listed: Mapping[str, int]) -> Obj:
    """The ConfigMap of the tokens that were taken back."""
    return _config_map(REVOKED, {jti: str(exp) for jti, exp in listed.items()})


def _config_map(name: str, data: dict[str, str]) -> Obj:
    meta = {"name": name, "namespace": names.PLATFORM_NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def _ring(live: Obj) -> Ring:
    try:
        record = {name: base64.b64decode(value).decode() for name, value in (live.get("data") or {}).items()}
    except ValueError:
        raise BadInput(f"Secret {SECRET}: a key is not text") from None
    return keys.read_ring(record, f"Secret {SECRET}")


def _live(box: Box) -> Obj:
    found = box.kube.get(_SECRET)
    if found is None:
        raise _nothing_yet(SECRET)
    return found


def _write(box: Box, wanted: Obj, live: Obj) -> None:
    """Apply, unless somebody else has written since it was read (then Refused, status 409)."""
    version = live["metadata"]["resourceVersion"]
    box.kube.apply({**wanted, "metadata": {**wanted["metadata"], "resourceVersion": version}}, patience_s=0)


def _nothing_yet(name: str) -> NotReady:
    return NotReady(f"{name} is not there yet", facts={"skipped": "nothing was changed"}, hint="invoke gateway")
