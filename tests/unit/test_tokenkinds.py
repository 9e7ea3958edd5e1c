"""Tokens that are to be refused are refused for the reason that their name says, and the right one is not."""

import json

import jwt
import pytest

from tasks.lib import keys, tokens
from tasks.lib.errors import BadInput
from tasks.lib.tokenkinds import VALID, Kind, Mint

NOW = 1_800_000_000.0
RING = keys.new_ring()
STALE = keys.new_key()
MINT = Mint(signing=RING.current, coming=RING.next, rotated_out=STALE, revoked_jti="0" * 32)
KNOWN = keys.jwks(RING)

REASONS = {
    Kind.MALFORMED: "it is not a token",
    Kind.UNSIGNED: "it is not signed with ES256",
    Kind.HMAC: "it is not signed with ES256",
    Kind.TAMPERED: "its signature is wrong",
    Kind.WRONG_ISSUER: "it is from another issuer",
    Kind.WRONG_AUDIENCE: "it is for another audience",
    Kind.EXPIRED: "it has expired",
    Kind.NOT_YET: "it is not valid yet",
    Kind.ROTATED_OUT: "it names a key that is not, or no longer, published",
}


@pytest.mark.parametrize("kind", REASONS)
def test_each_is_wrong_in_its_own_way(kind: Kind) -> None:
    with pytest.raises(BadInput, match=REASONS[kind]):
        tokens.verify(MINT.token(kind, "a", NOW), KNOWN, NOW)


@pytest.mark.parametrize("kind", [*VALID, Kind.REVOKED, Kind.OTHER_MODEL])
def test_what_is_not_wrong_with_the_token_itself_is_valid(kind: Kind) -> None:
    said = tokens.verify(MINT.token(kind, "a", NOW), KNOWN, NOW)
    assert said["tenant"] == "a"
    assert (said["jti"] == "0" * 32) is (kind is Kind.REVOKED)
    assert said.get("model") == ("another" if kind is Kind.OTHER_MODEL else None)


def test_every_kind_is_one_of_those() -> None:
    assert {*REASONS, *VALID, Kind.REVOKED, Kind.OTHER_MODEL, Kind.NONE} == set(Kind)
    assert MINT.token(Kind.NONE, "a", NOW) == ""


def test_a_stale_key_is_right_while_it_is_known() -> None:
    before = {"keys": [*KNOWN["keys"], keys.jwk(STALE)]}
    assert tokens.verify(MINT.token(Kind.ROTATED_OUT, "a", NOW), before, NOW)["tenant"] == "a"


def test_the_hmac_is_one_that_a_careless_verifier_accepts() -> None:
    token = MINT.token(Kind.HMAC, "a", NOW)
    public = keys.public(RING.current)
    with pytest.raises(jwt.InvalidKeyError):  # PyJWT knows the trick
        jwt.decode(token, public, algorithms=["HS256"], audience=tokens.AUDIENCE)
    import hashlib
    import hmac

    signed, _, signature = token.rpartition(".")
    digest = hmac.new(public.encode(), signed.encode(), hashlib.sha256).digest()
    assert jwt.utils.base64url_decode(signature) == digest


def test_who_changes_a_token_says_to_be_whom_he_asks() -> None:
    token = MINT.token(Kind.TAMPERED, "b", NOW, wants="a")
    said = json.loads(jwt.utils.base64url_decode(token.split(".")[1]))
    assert (said["tenant"], said["sub"]) == ("a", "tenant:a")


def test_no_key_is_shown() -> None:
    assert "PRIVATE" not in repr(MINT)
