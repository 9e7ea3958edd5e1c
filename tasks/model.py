"""model.list, model.predict."""

from invoke import Context, task

from tasks.edge import about, edge, needed, session

_WHERE = ("source", "provider", "context", "mirror")


@task(help=about(*_WHERE, "json"), name="list", auto_shortflags=False)
@edge
def list_(
    c: Context, source: str = "", provider: str = "", context: str = "", mirror: str = "", json: bool = False
) -> None:
    """
    List the models, with state, replicas and URL.
    """
    from tasks.lib import catalogue

    catalogue.show(session(c, source=source, provider=provider, context=context, mirror=mirror), as_json=json)


@task(
    help=about(
        *_WHERE,
        name="The model: its name, or TENANT/NAME.",
        data="The instances as JSON, such as '[[5.1, 3.5, 1.4, 0.2]]'; @FILE reads them. Default: the model's example.",
        protocol="v1 or v2.",
    ),
    auto_shortflags=False,
)
@edge
def predict(
    c: Context,
    name: str = "",
    data: str = "",
    protocol: str = "v1",
    source: str = "",
    provider: str = "",
    context: str = "",
    mirror: str = "",
) -> None:
    """
    Ask a model and print its predictions as JSON.

    A model at zero starts first; the time is on standard error.
    """
    from tasks.lib import catalogue

    needed("--name", name)
    opened = session(c, source=source, provider=provider, context=context, mirror=mirror)
    catalogue.predict(opened, name, data=data, protocol=protocol)
