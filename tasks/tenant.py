"""tenant.add, tenant.list, tenant.remove; tenant.token, tenant.rotate-keys, tenant.revoke."""

from invoke import Context, task

from tasks.edge import about, edge, needed, session

_WHERE = ("source", "provider", "context", "mirror")


@task(
    help=about(
        *_WHERE, "wait",
        name="The tenant's name: a DNS label. Its namespace is tenant-NAME.",
        summary="One line for people.",
        quota="Limits that differ from the defaults, such as requests.cpu=4,limits.memory=16Gi.",
        **{"requests-per-minute": "Requests to all of its models together. Default: 600."},
    ),
    auto_shortflags=False,
)  # fmt: skip
@edge
def add(
    c: Context,
    name: str = "",
    summary: str = "",
    quota: str = "",
    requests_per_minute: str = "",
    source: str = "",
    provider: str = "",
    context: str = "",
    mirror: str = "",
    wait: bool = True,
) -> None:
    """
    Add a tenant: namespace, quota, rights, policies, keys.

    Adding it again changes nothing, unless its quota or its limit is another. Other tenants are not touched.
    """
    from tasks.lib import tenants

    needed("--name", name)
    opened = session(c, source=source, provider=provider, context=context, mirror=mirror)
    tenants.add(opened, name, summary=summary, quota=quota, requests=requests_per_minute, wait=wait)


@task(help=about(*_WHERE, "json"), name="list", auto_shortflags=False)
@edge
def list_(
    c: Context, source: str = "", provider: str = "", context: str = "", mirror: str = "", json: bool = False
) -> None:
    """
    List the tenants: quota, what they use of it, limit.
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


@task(
    help=about(
        *_WHERE,
        name="The tenant that the token is for.",
        ttl="How long it is valid: 90s, 30m, 1h30m, at most 24h.",
        model="Only for this model of the tenant.",
    ),
    auto_shortflags=False,
)  # fmt: skip
@edge
def token(
    c: Context,
    name: str = "",
    ttl: str = "1h",
    model: str = "",
    source: str = "",
    provider: str = "",
    context: str = "",
    mirror: str = "",
) -> None:
    """
    Print a token for a tenant, alone on standard output.

    For whoever can read the Secret jwt-keys. When it expires, and its id, go to standard error.
    """
    needed("--name", name)
    from tasks.lib import access

    opened = session(c, source=source, provider=provider, context=context, mirror=mirror)
    access.token(opened, name, ttl=ttl, model=model)


@task(
    help=about(
        *_WHERE, "wait", **{
            "drop-previous": "Although tokens of the previous key may be valid: they are refused from now on.",
            "withdraw": "Make all keys anew: every token made so far is refused from now on.",
        },
    ),
    name="rotate-keys", auto_shortflags=False,
)  # fmt: skip
@edge
def rotate_keys(
    c: Context,
    drop_previous: bool = False,
    withdraw: bool = False,
    source: str = "",
    provider: str = "",
    context: str = "",
    mirror: str = "",
    wait: bool = True,
) -> None:
    """
    Sign with the next key. Tokens of this one stay valid.

    Refused while tokens of the key before may be valid. The next key was published before: no valid caller notices.
    """
    from tasks.lib import access

    opened = session(c, source=source, provider=provider, context=context, mirror=mirror)
    access.rotate_keys(opened, drop_previous=drop_previous, withdraw=withdraw, wait=wait)


@task(
    help=about(
        *_WHERE, "wait", jti="The id of the token, as tenant.token printed it.",
        **{"token-file": "A file with the token itself; - is standard input."},
    ),
    auto_shortflags=False,
)  # fmt: skip
@edge
def revoke(
    c: Context,
    jti: str = "",
    token_file: str = "",
    source: str = "",
    provider: str = "",
    context: str = "",
    mirror: str = "",
    wait: bool = True,
) -> None:
    """
    Take a token back before it expires.

    By its id, or by itself from a file. Never on the command line, where others can read it.
    """
    from tasks.lib import access

    opened = session(c, source=source, provider=provider, context=context, mirror=mirror)
    access.revoke(opened, jti=jti, token_file=token_file, wait=wait)


IDENTITY = (token, rotate_keys, revoke)
