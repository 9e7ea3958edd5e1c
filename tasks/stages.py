"""One command for each stage: what it needs is looked at, and repaired if it is not ready; itself is applied."""

from typing import Any

from invoke import Context, Task, task

from tasks.edge import about, edge, session

_SUMMARIES = {
    "cluster": "Make the cluster, or repair it.",
    "certs": "Install cert-manager and the platform's issuer.",
    "mesh": "Install Istio: definitions, control plane, gateway.",
    "serving": "Install Knative Serving, KServe, the model store.",
    "gateway": "Install Envoy Gateway and the identity that it checks.",
    "obs": "Install the observability stack (not in this version).",
    "tenants": "Make the tenants of config/tenants.yaml.",
    "models": "Train and serve the models of config/models.yaml.",
}
_MORE = """\
What it needs is looked at first, and brought up where it is not ready. Safe to repeat: a second run changes nothing."""
_HELP = about("source", "provider", "context", "mirror", "jobs", "force", "wait", "install")


def stage(name: str) -> Task[Any]:
    """Make the command of a stage."""

    def body(
        c: Context,
        source: str = "",
        provider: str = "",
        context: str = "",
        mirror: str = "",
        jobs: str = "",
        force: bool = False,
        wait: bool = True,
        install: bool = True,
    ) -> None:
        from tasks.lib import converge, preflight

        opened = session(
            c, source=source, provider=provider, context=context, mirror=mirror, jobs=jobs, install=install
        )
        preflight.require(opened, name)
        run = converge.up(
            opened, [name], force=force, wait=wait, command=f"invoke {name}", next_command="invoke status"
        )
        if run.error:
            raise run.error

    body.__name__ = name
    body.__doc__ = f"{_SUMMARIES[name]}\n\n{_MORE}"
    made: Task[Any] = task(help=_HELP, auto_shortflags=False)(edge(body))
    return made


TASKS = tuple(stage(name) for name in _SUMMARIES)
