"""What the AI gateway would be told of models that speak OpenAI's protocol: word for word, and by the definitions.

Nothing applies it: its module is not served, and the component says so, with any source.
"""

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from tasks.components import ai_gateway, platform
from tasks.components.later import Later
from tasks.lib import names, openai, routes
from tasks.lib.box import Box
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.modelling import Model, OpenAI
from tasks.lib.tenancy import Tenant
from tests.render import naming
from tests.render.golden import Golden, text_of
from tests.render.rendering import Rendering, name_of
from tests.render.schemas import Schemas
from tests.render.test_golden import MODEL, TENANT, unpinned

CHAT = replace(MODEL, name="chat", openai=OpenAI())
KEYED = replace(MODEL, name="keyed", openai=OpenAI(tokens_per_hour=5000, key_secret="keyed-api-key"))  # noqa: S106 (a name)
OTHER = replace(TENANT, name="other")
JWKS = {"keys": [{"kid": "one"}]}

__all__ = ["unpinned"]


def drawn(box: Box, tenants: Iterable[Tenant], models: Iterable[Model]) -> list[Obj]:
    return ai_gateway.component(tenants, models).draw(box)


def of_kind(objects: Iterable[Obj], kind: str) -> list[Obj]:
    return [each for each in objects if each["kind"] == kind]


def made(*models: Model, tenant: Tenant = TENANT, revoked: Iterable[str] = ()) -> list[Obj]:
    return openai.tenant_objects(tenant, models, JWKS, revoked)


def test_two_models_of_a_tenant_word_for_word(unpinned: Box, golden: Golden) -> None:
    golden.check("ai-gateway.yaml", text_of(drawn(unpinned, [TENANT, OTHER], [MODEL, CHAT, KEYED])))


def test_the_definitions_take_all_of_it(schemas: Schemas, unpinned: Box) -> None:
    objects = drawn(unpinned, [TENANT, OTHER], [CHAT, KEYED, replace(CHAT, tenant=OTHER.name)])
    assert {"AIGatewayRoute", "AIServiceBackend", "BackendSecurityPolicy"} <= {each["kind"] for each in objects}
    wrong = {name_of(each): [*schemas.problems(each), *naming.problems(each)] for each in objects}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_what_the_definitions_do_not_know_is_seen(schemas: Schemas) -> None:
    (route,) = of_kind(made(CHAT), "AIGatewayRoute")
    assert schemas.problems({**route, "spec": {**route["spec"], "hostnames": ["example.com"]}})
    assert schemas.problems({**route, "spec": {**route["spec"], "schema": {"name": "Telepathy"}}})


def test_nothing_of_it_is_anybody_elses(rendering: Rendering, unpinned: Box) -> None:
    a, b = Tenant(name="a", quota=TENANT.quota), Tenant(name="b", quota=TENANT.quota)
    objects = drawn(unpinned, [a, b], [replace(CHAT, tenant="a"), replace(CHAT, tenant="b")])
    keys = [Ref.of(each).key for each in objects]
    assert len(keys) == len(set(keys)), "two tenants' models may have the same name"
    assert not set(keys) & rendering.owners.keys()


def test_without_such_a_model_there_is_nothing(unpinned: Box) -> None:
    assert drawn(unpinned, [TENANT], [MODEL]) == []


def test_it_is_left_out_and_says_which_models_it_is_about() -> None:
    none, two = (platform([TENANT], models)["ai-gateway"] for models in ([MODEL], [CHAT, KEYED]))
    assert isinstance(none, Later)
    assert none.left_out == "not in this version, from no source: rendered, not applied"
    assert two.left_out == f"{none.left_out} (acme/chat, acme/keyed)"


# Who may ask, and how much


