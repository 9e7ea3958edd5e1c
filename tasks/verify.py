"""The command that proves the platform: verify."""

from collections.abc import Sequence

from invoke import Context, Exit, task

from tasks.edge import about, edge, session

_HELP = about(
    "source", "provider", "context", "mirror", "wait", "json",
    only="Stages or check ids, with commas or the option repeated: --only models,network.enforced.",
    mutate="Also take away one policy or setting at a time, and see it noticed. Weakens the platform for seconds.",
    junit="Write a JUnit report to this file as well.",
    list="Print the claims, and check nothing.",
)  # fmt: skip


@task(help=_HELP, iterable=["only"], auto_shortflags=False)
@edge
def verify(
    c: Context,
    only: Sequence[str] | None = None,
    source: str = "",
    provider: str = "",
    context: str = "",
    mirror: str = "",
    junit: str = "",
    mutate: bool = False,
    wait: bool = True,
    json: bool = False,
    list: bool = False,  # noqa: A002 (the option is called that)
) -> None:
    """
    Prove the platform: a table of claims, true or not.

    Models answer, sleep and come back; quotas refuse; tenants are kept apart, and the network is seen to enforce it;
    what runs is what is locked. Exit status 0 unless a claim is false; what could not be checked is skipped, with the
    reason, and counted as that. Makes probe pods and policies of its own and removes them again; whatever a run that
    was cut off has left is removed by the next one.
    """
    from tasks.lib import verifying

    opened = session(c, source=source, provider=provider, context=context, mirror=mirror)
    wanted = [name.strip() for each in only or () for name in each.split(",") if name.strip()]
    if list:
        verifying.claims(opened, wanted, mutate=mutate)
        return
    chosen = verifying.Wanted(only=wanted, mutate=mutate, as_json=json, junit=junit)
    if not verifying.verify(opened, chosen, wait=wait):
        raise Exit(code=1)
