"""bench.up: how long `up` takes, beside the same things done one after another. bench.path: what each hop costs."""

from invoke import Context, task

from tasks.edge import about, edge, session


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


@task(
    help=about(
        "source", "provider", "context", "mirror", "wait", "json",
        model="The model to ask: NAME, or TENANT/NAME. Default: the first one.",
        rounds="How often each way is measured.",
        rate="Requests a second of the steady load.",
    ),
    auto_shortflags=False,
)  # fmt: skip
@edge
def path(
    c: Context,
    model: str = "",
    rounds: str = "5",
    rate: str = "20",
    source: str = "",
    provider: str = "",
    context: str = "",
    mirror: str = "",
    wait: bool = True,
    json: bool = False,
) -> None:
    """
    Measure a prediction on each way, and what each hop adds.

    Straight to the pod, through Knative, and through every gateway with token and limit, in turn, by fortio from inside
    the cluster; and what a sidecar adds that verifies a token. The aims are printed beside the figures; nothing fails
    because of them.
    """
    import sys

    from bench import path as measuring

    opened = session(c, source=source, provider=provider, context=context, mirror=mirror)
    found, samples = measuring.measure(opened, measuring.wanted(opened, model, rounds, rate), wait=wait)
    sys.stdout.write(measuring.told(opened.box, found, samples, as_json=json))
