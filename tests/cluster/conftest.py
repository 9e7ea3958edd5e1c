"""One cluster for all tests of this folder: brought up by the first, taken down by the last."""

from collections.abc import Iterator

import pytest

from tests.cluster.platform import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Platform]:
    """The product in a copy of this checkout; its cluster is deleted at the end, unless --keep-cluster is given."""
    made = Platform(tmp_path_factory.mktemp("checkout"))
    made.run("--list").ok()  # sets up the environment, which no test should have to wait for
    yield made
    if not request.config.getoption("--keep-cluster"):
        made.run("down")
