"""versions.lock, versions.list."""

from invoke import Context, task

from tasks.edge import about, edge


@task(help={"refresh": "Ask for everything anew; other bytes under a locked name are an error."}, auto_shortflags=False)
@edge
def lock(c: Context, refresh: bool = False) -> None:
    """
    Write config/versions.lock.yaml: checksums and digests.

    Of tools, charts, manifests, images, Go modules and wheels. What is locked and still fits is kept; what cannot be
    had from here is reported as not locked. Safe to repeat.
    """
    from tasks.lib import locking, session, settings

    cache = settings.load(c.config.get("box", {})).cache_dir()
    locking.lock(session.ROOT, cache, refresh=refresh)


@task(help=about("json"), name="list", auto_shortflags=False)
@edge
def list_(_: Context, json: bool = False) -> None:
    """
    List every pin: version, what replaces it, locked or not.

    Changes nothing, and asks nobody.
    """
    from tasks.lib import locking, session

    locking.show(session.ROOT, as_json=json)
