"""Provider `kind`: a cluster of containers on this machine, made and deleted with the `kind` command.

`kind create` leaves half a cluster behind when it is cut off. Before it starts, a marker is written; it goes when every
node is ready. A marker without a whole cluster is the sign to delete and make it anew, and nothing else is.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tasks.lib import names, shell
from tasks.lib.component import Changes, Look, State
from tasks.lib.container import ContainerEngine, Fault, cannot_install, explain
from tasks.lib.errors import BadInput, BoxError, ClusterGone, CommandFailed, NotReady
from tasks.lib.packages.store import Store
from tasks.lib.providers import Progress, machine
from tasks.lib.providers.nodes import CONTROL_PLANE, WORKER, Node, Nodes, Registered, digests

CREATE_S = 600.0
READY_S = 180.0

_DELETE_S = 120.0
_POLL_S = 0.5
_CONTEXT_LINES = 15
_CERTS = '[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/etc/containerd/certs.d"\n'

# `kind` runs with a lock that it inherits: when we are killed and it goes on, the next run waits for it.
_LOCKED = """import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
fcntl.flock(lock, fcntl.LOCK_EX)
os.set_inheritable(lock, True)
os.execv(sys.argv[2], sys.argv[2:])"""


class NodeSource(Protocol):
    """What is needed of a source."""

    def node_image(self) -> str:
        """Return the node image's reference, as the engine knows it."""

    def containerd_hosts(self) -> dict[str, str]:
        """Return, for each registry host (or `_default`), the hosts.toml that the nodes need."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the cluster is to be."""

    cluster: str
    version: str
    workers: int
    http_port: int
    https_port: int
    install: bool = True

    @property
    def ports(self) -> dict[int, int]:
        """The ports of the control plane that are published on this machine: inside → outside."""
        return {names.HTTP_NODE_PORT: self.http_port, names.HTTPS_NODE_PORT: self.https_port}


class KindProvider:
    """A kind cluster. `kind` gives the path of the command, `kubeconfig` is where to write the file."""

    name = "kind"
    service_type = "NodePort"
    owned = True

    def __init__(
        self,
        wanted: Wanted,
        *,
        engine: ContainerEngine,
        source: NodeSource,
        kind: Callable[[], Path],
        store: Store,
        kubeconfig: Path,
    ) -> None:
        self._wanted = wanted
        self._engine = engine
        self._source = source
        self._kind = kind
        self._store = store
        self._kubeconfig = kubeconfig
        self._nodes = Nodes(engine, wanted.cluster)
        self._marker = store.path("clusters", f"{wanted.cluster}.creating")

    def available(self) -> str | None:
        """Ask for an engine; one that may be installed counts."""
        found = self._engine.probe()
        if found.fault is None:
            return None
        reason = cannot_install(install=self._wanted.install)
        if found.fault in (Fault.NO_CLIENT, Fault.NO_DAEMON) and not reason:
            return None
        return f"{found.fault}" + (f" ({reason})" if reason else "")

    def exists(self) -> bool:
        """Whether the cluster has containers, running or not."""
        return self._engine.probe().fault is not Fault.NO_CLIENT and bool(self._nodes.all())

    def nodes(self) -> list[str]:
        """Return the names of the nodes, control plane first."""
        return [node.name for node in self._nodes.all()]

    def look(self) -> Look:
        """Compare the cluster with what is wanted."""
        if fault := self._engine.probe().fault:
            return Look(state=State.ABSENT, reason=str(fault))
        nodes = self._nodes.all()
        if not nodes:
            return Look(state=State.ABSENT, reason=f"there is no cluster {self._wanted.cluster}")
        if reason := self._torn(nodes):
            return Look(state=State.UNHEALTHY, reason=f"{reason}; it will be deleted and made anew")
        self._fits(nodes)
        if stopped := [node.name for node in nodes if not node.running]:
            return Look(state=State.UNHEALTHY, reason=f"stopped: {', '.join(stopped)}")
        try:
            registered = self._nodes.registered(nodes[0].name)
        except CommandFailed as error:
            return Look(state=State.UNHEALTHY, reason=f"the API server does not answer: {_last(error.output)}")
        self._same_version(registered)
        if waiting := [node.name for node in registered if not node.ready]:
            return Look(state=State.UNHEALTHY, reason=f"not ready: {', '.join(waiting)}")
        hosts = digests(self._hosts)
        if stale := [node.name for node in nodes if self._nodes.hosts(node.name) != hosts]:
            return Look(state=State.CHANGED, reason="registry settings", changes=[f"registries of {each}" for each in stale])
        return Look(state=State.READY, reason=f"{len(nodes)} nodes, {registered[0].version}")

    def create(self, say: Progress) -> Changes:
        """Make or repair the cluster."""
        self._engine.ensure(install=self._wanted.install, say=say)
        with self._store.lock(self._lock_name):  # held by a `kind` that outlived its run, until it ends
            nodes = self._nodes.all()
            reason = self._torn(nodes) if nodes else ""
        if reason:
            say(f"{reason}: deleting it and making it anew")
            self._run_kind("delete", "cluster", "--name", self._wanted.cluster, timeout_s=_DELETE_S)
            nodes = []
        created = [] if nodes else self._make(say)
        configured = self._repair(say) if nodes else []
        registered = self._wait(say)
        self._same_version(registered)
        self._marker.unlink(missing_ok=True)
        configured += self._configure()
        self._write_kubeconfig()
        return Changes(created=created, configured=configured, unchanged=[f"node {each.name}" for each in registered
                                                                          if f"node {each.name}" not in created])  # fmt: skip

    def delete(self, say: Progress) -> list[str]:
        """Delete the cluster, and only that; return what was removed."""
        removed = [f"node {name}" for name in self.nodes()] if self.exists() else []
        if removed:
            say(f"deleting cluster {self._wanted.cluster}")
            self._run_kind("delete", "cluster", "--name", self._wanted.cluster, timeout_s=_DELETE_S)
        self._marker.unlink(missing_ok=True)
        self._kubeconfig.unlink(missing_ok=True)
        return removed

    def kubeconfig(self) -> Path:
        """Return the kubeconfig, written anew: a cluster that was made again has other keys."""
        if not self.exists():
            raise ClusterGone(f"there is no cluster {self._wanted.cluster}", hint="invoke up")
        self._write_kubeconfig()
        return self._kubeconfig

    def load_images(self, refs: Iterable[str], say: Progress) -> None:
        """Fetch images to the nodes that pods run on."""
        nodes = self._nodes.all()
        if not nodes:
            raise ClusterGone(f"there is no cluster {self._wanted.cluster}", hint="invoke up")
        wanted = list(refs)
        say(f"fetching {len(wanted)} images to the nodes")
        self._nodes.pull([node.name for node in nodes if node.role == WORKER] or [node.name for node in nodes], wanted)

    def info(self) -> Mapping[str, str]:
        """Return facts for people."""
        wanted = self._wanted
        return {
            "provider": "kind",
            "cluster": wanted.cluster,
            "kubernetes": wanted.version,
            "nodes": ", ".join(f"{node.name} ({node.state})" for node in self._nodes.all()) or "none",
            "gateway": f"{self.gateway_url()}, {self.gateway_url(tls=True)}",
        }

    def gateway_url(self, *, tls: bool = False) -> str:
        """Return the gateway's address on this machine."""
        return f"https://{machine.LOOPBACK}:{self._wanted.https_port}" if tls else f"http://{machine.LOOPBACK}:{self._wanted.http_port}"

    @cached_property
    def _hosts(self) -> dict[str, str]:
        return self._source.containerd_hosts()
