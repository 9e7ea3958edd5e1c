"""One cluster for all tests of this folder: brought up by the first, taken down by the last."""

import signal
from collections.abc import Iterator

import pytest

from tests.cluster.platform import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Platform]:
    """The product in a copy of this checkout; its cluster is deleted at the end, unless --keep-cluster is given."""
    # Where it is ignored (a job in the background) the commands would ignore it too, and never be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    made = Platform(tmp_path_factory.mktemp("checkout"))
    made.run("--list").ok()  # sets up the environment, which no test should have to wait for
    yield made
    if not request.config.getoption("--keep-cluster"):
        made.run("down")
