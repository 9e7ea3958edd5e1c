"""test: the checks of this repository, for those who change it and for CI."""

from invoke import Context, Exit, task

from tasks.edge import edge

_HELP = {
    "only": "lint, unit, render or cluster; can be given several times. Default: all.",
    "keyword": "Only tests whose names match (pytest -k).",
    "keep-cluster": "Leave the cluster of the tests.",
}


@task(help=_HELP, name="test", iterable=["only"], auto_shortflags=False)
@edge
def run_tests(_: Context, only: list[str] | None = None, keyword: str = "", keep_cluster: bool = False) -> None:
    """
    Run linters, types, unit, render and cluster tests.

    Everything is run, also after a failure; what is skipped is listed with the reason. Exit status 1 when anything
    failed. The tests on a cluster make one of their own; with CI=true they must not be skipped.
    """
    from tasks.lib import suites

    if not suites.run_all(only or (), keyword=keyword, keep_cluster=keep_cluster):
        raise Exit(code=1)
