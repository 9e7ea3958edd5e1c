"""Options of all tests, and what becomes of those that need a cluster where none can be had."""

import functools
import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep-cluster", action="store_true", help="leave the cluster of the tests for a look at it")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a cluster, before anything is made for it. In CI, where it has to run, that is a failure."""
    if item.get_closest_marker("cluster") is None:
        return
    if reason := no_engine():
        if os.environ.get("CI") == "true":
            pytest.fail(f"not skipped in CI: {reason}", pytrace=False)
        pytest.skip(reason)


@functools.cache
def no_engine() -> str | None:
    """Return why no cluster can be had on this machine; None when one can."""
    from tasks.lib import settings
    from tasks.lib.container import ContainerEngine
    from tasks.lib.packages.store import Store

    chosen = settings.load({})
    return ContainerEngine(Store(chosen.cache_dir())).why_not(install=chosen.install)
