"""tenant.add, tenant.list, tenant.remove."""

from invoke import Context, task

from tasks.edge import about, edge, needed, session

_WHERE = ("source", "provider", "context", "mirror")


@task(
    help=about(
        *_WHERE, "wait",
        name="The tenant's name: a DNS label. Its namespace is tenant-NAME.",
        summary="One line for people.",
        quota="Limits that differ from the defaults, such as requests.cpu=4,limits.memory=16Gi.",
    ),
    auto_shortflags=False,
)  # fmt: skip
@edge
def add(
    c: Context,
    name: str = "",
    summary: str = "",
    quota: str = "",
    source: str = "",
    provider: str = "",
    context: str = "",
    mirror: str = "",
    wait: bool = True,
) -> None:
    """
    Add a tenant: namespace, quota, rights, policies, keys.

    Adding it again changes nothing, unless its quota is another. Other tenants are not touched.
    """
    from tasks.lib import tenants

    needed("--name", name)
    opened = session(c, source=source, provider=provider, context=context, mirror=mirror)
    tenants.add(opened, name, summary=summary, quota=quota, wait=wait)


@task(help=about(*_WHERE, "json"), name="list", auto_shortflags=False)
@edge
def list_(
    c: Context, source: str = "", provider: str = "", context: str = "", mirror: str = "", json: bool = False
) -> None:
    """
    List the tenants, with quota and what they use of it.
    """
    from tasks.lib import tenants

    tenants.show(session(c, source=source, provider=provider, context=context, mirror=mirror), as_json=json)


@task(
    help=about(*_WHERE, "wait", name="The tenant to remove.", force="Remove it although it has models."),
    auto_shortflags=False,
)
@edge
def remove(
    c: Context,
    name: str = "",
    force: bool = False,
    source: str = "",
    provider: str = "",
    context: str = "",
    mirror: str = "",
    wait: bool = True,
) -> None:
    """
    Remove a tenant and everything it has.

    Its namespace, its keys, the models that it stored: nothing is left behind. Refused while models of it are served,
    unless --force.
    """
    from tasks.lib import tenants

    needed("--name", name)
    opened = session(c, source=source, provider=provider, context=context, mirror=mirror)
    tenants.remove(opened, name, force=force, wait=wait)
