"""What every step receives: the settings, the versions, and ways to reach the outside."""

import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.lib.component import Say
from tasks.lib.errors import ClusterGone
from tasks.lib.kube.client import Kube
from tasks.lib.providers import Provider
from tasks.lib.settings import Settings
from tasks.lib.sources import Source
from tasks.lib.versions import Versions

if TYPE_CHECKING:
    from tasks.lib.tools import Tools


@dataclass(kw_only=True)
class Box:
    """One run's view of the platform. Read-only after it is made, and shared by all worker threads."""

    root: Path
    settings: Settings
    versions: Versions
    source: Source
    provider: Provider
    tools: "Tools"
    notes: tuple[str, ...] = ()
    """Why this source and this provider were taken, for people."""

    cancel: threading.Event = field(default_factory=threading.Event)
    """Set when the run is to stop: every bounded wait looks at it."""

    _prepared: dict[str, threading.Lock] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)

    @cached_property
    def kube(self) -> Kube:
        """The client of the target cluster. Raises ClusterGone or BadInput when there is none to talk to."""
        return Kube(self.provider.kubeconfig(), self.settings.context or None, cancel=self.cancel)

    def cluster_there(self) -> bool:
        """Whether there is a cluster to look at. Raises ClusterGone when that cannot be said: not known is not none."""
        there = self.provider.exists()
        if there is None:
            self.kube.version()  # says why
            raise ClusterGone("it cannot be said whether there is a cluster", hint="the same again, or   invoke doctor")
        return there

    @cached_property
    def kubernetes(self) -> str:
        """The version that charts are rendered for: the pinned one, or that of a cluster which is not ours."""
        return self.versions.kubernetes.version if self.provider.owned else self.kube.version()

    def forget_cluster(self) -> None:
        """Let the client go: a cluster that was made anew has other keys."""
        vars(self).pop("kube", None)

    def manifest(self, name: str) -> Path:
        """Return the path of one of our own files under manifests/."""
        return self.root / "manifests" / name

    def prepare(self, stage: str, say: Say) -> None:
        """Have the source get ready what a stage pulls, once in a run."""
        with self._prepared.setdefault(stage, threading.Lock()):
            if stage not in self._done:
                self.source.prepare([stage], say, self.cancel)
                self._done.add(stage)
