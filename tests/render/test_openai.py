"""What the AI gateway would be told of a model: word for word, and against the definitions. Nothing applies it here."""

import pytest

from tasks.lib import openai
from tasks.lib.render import Obj
from tests.render.golden import Golden, text_of
from tests.render.schemas import Schemas
from tests.render.test_golden import MODEL


def test_a_model_on_the_ai_gateway(golden: Golden) -> None:
    golden.check("ai-gateway.yaml", text_of(openai.objects(MODEL)))


@pytest.mark.parametrize("obj", openai.objects(MODEL), ids=lambda obj: obj["kind"])
def test_the_definitions_take_it(schemas: Schemas, obj: Obj) -> None:
    assert schemas.problems(obj) == []


def test_what_the_definitions_do_not_know_is_seen(schemas: Schemas) -> None:
    route = next(each for each in openai.objects(MODEL) if each["kind"] == "AIGatewayRoute")
    bad = {**route, "spec": {**route["spec"], "hostnames": ["example.com"]}}
    assert schemas.problems(bad)
