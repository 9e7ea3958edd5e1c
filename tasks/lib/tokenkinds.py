"""Tokens of every kind that is to be refused, and the one that is not. Pure."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tasks.lib import keys, tokens

_HOUR_S = 3600


class Kind(StrEnum):
    """What is wrong with a token; `RIGHT` is what `tenant.token` mints, `NEXT` what it will after the next rotation."""

    NONE = "none"
    MALFORMED = "malformed"
    UNSIGNED = "alg none"
    HMAC = "HS256 with the public key"
    TAMPERED = "changed after signing"
    WRONG_ISSUER = "wrong issuer"
    WRONG_AUDIENCE = "wrong audience"
    EXPIRED = "expired"
    NOT_YET = "not yet valid"
    REVOKED = "revoked"
    ROTATED_OUT = "rotated out"
    OTHER_MODEL = "for another model"
    NEXT = "of the next key"
    RIGHT = "right"


VALID = (Kind.RIGHT, Kind.NEXT)
ANONYMOUS = (Kind.NONE, Kind.MALFORMED)
"""Kinds that name nobody."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Mint:
    """What tokens are made with: the keys that sign now, soon, and no longer, and the id that is taken back."""

    signing: str
    coming: str
    rotated_out: str
    revoked_jti: str

    def token(self, kind: Kind, tenant: str, now: float, *, wants: str = "", ttl_s: int = _HOUR_S) -> str:
        """Return a token of a kind that a tenant would have; empty for none. Times are in seconds since 1970.

        `wants` is the tenant that whoever changes it after signing says to be.
        """
        if kind in ANONYMOUS:
            return "" if kind is Kind.NONE else "not.a.token"
        said = {**tokens.claims(tenant, ttl_s=ttl_s, now=now, jti=self._jti(kind)), **_wrong(kind, now)}
        if kind is Kind.UNSIGNED:
            return f"{_header('none', '')}.{_part(said)}."
        if kind is Kind.HMAC:
            return _hmac(said, self.signing)
        other = {Kind.ROTATED_OUT: self.rotated_out, Kind.NEXT: self.coming}
        token = keys.sign(said, other.get(kind, self.signing))
        return _tampered(token, {**said, **_of(wants or tenant)}) if kind is Kind.TAMPERED else token

    def _jti(self, kind: Kind) -> str:
        return self.revoked_jti if kind is Kind.REVOKED else tokens.new_jti()


def _of(tenant: str) -> dict[str, Any]:
    return {"sub": f"tenant:{tenant}", "tenant": tenant, "jti": tokens.new_jti()}


def _wrong(kind: Kind, now: float) -> dict[str, Any]:
    begun = int(now)
    wrong: dict[Kind, dict[str, Any]] = {
        Kind.WRONG_ISSUER: {"iss": "https://issuer.example"},
        Kind.WRONG_AUDIENCE: {"aud": "another"},
        Kind.EXPIRED: {"iat": begun - 2 * _HOUR_S, "nbf": begun - 2 * _HOUR_S, "exp": begun - _HOUR_S},
        Kind.NOT_YET: {"nbf": begun + _HOUR_S, "exp": begun + 2 * _HOUR_S},
        Kind.OTHER_MODEL: {"model": "another"},
    }
    return wrong.get(kind, {})


def _tampered(token: str, said: Mapping[str, Any]) -> str:
    """Keep header and signature, and say something else: what is signed is not what is read."""
    header, _, signature = token.split(".")
    return f"{header}.{_part(said)}.{signature}"


def _hmac(said: Mapping[str, Any], pem: str) -> str:
    """Sign with the public key as if it were a shared secret: a verifier that lets the token choose accepts it."""
    signed = f"{_header('HS256', keys.kid(pem))}.{_part(said)}"
    digest = hmac.new(keys.public(pem).encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_encoded(digest)}"


def _header(algorithm: str, kid: str) -> str:
    return _part({"alg": algorithm, "typ": "JWT", **({"kid": kid} if kid else {})})


def _part(value: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
