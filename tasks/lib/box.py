"""What every step receives: the settings, the versions, and ways to reach the outside."""

import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tasks.lib.kube.client import Kube
from tasks.lib.providers import Provider
from tasks.lib.settings import Settings
from tasks.lib.sources import Source
from tasks.lib.tools import Tools
from tasks.lib.versions import Versions


@dataclass(kw_only=True)
class Box:
    """One run's view of the platform. Read-only after it is made, and shared by all worker threads."""

    root: Path
    settings: Settings
    versions: Versions
    source: Source
    provider: Provider
    tools: Tools
    cancel: threading.Event = field(default_factory=threading.Event)
    """Set when the run is to stop: every bounded wait looks at it."""

    @cached_property
    def kube(self) -> Kube:
        """The client of the target cluster. Raises ClusterGone or BadInput when there is none to talk to."""
        return Kube(self.provider.kubeconfig(), self.settings.context or None)

    def manifest(self, name: str) -> Path:
        """Return the path of one of our own files under manifests/."""
        return self.root / "manifests" / name
