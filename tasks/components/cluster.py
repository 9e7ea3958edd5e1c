"""The cluster itself: made by the provider, or looked at when it is someone else's."""

from dataclasses import dataclass

from tasks.lib.box import Box
from tasks.lib.component import Changes, Look, Say


@dataclass(frozen=True, kw_only=True)
class ClusterComponent:
    """A Kubernetes cluster that answers, with every node Ready."""

    name: str = "cluster"
    stage: str = "cluster"
    summary: str = "a Kubernetes cluster that answers"
    needs: tuple[str, ...] = ()
    timeout_s: float = 300
    exclusive: bool = True
    left_out: str = ""
    images: tuple[str, ...] = ()

    def look(self, box: Box) -> Look:
        """Ask the provider. Changes nothing."""
        return box.provider.look()

    def act(self, box: Box, say: Say) -> Changes:
        """Make it, or repair it, and see that it answers."""
        if box.provider.owned:
            box.prepare(self.stage, say)
        changes = box.provider.create(say)
        if changes.created:
            box.forget_cluster()
        box.kube.version()
        box.tools.path("kubectl")  # for people: .box/bin/kubectl fits the cluster; we ask the API server ourselves
        return changes


COMPONENTS = (ClusterComponent(),)
