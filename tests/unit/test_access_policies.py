"""Who may ask a model, at the edge and at the model's own sidecar: what no policy of ours may ever let through."""

from typing import Any

import pytest

from tasks.lib import isolation, names, routes, tokens
from tasks.lib.modelling import Model
from tasks.lib.tenancy import Tenant

TENANT = Tenant(name="a")
MODEL = Model(name="iris", tenant="a", format="sklearn", trainer="sklearn-iris")
JWKS = {"keys": [{"kid": "one"}]}

Obj = dict[str, Any]


def at_the_edge(kind: str, revoked: list[str] | None = None) -> Obj:
    """Return the tenant's object of a kind, without those that only say "not found"."""
    made = routes.tenant_objects(TENANT, "example.com", JWKS, revoked or [])
    (found,) = [each for each in made if each["kind"] == kind and each["metadata"]["name"] != "not-found"]
    return dict(found["spec"])


def served() -> Obj:
    """Return the one rule of the model's route that leads to the model."""
    (found,) = [each for each in routes.model_route(MODEL, "example.com")["spec"]["rules"] if "backendRefs" in each]
    return dict(found)


def at_the_model(revoked: list[str] | None = None) -> dict[str, Obj]:
    made = isolation.tenant_objects(TENANT, JWKS, revoked or [])
    return {each["metadata"]["name"]: each["spec"] for each in made}


def test_the_edge_lets_in_a_verified_token_of_the_tenant_and_nobody_else() -> None:
    spec = at_the_edge("SecurityPolicy")

    assert spec["authorization"]["defaultAction"] == "Deny"
    (rule,) = spec["authorization"]["rules"]
    assert rule["action"] == "Allow"
    assert rule["principal"]["jwt"]["claims"] == [{"name": "tenant", "values": ["a"]}]
    (provider,) = spec["jwt"]["providers"]
    assert (provider["issuer"], provider["audiences"]) == (tokens.ISSUER, [tokens.AUDIENCE])
    assert "optional" not in spec["jwt"]


@pytest.mark.parametrize("count", [1, routes.MOST_VALUES, routes.MOST_VALUES + 1, 3 * routes.MOST_VALUES])
def test_every_token_taken_back_is_denied_before_anything_is_allowed(count: int) -> None:
    revoked = [f"id-{number}" for number in range(count)]

    *denials, last = at_the_edge("SecurityPolicy", revoked)["authorization"]["rules"]

    assert {each["action"] for each in denials} == {"Deny"}
    listed = [each["principal"]["jwt"]["claims"][0]["values"] for each in denials]
    assert [value for values in listed for value in values] == revoked
    assert max(map(len, listed)) <= routes.MOST_VALUES
    assert last["action"] == "Allow"


def test_the_limit_is_the_tenants_own_and_counts_over_all_of_its_routes() -> None:
    (rule,) = at_the_edge("BackendTrafficPolicy")["rateLimit"]["global"]["rules"]

    (selector,) = rule["clientSelectors"]
    assert selector["headers"] == [{"name": routes.TENANT_HEADER, "type": "Exact", "value": "a"}]
    assert rule["shared"] is True
    assert rule["limit"]["requests"] == TENANT.requests_per_minute


def test_the_header_that_the_limiter_believes_is_never_a_clients_nor_reaches_a_model() -> None:
    assert routes.TENANT_HEADER in routes.UNTRUSTED
    rule = served()
    removed = [each["requestHeaderModifier"]["remove"] for each in rule["filters"] if "requestHeaderModifier" in each]
    assert removed == [[routes.TENANT_HEADER]]


def test_a_route_is_for_the_models_own_paths_and_no_prefix() -> None:
    assert routes.model_route(MODEL, "example.com")["spec"]["hostnames"] == ["iris-predictor.tenant-a.example.com"]
    rule = served()
    assert {each["path"]["type"] for each in rule["matches"]} == {"Exact"}
    assert all("iris" in each["path"]["value"] for each in rule["matches"])


def test_at_the_model_nobody_is_allowed_without_a_verified_token_of_its_tenant() -> None:
    spec = isolation.model_policy(MODEL)["spec"]

    assert spec["action"] == "ALLOW"
    assert spec["selector"]["matchLabels"] == {"serving.kserve.io/inferenceservice": "iris"}
    for rule in spec["rules"]:
        assert {"key": "request.auth.claims[tenant]", "values": ["a"]} in rule["when"]
        assert all(each["source"]["requestPrincipals"] == [f"{tokens.ISSUER}/*"] for each in rule["from"])
        assert all("principals" in each["source"] or "namespaces" in each["source"] for each in rule["from"])


def test_a_token_for_one_model_opens_no_other() -> None:
    conditions = [rule["when"][1] for rule in isolation.model_policy(MODEL)["spec"]["rules"]]

    assert conditions == [
        {"key": "request.auth.claims[model]", "values": ["iris"]},
        {"key": "request.auth.claims[model]", "notValues": ["*"]},
    ]


def test_a_tenants_namespace_is_closed_but_for_knatives_probes_and_metrics() -> None:
    found = at_the_model()

    assert found["deny-by-default"] == {}
    assert set(found) == {"tokens", "deny-by-default", "knative"}
    for rule in found["knative"]["rules"]:
        assert rule["from"] == [{"source": {"namespaces": [names.KNATIVE_NAMESPACE]}}]
        (to,) = rule["to"]
        assert to["operation"]["methods"] == ["GET"]
        assert to["operation"]["paths"] in (["/healthz"], ["/metrics"])


def test_what_was_taken_back_is_denied_at_the_model_too() -> None:
    assert at_the_model(["x", "y"])["revoked"] == {
        "action": "DENY", "rules": [{"when": [{"key": "request.auth.claims[jti]", "values": ["x", "y"]}]}]
    }  # fmt: skip
