"""Where the cluster comes from: `kind` makes one on this machine, `existing` takes the one a kubeconfig names.

State is asked of the container engine or the API server each time, never kept.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from tasks.lib.component import Changes, Look

Progress = Callable[[str], None]


class Provider(Protocol):
    """One way to have a cluster."""

    @property
    def name(self) -> str:
        """The word that --provider takes."""

    @property
    def service_type(self) -> str:
        """The type of the Service through which clients reach the gateway: NodePort or LoadBalancer."""

    @property
    def owned(self) -> bool:
        """Whether the cluster is ours to make and to delete."""

    def exists(self) -> bool | None:
        """Whether the cluster is there, in whatever state. None when what would know does not answer."""

    def look(self) -> Look:
        """Compare the cluster with what is wanted. Changes nothing.

        Raises BadInput when the cluster can never become what is wanted (another version, other ports).
        """

    def ensure_engine(self, say: Progress) -> None:
        """Make sure of what runs the nodes (a container engine), before anything is built for them."""

    def create(self, say: Progress) -> Changes:
        """Make the cluster, or repair it, and return when all of its nodes are ready. Safe to repeat."""

    def delete(self, say: Progress) -> list[str]:
        """Delete the cluster; return the names of what was removed (empty: nothing was there)."""

    def kubeconfig(self) -> Path:
        """Return the file with which the cluster is reached. Raises ClusterGone when there is no cluster."""

    def nodes(self) -> list[str]:
        """Return the names of the nodes."""

    def load_images(self, refs: Iterable[str], say: Progress) -> None:
        """Fetch images to the nodes ahead of the pods that need them. Those that are there are not fetched again."""

    def info(self) -> Mapping[str, str]:
        """Return facts for people."""

    def gateway_url(self, *, tls: bool = False) -> str:
        """Return the address at which this machine reaches the gateway; empty when its Service has to be asked."""
