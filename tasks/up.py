"""The commands for the whole platform: up, down, plan, status, render, doctor."""

from invoke import Context, Exit, task

from tasks.edge import about, edge, session

_RUN = about("source", "provider", "context", "mirror", "jobs", "force", "fail-fast", "wait", "install")


@task(help=_RUN, auto_shortflags=False)
@edge
def up(
    c: Context,
    source: str = "",
    provider: str = "",
    context: str = "",
    mirror: str = "",
    jobs: str = "",
    force: bool = False,
    fail_fast: bool = False,
    wait: bool = True,
    install: bool = True,
) -> None:
    """
    Bring up the whole platform, and ask a model.

    Makes a cluster if there is none, installs what is missing, repairs what was changed by hand, removes what is no
    longer wanted. Safe to repeat: a second run changes nothing and says so. Safe to interrupt: run it again.

    `invoke doctor` says beforehand whether this machine has what it takes. Ports, workers and the like are set in
    invoke.yaml, or for one run with a variable, such as INVOKE_BOX_HTTP_PORT=8090.
    """
    from tasks.lib import converge, demo, preflight

    opened = session(c, source=source, provider=provider, context=context, mirror=mirror, jobs=jobs, install=install)
    preflight.require(opened)
    run = converge.up(opened, force=force, fail_fast=fail_fast, wait=wait, next_command="invoke verify")
    if run.error:
        raise run.error
    demo.show(opened, run)


@task(help=about("source", "provider", "context", "mirror", "wait"), auto_shortflags=False)
@edge
def down(
    c: Context, source: str = "", provider: str = "", context: str = "", mirror: str = "", wait: bool = True
) -> None:
    """
    Remove what a run made, and nothing else.

    A cluster that we made is deleted. On any other cluster, only objects that carry our label are; volumes stay. What
    is left is printed, also when that is nothing. Downloads and builds stay in the cache.
    """
    from tasks.lib import teardown

    teardown.down(session(c, source=source, provider=provider, context=context, mirror=mirror), wait=wait)


@task(help=about("source", "provider", "context", "mirror", "json"), auto_shortflags=False)
@edge
def plan(
    c: Context, source: str = "", provider: str = "", context: str = "", mirror: str = "", json: bool = False
) -> None:
    """
    Say what `up` would do, and change nothing.

    For each component: skip, apply, repair or blocked, with the objects that would change; then what would be fetched
    or built.
    """
    from tasks.lib import planning

    planning.show(session(c, source=source, provider=provider, context=context, mirror=mirror), as_json=json)


@task(help=about("source", "provider", "context", "mirror", "json"), auto_shortflags=False)
@edge
def status(
    c: Context, source: str = "", provider: str = "", context: str = "", mirror: str = "", json: bool = False
) -> None:
    """
    Show every component's state as it is now.

    Exit status 0 only when everything is ready. Changes nothing.
    """
    from tasks.lib import planning

    opened = session(c, source=source, provider=provider, context=context, mirror=mirror)
    if not planning.status(opened, as_json=json):
        raise Exit(code=1)


@task(help=about("source", "provider", "context", "mirror"), auto_shortflags=False)
@edge
def render(c: Context, source: str = "", provider: str = "", context: str = "", mirror: str = "") -> None:
    """
    Write every object that `up` would apply to .box/rendered/.

    One file for each component, to read or to compare. Secrets are not written.
    """
    from tasks.lib import planning

    planning.render(session(c, source=source, provider=provider, context=context, mirror=mirror))


@task(help=about("source", "provider", "context", "mirror", "json"), auto_shortflags=False)
@edge
def doctor(
    c: Context, source: str = "", provider: str = "", context: str = "", mirror: str = "", json: bool = False
) -> None:
    """
    Check this machine, and say how to mend what it lacks.

    Engine, memory, disk, ports, sources, cluster. Changes nothing.
    """
    from tasks.lib import preflight

    options = {"source": source, "provider": provider, "context": context, "mirror": mirror}
    if not preflight.show(c.config.get("box", {}), options, as_json=json):
        raise Exit(code=3)