def test_only_a_verified_token_of_the_tenant_is_let_in(schemas: Schemas) -> None:
    (policy,) = of_kind(made(CHAT, revoked=["taken-back"]), "SecurityPolicy")
    (provider,) = policy["spec"]["jwt"]["providers"]
    assert json.loads(provider["localJWKS"]["inline"]) == JWKS
    assert "claimToHeaders" not in provider, "nothing behind it may take a header for a claim"
    assert policy["spec"]["authorization"] == {
        "defaultAction": "Deny",
        "rules": [
            {"name": "revoked-0", "action": "Deny",
             "principal": {"jwt": {"provider": "box", "claims": [{"name": "jti", "values": ["taken-back"]}]}}},
            {"name": "tenant", "action": "Allow",
             "principal": {"jwt": {"provider": "box", "claims": [{"name": "tenant", "values": ["acme"]}]}}},
        ],
    }  # fmt: skip
    assert schemas.problems(policy) == []


def test_a_tenants_policies_are_about_its_own_gateway(unpinned: Box) -> None:
    objects = drawn(unpinned, [TENANT], [CHAT])
    (gateway,) = of_kind(objects, "Gateway")
    home, name = gateway["metadata"]["namespace"], gateway["metadata"]["name"]
    for kind in ("SecurityPolicy", "BackendTrafficPolicy", "ClientTrafficPolicy", "AIGatewayRoute"):
        (each,) = of_kind(objects, kind)
        assert each["metadata"]["namespace"] == home, "a policy reaches what is in its own namespace"
        assert [target["name"] for target in each["spec"]["targetRefs"]] == [name]
        assert {target["kind"] for target in each["spec"]["targetRefs"]} == {"Gateway"}
    assert gateway["spec"]["listeners"][0]["allowedRoutes"] == {"namespaces": {"from": "Same"}}


def test_headers_of_a_client_are_removed_as_at_the_edge(unpinned: Box) -> None:
    (policy,) = of_kind(drawn(unpinned, [TENANT], [CHAT]), "ClientTrafficPolicy")
    assert policy["spec"]["headers"]["earlyRequestHeaders"]["remove"] == list(routes.UNTRUSTED)


def test_tokens_are_counted_from_the_answer_and_requests_over_all_models() -> None:
    (policy,) = of_kind(made(CHAT, KEYED), "BackendTrafficPolicy")
    requests, *budgets = policy["spec"]["rateLimit"]["global"]["rules"]
    assert requests == {"limit": {"requests": TENANT.requests_per_minute, "unit": "Minute"}, "shared": True}
    told = {each["clientSelectors"][0]["headers"][0]["value"]: each["limit"] for each in budgets}
    assert told == {"chat": {"requests": 100_000, "unit": "Hour"}, "keyed": {"requests": 5000, "unit": "Hour"}}
    (route,) = of_kind(made(CHAT), "AIGatewayRoute")
    (counted,) = route["spec"]["llmRequestCosts"]
    for each in budgets:
        assert each["cost"]["request"] == {"from": "Number", "number": 0}
        assert each["cost"]["response"]["metadata"]["key"] == counted["metadataKey"]


@pytest.mark.parametrize(("model", "secrets"), [(CHAT, []), (KEYED, ["keyed-api-key"])])
def test_a_key_goes_along_only_where_the_record_names_one(model: Model, secrets: list[str]) -> None:
    objects = made(model)
    found = of_kind(objects, "BackendSecurityPolicy")
    assert [each["spec"]["apiKey"]["secretRef"]["name"] for each in found] == secrets
    (backend,) = of_kind(objects, "AIServiceBackend")
    assert ("backendSecurityPolicyRef" in backend["spec"]) == bool(secrets)


def test_a_backend_is_the_models_address_inside() -> None:
    (backend,) = of_kind(made(CHAT), "Backend")
    assert backend["spec"]["endpoints"] == [{"fqdn": {"hostname": CHAT.inside, "port": 80}}]
    assert CHAT.inside == f"chat-predictor.{names.tenant_namespace('acme')}.svc.cluster.local"
