"""Provider `existing`: the cluster that a kubeconfig names. Its nodes are never touched, and it is never deleted."""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.lib.component import Changes, Look, State
from tasks.lib.errors import BadInput, BoxError
from tasks.lib.providers import Progress

if TYPE_CHECKING:
    from tasks.lib.kube.client import Kube

DEFAULT = Path("~/.kube/config")


class ExistingProvider:
    """Someone else's cluster. `unsupported` returns the products that do not support a version, with their ranges."""

    name = "existing"
    service_type = "LoadBalancer"
    owned = False

    def __init__(self, *, kubeconfig: str, context: str, unsupported: Callable[[str], Mapping[str, str]]) -> None:
        self._given = kubeconfig
        self._context = context
        self._unsupported = unsupported

    def exists(self) -> bool | None:
        """Whether the API server answers. One that does not says nothing of what is in the cluster."""
        try:
            self._kube.version()
        except BoxError:
            return None
        return True

    def look(self) -> Look:
        """Whether the cluster has a version that everything supports. Raises ClusterGone when it does not answer."""
        version = self._kube.version()
        self._require_supported(version)
        return Look(state=State.READY, reason=f"{self._kube.server}, {version}")

    def ensure_engine(self, say: Progress) -> None:
        """Nothing runs on this machine."""

    def create(self, say: Progress) -> Changes:  # noqa: ARG002 (part of the protocol)
        """Create nothing. Raises ClusterGone when the cluster does not answer, BadInput for an unsupported version."""
        self._require_supported(self._kube.version())
        return Changes(unchanged=[f"cluster {self._kube.context}"])

    def delete(self, say: Progress) -> list[str]:  # noqa: ARG002 (part of the protocol)
        """Refuse: it is not ours."""
        raise BadInput(
            f"cluster {self._kube.context} was not made here, and is not deleted",
            hint="invoke down   removes only what carries our label",
        )

    def kubeconfig(self) -> Path:
        """Return the kubeconfig that was named, or that kubectl would use."""
        return find(self._given, os.environ.get("KUBECONFIG", ""))

    def nodes(self) -> list[str]:
        """Return the names of the nodes."""
        return [node["metadata"]["name"] for node in self._kube.list("v1", "Node", heads=True)]

    def load_images(self, refs: Iterable[str], say: Progress) -> None:
        """Do nothing: the nodes fetch what their pods need."""

    def info(self) -> Mapping[str, str]:
        """Return facts for people."""
        kube = self._kube
        return {"provider": self.name, "context": kube.context, "server": kube.server, "kubernetes": kube.version()}

    def gateway_url(self, *, tls: bool = False) -> str:  # noqa: ARG002 (part of the protocol)
        """Return nothing: the gateway's load balancer knows its address."""
        return ""

    @cached_property
    def _kube(self) -> "Kube":
        from tasks.lib.kube.client import Kube

        return Kube(self.kubeconfig(), self._context or None)

    def _require_supported(self, version: str) -> None:
        if outside := self._unsupported(version):
            raise BadInput(
                f"cluster {self._kube.context} runs Kubernetes {version}, which not everything here supports",
                facts={product: f"supports {allowed}" for product, allowed in outside.items()},
                hint="use another cluster with --context, or have one made: --provider kind",
            )


def find(given: str, variable: str) -> Path:
    """Return the kubeconfig: the one given, else the one KUBECONFIG names, else kubectl's default.

    Raises BadInput when KUBECONFIG names several: which of them to write to or read from is not ours to guess.
    """
    if given:
        return Path(given).expanduser()
    listed = [part for part in variable.split(os.pathsep) if part]
    if len(listed) > 1:
        facts = {"KUBECONFIG": variable}
        raise BadInput("KUBECONFIG names several files", facts=facts, hint="name one: INVOKE_BOX_KUBECONFIG=FILE")
    return Path(listed[0] if listed else DEFAULT).expanduser()
