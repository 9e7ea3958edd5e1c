"""bench.up: how long `up` takes, beside the same things done one after another."""

from invoke import Context, task

from tasks.edge import about, edge


@task(
    help=about("source", "mirror", "json", warm="Images are here already: leave out the run that fetches them."),
    auto_shortflags=False,
)
@edge
def up(_: Context, source: str = "", mirror: str = "", warm: bool = False, json: bool = False) -> None:
    """
    Measure `up`, `up` again, and a script that does the same.

    On a cluster of its own, which is deleted in the end. The aims are printed beside the figures; nothing fails because
    of them. Takes as long as three times `up`, and once more without --warm.
    """
    import sys
    from json import dumps

    from bench import compare, figures
    from tasks.lib import session

    found = compare.Bench(session.ROOT, {"source": source, "mirror": mirror}).compare(warm=warm)
    sys.stdout.write(dumps(figures.values(found), indent=2) + "\n" if json else figures.text(found))
