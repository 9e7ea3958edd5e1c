"""The cluster itself: made by the provider, or looked at when it is someone else's."""

from dataclasses import dataclass

from tasks.lib.box import Box
from tasks.lib.component import Changes, Look, Say, State
from tasks.lib.errors import BoxError


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
        """Ask the provider and the cluster. Changes nothing."""
        if not box.provider.exists():
            return Look(state=State.ABSENT, changes=[f"create the cluster {box.settings.cluster}"])
        try:
            version = box.kube.version()
        except BoxError as error:
            return Look(state=State.UNHEALTHY, reason=error.what)
        return Look(state=State.READY, reason=f"Kubernetes {version}")

    def act(self, box: Box, say: Say) -> Changes:
        """Create it when it is absent, make it anew when it is half made, and see that it answers."""
        created = box.provider.ensure(say)
        box.kube.version()
        return Changes(created=[created] if created else [], unchanged=[] if created else ["the cluster"])


COMPONENTS = (ClusterComponent(),)
