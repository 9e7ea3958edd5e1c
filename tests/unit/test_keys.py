"""Keys: what is published of them, how they rotate, and which tokens are not accepted."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest

from tasks.lib import keys
from tasks.lib.errors import BadInput
from tasks.lib.keys import Ring

RING = keys.new_ring()
SET = keys.jwks(RING)
NOW = 1_000_000
GOOD: dict[str, Any] = {
    "iss": "us", "aud": "it", "sub": "tenant:a", "iat": NOW, "nbf": NOW, "exp": NOW + 600, "jti": "1", "tenant": "a",
}  # fmt: skip


def verified(token: str, now: float = NOW) -> dict[str, Any]:
    return keys.verify(token, SET, issuer="us", audience="it", now=now)


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def hs256(secret: str) -> str:
    """Sign by hand: PyJWT refuses to take a public key for a secret, an attacker does not."""
    head = encoded({"alg": "HS256", "typ": "JWT", "kid": keys.kid(RING.current)})
    body = f"{head}.{encoded(GOOD)}"
    mac = hmac.new(secret.encode(), body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def test_a_thumbprint_is_that_of_the_rfc() -> None:
    """RFC 7638, section 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    key = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert keys.thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_the_id_of_a_key_follows_from_the_key() -> None:
    assert keys.kid(RING.current) == keys.kid(RING.current) == keys.kid(keys.public(RING.current))
    assert len({keys.kid(pem) for pem in RING.record().values()}) == 3


def test_only_public_halves_are_published() -> None:
    assert len(SET["keys"]) == 3
    for each in SET["keys"]:
        assert set(each) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert [each["kid"] for each in SET["keys"]] == sorted(each["kid"] for each in SET["keys"])


def test_a_ring_shows_no_key() -> None:
    for text in (repr(RING), str(RING), f"{RING}"):
        assert "PRIVATE" not in text
        assert keys.kid(RING.current) in text


def test_rotation_keeps_exactly_three_and_signs_with_what_was_published_before() -> None:
    after = keys.rotate(RING)
    assert after.current == RING.next
    assert keys.kid(after.previous) == keys.kid(RING.current)
    assert "PRIVATE" not in after.previous
    assert len(keys.jwks(after)["keys"]) == 3
    assert keys.kid(after.current) in {each["kid"] for each in SET["keys"]}
    assert keys.kid(after.next) not in {each["kid"] for each in SET["keys"]}
    assert keys.kid(RING.previous) not in {each["kid"] for each in keys.jwks(after)["keys"]}


def test_a_token_outlives_one_rotation_and_not_two() -> None:
    token = keys.sign(GOOD, RING.current)
    once = keys.rotate(RING)
    assert keys.verify(token, keys.jwks(once), issuer="us", audience="it", now=NOW) == GOOD
    with pytest.raises(BadInput, match="no longer, published"):
        keys.verify(token, keys.jwks(keys.rotate(once)), issuer="us", audience="it", now=NOW)


def test_a_ring_is_stored_and_read() -> None:
    assert keys.read_ring(RING.record(), "Secret x").record() == RING.record()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("current", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0c2VjcmV0\n-----END PRIVATE KEY-----\n"),
        ("current", keys.public(RING.current)),
        ("next", ""),
        ("previous", "nothing"),
    ],
)
def test_a_bad_ring_is_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(BadInput, match=f"Secret x: {name} is not the") as caught:
        keys.read_ring({**RING.record(), name: value}, "Secret x")
    assert "BEGIN" not in str(caught.value)
    assert "c2Vj" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_missing_key_is_named() -> None:
    record = RING.record()
    del record["next"]
    with pytest.raises(BadInput, match="next is missing") as caught:
        keys.read_ring(record, "Secret x")
    assert "BEGIN" not in str(caught.value)


def test_another_curve_is_no_key_of_ours() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(BadInput, match="current is not"):
        keys.read_ring({**RING.record(), "current": pem.decode()}, "Secret x")


def test_a_good_token_is_accepted_and_names_its_key() -> None:
    token = keys.sign(GOOD, RING.current)
    assert verified(token) == GOOD
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": keys.kid(RING.current), "typ": "JWT"}
    assert verified(keys.sign(GOOD, RING.next)) == GOOD


STRANGER = keys.new_key()
PUBLIC = keys.public(RING.current)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "not a token"),
        ("a.b", "not a token"),
        ("é.é.é", "not a token"),
        (f"{encoded({'alg': 'none'})}.{encoded(GOOD)}.", "not signed with ES256"),
        (f"{encoded({'alg': 'none', 'kid': keys.kid(RING.current)})}.{encoded(GOOD)}.", "not signed with ES256"),
        (jwt.encode(GOOD, "", algorithm="none"), "not signed with ES256"),
        (hs256(PUBLIC), "not signed with ES256"),
        (hs256(json.dumps(SET)), "not signed with ES256"),
        (jwt.encode(GOOD, STRANGER, algorithm="ES256"), "no longer, published"),
        (keys.sign(GOOD, STRANGER), "no longer, published"),
        (jwt.encode(GOOD, STRANGER, algorithm="ES256", headers={"kid": keys.kid(RING.current)}), "signature is wrong"),
        (keys.sign({**GOOD, "iss": "them"}, RING.current), "another issuer"),
        (keys.sign({**GOOD, "aud": "that"}, RING.current), "another audience"),
        (keys.sign({**GOOD, "exp": NOW - 60}, RING.current), "expired"),
        (keys.sign({**GOOD, "nbf": NOW + 61}, RING.current), "not valid yet"),
        (keys.sign({**GOOD, "exp": float(NOW + 5)}, RING.current), "not whole numbers"),
        *((keys.sign(without(name), RING.current), "a claim is missing") for name in ("exp", "nbf", "jti", "sub")),
    ],
)
def test_what_is_not_accepted(token: str, why: str) -> None:
    with pytest.raises(BadInput, match=why) as caught:
        verified(token)
    assert not token or token not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_changed_token_is_not_accepted() -> None:
    head, _, signature = keys.sign(GOOD, RING.current).split(".")
    with pytest.raises(BadInput, match="signature is wrong"):
        verified(f"{head}.{encoded({**GOOD, 'tenant': 'b'})}.{signature}")


def test_clocks_may_differ_by_the_leeway() -> None:
    token = keys.sign(GOOD, RING.current)
    assert verified(token, NOW - keys.LEEWAY_S)
    assert verified(token, NOW + 600 + keys.LEEWAY_S - 1)
    for now in (NOW - keys.LEEWAY_S - 1, NOW + 600 + keys.LEEWAY_S):
        with pytest.raises(BadInput):
            verified(token, now)


def test_the_ring_of_others_is_another() -> None:
    assert isinstance(RING, Ring)
    assert not {each["kid"] for each in SET["keys"]} & {each["kid"] for each in keys.jwks(keys.new_ring())["keys"]}
