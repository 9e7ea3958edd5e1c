"""What a token says, how long it lives, and the list of those that are taken back. Pure."""

import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from tasks.lib import keys, names
from tasks.lib.errors import BadInput

ISSUER = f"https://{names.JWT_SERVER}.{names.PLATFORM_NAMESPACE}"
AUDIENCE = "inference"
LONGEST_S = 24 * 3600
"""Seconds that a token may live at most; a key that no longer signs is published for at least as long."""

MOST_REVOKED = 1000
"""Tokens on the list: every verifier holds all of it."""

_TTL = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?")
_JTI = re.compile(r"[0-9a-f]{32}")


def parse_ttl(text: str) -> int:
    """Return the seconds of "90s", "30m", "1h", "1h30m". Raises BadInput for anything else, and beyond the limits."""
    match = _TTL.fullmatch(text.strip())
    if not match or not any(match.groups()):
        raise BadInput(f"--ttl: {text!r} is not a time with a unit", hint="--ttl 90s, --ttl 30m, --ttl 1h30m")
    hours, minutes, rest = (int(each or 0) for each in match.groups())
    seconds = hours * 3600 + minutes * 60 + rest
    if not 0 < seconds <= LONGEST_S:
        raise BadInput(f"--ttl: {text} is not between 1s and {LONGEST_S // 3600}h")
    return seconds


def new_jti() -> str:
    """Make the id of a token."""
    return secrets.token_hex(16)


def check_jti(text: str) -> str:
    """Return a token's id. Raises BadInput when it is none; what was given is not repeated, it may be a token."""
    if not _JTI.fullmatch(text):
        raise BadInput(
            "--jti: not the id of a token: 32 hexadecimal digits in lower case",
            hint="invoke tenant.revoke --token-file FILE   takes a token itself",
        )
    return text


def claims(tenant: str, *, ttl_s: int, now: float, jti: str, model: str = "") -> dict[str, Any]:
    """Return what a token says: whose it is, for what, from when to when. `model` narrows it to one model."""
    begun = int(now)
    return {
        "iss": ISSUER, "aud": AUDIENCE, "sub": f"tenant:{tenant}", "tenant": tenant,
        "iat": begun, "nbf": begun, "exp": begun + ttl_s, "jti": jti, **({"model": model} if model else {}),
    }  # fmt: skip


def verify(token: str, key_set: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return the claims of a token of ours that is valid now. Raises BadInput with the reason."""
    return keys.verify(token, key_set, issuer=ISSUER, audience=AUDIENCE, now=now)


def last_exp(now: float) -> int:
    """Return when the last token that is there now will have expired, to every verifier's clock."""
    return int(now) + LONGEST_S + keys.LEEWAY_S


def pruned(revoked: Mapping[str, int], now: float) -> dict[str, int]:
    """Return the list without tokens that have expired by themselves, to every verifier's clock."""
    return {jti: exp for jti, exp in sorted(revoked.items()) if exp + keys.LEEWAY_S > now}


def with_revoked(revoked: Mapping[str, int], jti: str, exp: int, now: float) -> dict[str, int]:
    """Return the list with one more. It is never taken back sooner than it was. Raises BadInput when it is full."""
    found = pruned({**revoked, jti: max(exp, revoked.get(jti, 0))}, now)
    if len(found) > MOST_REVOKED:
        raise BadInput(
            f"{MOST_REVOKED} tokens are revoked already, and none of them has expired",
            facts={"skipped": "nothing was changed"},
            hint="invoke tenant.rotate-keys --withdraw   refuses every token made so far",
        )
    return found


def stamp(seconds: float) -> str:
    """Return a time for people, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
