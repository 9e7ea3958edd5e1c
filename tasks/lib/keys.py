"""The keys that tokens are signed with: made, published, rotated, and used. Pure: text in, text out.

A ring always has three. Tokens are signed with `current`. `next` is published long before it signs, and `previous`
after it has signed for the last time, so that whoever verifies knows every key that a valid token can name, however
old its copy of the key set is within reason.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.lib.errors import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

ALGORITHM = "ES256"
LEEWAY_S = 60
"""Seconds by which clocks may differ; what Envoy allows as well."""

NAMES = ("previous", "current", "next")

_COORDINATE = 32
_REQUIRED = ("iss", "aud", "sub", "exp", "nbf", "iat", "jti")

Jwks = dict[str, Any]


@dataclass(frozen=True, kw_only=True, repr=False)
class Ring:
    """Three keys as PEM. Of `previous` there is the public half alone: it never signs again."""

    previous: str
    current: str
    next: str

    def __repr__(self) -> str:
        return f"Ring({', '.join(f'{name}={kid(getattr(self, name))}' for name in NAMES)})"

    def record(self) -> dict[str, str]:
        """The ring as it is stored."""
        return {name: getattr(self, name) for name in NAMES}


def new_ring() -> Ring:
    """Make three keys that nobody has seen. Nobody holds the private half of `previous`."""
    return Ring(previous=public(new_key()), current=new_key(), next=new_key())


def read_ring(record: Mapping[str, str], where: str) -> Ring:
    """Return the ring that was stored. Raises BadInput naming the key that is missing or is none; never its content."""
    for name in NAMES:
        if name not in record:
            raise BadInput(f"{where}: {name} is missing", facts={"known": ", ".join(sorted(record))})
        read = _public if name == "previous" else _private
        try:
            read(record[name])
        except (ValueError, TypeError):
            half = "public" if name == "previous" else "private"
            raise BadInput(f"{where}: {name} is not the {half} half of a P-256 key, as PEM") from None
    return Ring(**{name: record[name] for name in NAMES})


def rotate(ring: Ring) -> Ring:
    """Return the ring in which `next` signs. The private half of the key that signed so far is gone."""
    return Ring(previous=public(ring.current), current=ring.next, next=new_key())


def jwks(ring: Ring) -> Jwks:
    """Return what the world may know: the public halves, in the order of their ids."""
    found = [jwk(getattr(ring, name)) for name in NAMES]
    return {"keys": sorted(found, key=lambda each: str(each["kid"]))}


def new_key() -> str:
    """Make a private key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    made = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return made.private_bytes(serialization.Encoding.PEM, form, plain).decode()


def public(pem: str) -> str:
    """Return the public half of a key."""
    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return _public(pem).public_bytes(serialization.Encoding.PEM, form).decode()


def jwk(pem: str) -> dict[str, str]:
    """Return the public half of a key as a JSON Web Key."""
    numbers = _public(pem).public_numbers()
    bare = {"crv": "P-256", "kty": "EC", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}
    return {**bare, "alg": ALGORITHM, "kid": thumbprint(bare), "use": "sig"}


def kid(pem: str) -> str:
    """Return the id of a key. It follows from the key, so that it is the same wherever it is computed."""
    return jwk(pem)["kid"]


def thumbprint(key: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of a JSON Web Key (RFC 7638): of its required members, in order."""
    members = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}[key["kty"]]
    canonical = json.dumps({name: key[name] for name in sorted(members)}, separators=(",", ":"))
    return _encoded(hashlib.sha256(canonical.encode()).digest())


def sign(claims: Mapping[str, Any], pem: str) -> str:
    """Return the claims as a signed token that names its key."""
    import jwt

    return jwt.encode(dict(claims), pem, algorithm=ALGORITHM, headers={"kid": kid(pem)})


def verify(token: str, key_set: Mapping[str, Any], *, issuer: str, audience: str, now: float) -> dict[str, Any]:
    """Return the claims of a token that one of these keys signed, for this audience, and that is valid now.

    Raises BadInput with the reason, and without a word of the token's content. The algorithm is ours and not the
    token's choice.
    """
    import jwt

    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError:
        raise _refused("it is not a token") from None
    if header.get("alg") != ALGORITHM:
        raise _refused(f"it is not signed with {ALGORITHM}")
    key = next((each for each in key_set["keys"] if each["kid"] == header.get("kid")), None)
    if key is None:
        raise _refused("it names a key that is not, or no longer, published")
    try:
        claims: dict[str, Any] = jwt.decode(
            token, jwt.PyJWK(dict(key)).key, algorithms=[ALGORITHM], audience=audience, issuer=issuer,
            options={"require": list(_REQUIRED), "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )  # fmt: skip
    except jwt.InvalidTokenError as error:
        raise _refused(_reason(error)) from None
    _check_times(claims, now)
    return claims


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    """PyJWT only knows the clock of the machine; here time is an argument."""
    if not all(isinstance(claims[name], int) for name in ("exp", "nbf", "iat")):
        raise _refused("its times are not whole numbers")
    if claims["exp"] <= now - LEEWAY_S:
        raise _refused("it has expired")
    if claims["nbf"] > now + LEEWAY_S:
        raise _refused("it is not valid yet")


def _reason(error: Exception) -> str:
    import jwt

    reasons = {
        jwt.InvalidSignatureError: "its signature is wrong",
        jwt.InvalidAudienceError: "it is for another audience",
        jwt.InvalidIssuerError: "it is from another issuer",
        jwt.MissingRequiredClaimError: "a claim is missing",
    }
    return next((text for kind, text in reasons.items() if isinstance(error, kind)), "it is malformed")


def _refused(why: str) -> BadInput:
    return BadInput(f"the token is not accepted: {why}")


def _private(pem: str) -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    found = serialization.load_pem_private_key(pem.encode(), password=None)
    if not (isinstance(found, ec.EllipticCurvePrivateKey) and isinstance(found.curve, ec.SECP256R1)):
        raise TypeError("another kind of key")
    return found


def _public(pem: str) -> "EllipticCurvePublicKey":
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if "PRIVATE KEY" in pem:
        return _private(pem).public_key()
    found = serialization.load_pem_public_key(pem.encode())
    if not (isinstance(found, ec.EllipticCurvePublicKey) and isinstance(found.curve, ec.SECP256R1)):
        raise TypeError("another kind of key")
    return found


def _coordinate(number: int) -> str:
    return _encoded(number.to_bytes(_COORDINATE, "big"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
