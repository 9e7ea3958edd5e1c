"""Fixtures of the tests that render: the schemas, and the platform for each kind of provider, made once."""

from pathlib import Path

import pytest

from tests.render import schemas as module
from tests.render.golden import Golden
from tests.render.rendering import PROVIDERS, Rendering, box
from tests.render.schemas import Schemas

OPTION = "--update-golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites golden files."""
    parser.addoption(OPTION, action="store_true", help="tests/render: rewrite the golden files, and look at the diff")


@pytest.fixture(scope="session")
def schemas() -> Schemas:
    return module.load()


@pytest.fixture(scope="session", params=PROVIDERS)
def rendering(request: pytest.FixtureRequest, schemas: Schemas) -> Rendering:
    """The platform, on each kind of provider in turn."""
    return Rendering(box=box(request.param), schemas=schemas)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    update = bool(request.config.getoption(OPTION, default=False))
    return Golden(folder=Path(__file__).parent / "golden", update=update)
