"""Provider `kind`: a cluster of containers on this machine, made and deleted with the `kind` command."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from tasks.lib.compatibility import triple
from tasks.lib.component import Changes, Look, State
from tasks.lib.container import ContainerEngine, Fault
from tasks.lib.errors import BadInput, ClusterGone, CommandFailed, NotReady
from tasks.lib.packages.store import Store
from tasks.lib.providers import Progress, machine
from tasks.lib.providers.kindcommand import KindCommand, Wanted
from tasks.lib.providers.nodes import CONTROL_PLANE, WORKER, Node, Nodes, Registered, digests

READY_S = 180.0

_POLL_S = 0.5
_NO_ENGINE = (Fault.NO_CLIENT, Fault.OTHER_ENGINE)
_ANEW = "invoke down   then   invoke up"


class NodeSource(Protocol):
    """What is needed of a source."""

    def node_image(self) -> str:
        """Return the node image's reference, as the engine knows it."""

    def containerd_hosts(self) -> dict[str, str]:
        """Return, for each registry host (or `_default`), the hosts.toml that the nodes need."""


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
        self._nodes = Nodes(engine, wanted.cluster)
        self._kind = KindCommand(wanted.cluster, kind, store, kubeconfig)
        self._kubeconfig = kubeconfig

    def exists(self) -> bool | None:
        """Whether the cluster has containers, running or not. An engine that does not answer may have them."""
        fault = self._engine.probe().fault
        if fault in _NO_ENGINE:
            return False
        return None if fault else bool(self._nodes.all())

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
        if torn := self._torn(nodes):
            return Look(state=State.UNHEALTHY, reason=f"{torn}; it will be deleted and made anew")
        if stopped := _names(node for node in nodes if not node.running):
            return Look(state=State.UNHEALTHY, reason=f"stopped: {', '.join(stopped)}")
        status = self._status(nodes)
        if isinstance(status, str):
            return Look(state=State.UNHEALTHY, reason=status)
        return self._look_at_registries(nodes) or Look(
            state=State.READY, reason=f"{len(nodes)} nodes, {status[0].version}"
        )

    def _look_at_registries(self, nodes: list[Node]) -> Look | None:
        wanted = digests(self._source.containerd_hosts())
        stale = [f"registries of {name}" for name in _names(nodes) if self._nodes.hosts(name) != wanted]
        why = "the nodes' registry settings are not those of the source"
        return Look(state=State.CHANGED, reason=why, changes=stale) if stale else None

    def ensure_engine(self, say: Progress) -> None:
        """Make sure of the container engine; install and start one where that may be done."""
        self._engine.ensure(install=self._wanted.install, say=say)

    def create(self, say: Progress) -> Changes:
        """Make the cluster, or repair it: start what is stopped, delete and make anew what was cut off.

        Raises BadInput when a cluster of this name is there and can never become what is wanted, NotAvailable for what
        the machine lacks, NotReady naming the nodes that are not ready in time, ClusterGone when it is deleted
        meanwhile.
        """
        self.ensure_engine(say)
        nodes = self._sound(say)
        created: list[str] = []
        configured: list[str] = []
        if nodes:
            configured = self._start(nodes, say)
        else:
            created = self._make(say)
        registered = self._wait(say)
        self._kind.finished()
        configured += self._write_hosts()
        self._kind.write_kubeconfig()
        unchanged = [f"node {node.name}" for node in registered if f"node {node.name}" not in created + configured]
        return Changes(created=created, configured=configured, unchanged=unchanged)

    def delete(self, say: Progress) -> list[str]:
        """Delete the cluster, and only that. Return what was removed; the engine stays.

        Raises NotAvailable when there is an engine that may have it, and that does not answer.
        """
        if self._engine.probe().fault not in _NO_ENGINE:
            self.ensure_engine(say)
        removed = [f"node {name}" for name in self.nodes()] if self.exists() is not False else []
        if removed:
            say(f"deleting cluster {self._wanted.cluster}")
            self._kind.delete()
        self._kind.finished()
        self._kubeconfig.unlink(missing_ok=True)
        return removed

    def kubeconfig(self) -> Path:
        """Return the kubeconfig, written anew: a cluster that was made again has other keys."""
        return self._kind.write_kubeconfig()

    def load_images(self, refs: Iterable[str], say: Progress) -> None:
        """Fetch images to the nodes that pods run on."""
        nodes = self._nodes.all()
        if not nodes:
            raise ClusterGone(f"there is no cluster {self._wanted.cluster}", hint="invoke up")
        wanted = list(refs)
        say(f"fetching {len(wanted)} images to the nodes")
        self._nodes.pull(_names(node for node in nodes if node.role == WORKER) or _names(nodes), wanted)

    def info(self) -> Mapping[str, str]:
        """Return facts for people."""
        nodes = ", ".join(f"{node.name} ({node.state})" for node in self._nodes.all()) if self.exists() else ""
        return {
            "provider": self.name,
            "cluster": self._wanted.cluster,
            "kubernetes": self._wanted.version,
            "nodes": nodes or "none",
            "gateway": f"{self.gateway_url()}, {self.gateway_url(tls=True)}",
        }

    def gateway_url(self, *, tls: bool = False) -> str:
        """Return the gateway's address on this machine."""
        scheme, port = ("https", self._wanted.https_port) if tls else ("http", self._wanted.http_port)
        return f"{scheme}://{machine.LOOPBACK}:{port}"

    def _sound(self, say: Progress) -> list[Node]:
        """Return the cluster's nodes, none when there is none or when it had to be deleted because it was torn."""
        if self._kind.unfinished:
            self._kind.wait_for_other()
        nodes = self._nodes.all()
        if torn := self._torn(nodes):
            say(f"{torn}: deleting it and making it anew")
            self._kind.delete()
            return []
        return nodes

    def _torn(self, nodes: list[Node]) -> str:
        """Return why what is there is only the beginning of a cluster; empty when it is whole, or not our doing."""
        if not nodes or not self._kind.unfinished:
            return ""
        reason = f"the creation of cluster {self._wanted.cluster} was cut off"
        whole = len(nodes) == 1 + self._wanted.workers and all(node.running for node in nodes)
        if not whole or nodes[0].role != CONTROL_PLANE:
            return reason
        try:
            known = {node.name for node in self._nodes.registered(nodes[0].name)}
        except (CommandFailed, ClusterGone):
            return reason
        return "" if known == set(_names(nodes)) else reason

    def _make(self, say: Progress) -> list[str]:
        machine.require_ports(self._wanted.ports.values(), self._holder)
        machine.raise_inotify(say)
        image = self._source.node_image()
        try:
            self._kind.create(self._wanted, image, say)
        finally:
            nodes = self._nodes.all()
            if not nodes:  # kind removes what it made when it fails
                self._kind.finished()
        return [f"node {name}" for name in _names(nodes)]

    def _start(self, nodes: list[Node], say: Progress) -> list[str]:
        stopped = _names(node for node in nodes if not node.running)
        if stopped:
            say(f"starting {', '.join(stopped)}")
            self._nodes.start(stopped)
        return [f"node {name}" for name in stopped]

    def _wait(self, say: Progress) -> list[Registered]:
        """Wait until every node is ready."""
        deadline, said = time.monotonic() + READY_S, ""
        while True:
            nodes = self._nodes.all()
            if not nodes:
                raise ClusterGone(f"cluster {self._wanted.cluster} was deleted meanwhile", hint="invoke up")
            status = self._status(nodes)
            if isinstance(status, list):
                return status
            if time.monotonic() > deadline:
                raise NotReady(
                    f"cluster {self._wanted.cluster}: not ready within {READY_S:g} s",
                    facts={"status": status, "log": f"docker exec {nodes[0].name} journalctl --unit kubelet"},
                    hint=_ANEW,
                )
            if status != said:
                say(status)
                said = status
            time.sleep(_POLL_S)

    def _status(self, nodes: list[Node]) -> list[Registered] | str:
        """Return the nodes when all are ready, otherwise what is being waited for."""
        try:
            registered = self._nodes.registered(nodes[0].name)
        except CommandFailed as error:
            return f"the API server does not answer: {_last(error.output)}"
        self._require_fit(nodes, registered)
        waiting = [node for node in registered if not node.ready]
        if waiting or len(registered) < len(nodes):
            ready = len(registered) - len(waiting)
            return f"nodes: {ready} of {len(nodes)} ready" + (f" ({waiting[0].reason})" if waiting else "")
        return registered

    def _require_fit(self, nodes: list[Node], registered: list[Registered]) -> None:
        """Raise BadInput or ClusterGone when this cluster can never become what is wanted."""
        name, wanted = self._wanted.cluster, self._wanted
        if lost := {node.name for node in registered} - set(_names(nodes)):
            raise ClusterGone(f"{', '.join(sorted(lost))}: its container is gone, and kind cannot add one", hint=_ANEW)
        for node in registered:
            if triple(node.version) != triple(wanted.version):
                what = f"cluster {name} runs Kubernetes {node.version}; {wanted.version} is wanted"
                raise BadInput(
                    what, facts={"node": node.name}, hint=f"{_ANEW}   (or another name: INVOKE_BOX_CLUSTER=NAME)"
                )
        workers = sum(node.role == WORKER for node in nodes)
        if workers < wanted.workers:
            what = f"cluster {name} has {workers} workers; {wanted.workers} are wanted, and kind cannot add any"
            raise BadInput(what, hint=f"INVOKE_BOX_WORKERS={workers}   or   {_ANEW}")
        published = self._nodes.ports(nodes[0].name)
        ports = {inside: published[inside] for inside in wanted.ports if inside in published}
        if ports != wanted.ports:
            what = f"cluster {name} publishes its gateway on {_ports(ports)}; {_ports(wanted.ports)} is wanted"
            raise BadInput(what, hint=f"leave the ports as they are   or   {_ANEW}")

    def _write_hosts(self) -> list[str]:
        """Make all nodes' registry settings those of the source; return which changed."""
        wanted, nodes = self._source.containerd_hosts(), self.nodes()
        with ThreadPoolExecutor() as pool:
            changed = list(pool.map(lambda name: self._nodes.write_hosts(name, wanted), nodes))
        return [f"registries of {name}" for name, new in zip(nodes, changed, strict=True) if new]

    def _holder(self, port: int) -> str:
        """Return which container publishes a port."""
        found = self._engine.docker("ps", "--filter", f"publish={port}", "--format", "{{.Names}}")
        return f"taken by container {', '.join(found.stdout.split())}" if found.stdout.strip() else ""


def _names(nodes: Iterable[Node]) -> list[str]:
    return [node.name for node in nodes]


def _ports(ports: Mapping[int, int]) -> str:
    return " and ".join(str(outside) for outside in ports.values()) or "no port"


def _last(output: str) -> str:
    return (output.strip().splitlines() or ["no output"])[-1]
