"""What a token says, how long it may live, and the list of those taken back."""

import pytest

from tasks.lib import keys, tokens
from tasks.lib.errors import BadInput
from tests.commandline import arguments

NOW = 1_000_000.7
A, B, C = ("a" * 32, "b" * 32, "c" * 32)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("1h", 3600), ("1h30m", 5400), ("1h1m1s", 3661), ("24h", 86400), ("1440m", 86400)],
)
def test_a_time_to_live(text: str, seconds: int) -> None:
    assert tokens.parse_ttl(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "1",
        "3600",
        "0s",
        "-1h",
        "1.5h",
        "25h",
        "24h1s",
        "1d",
        "1h 30m",
        "30m1h",
        "1H",
        "\u0661h",
        "9999999h",
        "1h\n2m",
    ],
)
def test_what_is_no_time_to_live(text: str) -> None:
    with pytest.raises(BadInput, match="--ttl"):
        tokens.parse_ttl(text)


def test_the_default_is_one() -> None:
    (ttl,) = [each for each in arguments()["tenant.token"] if each.name == "ttl"]
    assert tokens.parse_ttl(ttl.default) == 3600


def test_claims() -> None:
    found = tokens.claims("acme", ttl_s=60, now=NOW, jti=A)
    assert found == {
        "iss": "https://jwt-server.inference-in-a-box", "aud": "inference", "sub": "tenant:acme", "tenant": "acme",
        "iat": 1_000_000, "nbf": 1_000_000, "exp": 1_000_060, "jti": A,
    }  # fmt: skip
    assert tokens.claims("acme", ttl_s=60, now=NOW, jti=A, model="iris") == {**found, "model": "iris"}


def test_what_is_signed_is_accepted_until_it_expires() -> None:
    ring = keys.new_ring()
    token = keys.sign(tokens.claims("acme", ttl_s=60, now=NOW, jti=A), ring.current)
    assert tokens.verify(token, keys.jwks(ring), NOW)["tenant"] == "acme"
    with pytest.raises(BadInput, match="expired"):
        tokens.verify(token, keys.jwks(ring), NOW + 120)


def test_ids_are_new_each_time_and_have_the_form_that_is_checked() -> None:
    first, second = tokens.new_jti(), tokens.new_jti()
    assert first != second
    assert tokens.check_jti(first) == first


@pytest.mark.parametrize("text", ["", "a", "A" * 32, "g" * 32, "a" * 33, f"{A}\n", "eyJh.eyJp.c2ln"])
def test_a_bad_id_is_not_repeated(text: str) -> None:
    with pytest.raises(BadInput, match="not the id of a token") as caught:
        tokens.check_jti(text)
    assert len(text) < 3 or text not in str(caught.value)


def test_the_list_is_pruned_when_no_clock_can_take_a_token_for_valid() -> None:
    listed = {C: 1200, A: 1000, B: 900}
    assert list(tokens.pruned(listed, 900)) == [A, B, C]
    assert tokens.pruned(listed, 1000) == {A: 1000, C: 1200}
    assert tokens.pruned(listed, 1000 + keys.LEEWAY_S) == {C: 1200}
    assert tokens.pruned(listed, 5000) == {}


def test_one_more_takes_the_expired_off_and_is_never_taken_back_sooner() -> None:
    assert tokens.with_revoked({B: 10}, A, 5000, 1000) == {A: 5000}
    assert tokens.with_revoked({A: 9000}, A, 5000, 1000) == {A: 9000}
    assert tokens.with_revoked({A: 2000}, A, 5000, 1000) == {A: 5000}


def test_a_full_list_says_what_to_do_and_an_expired_one_is_not_full() -> None:
    listed = {f"{number:032x}": 5000 for number in range(tokens.MOST_REVOKED)}
    with pytest.raises(BadInput, match="revoked already") as caught:
        tokens.with_revoked(listed, A, 6000, 1000)
    assert "--withdraw" in caught.value.hint
    assert tokens.with_revoked(listed, next(iter(listed)), 6000, 1000)
    assert tokens.with_revoked(listed, A, 9000, 8000) == {A: 9000}


def test_a_token_without_a_known_end_is_listed_for_as_long_as_any_can_live() -> None:
    assert tokens.last_exp(NOW) == 1_000_000 + 86400 + 60
    assert tokens.stamp(0) == "1970-01-01T00:00:00Z"
