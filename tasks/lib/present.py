"""What is in the cluster now, for objects that are derived from others."""

from tasks.lib.box import Box
from tasks.lib.errors import BadInput, ClusterGone
from tasks.lib.kube.api import Obj, Ref


def get(box: Box, ref: Ref) -> Obj | None:
    """Return an object; None when it is not there, or when there is no cluster (a rendering)."""
    try:
        return box.kube.get(ref)
    except (BadInput, ClusterGone):
        if box.provider.exists():
            raise
        return None
