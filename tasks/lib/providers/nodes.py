"""The nodes of a kind cluster: containers of the engine, asked and changed through its command line."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tasks.lib import shell
from tasks.lib.errors import ClusterGone, CommandFailed, FetchFailed

CONTROL_PLANE = "control-plane"
WORKER = "worker"

_CLUSTER_LABEL = "io.x-k8s.kind.cluster"
_ROLE_LABEL = "io.x-k8s.kind.role"
_CERTS = "/etc/containerd/certs.d"
_ADMIN = "/etc/kubernetes/admin.conf"
_PULLS = 4
_PULL_S = 900.0
_ANSWER_S = 10.0
_GONE = ("no such container", "is not running", "no such exec")
# crictl is in kind's own images; ctr is in every node, and leaves out the name by digest that the kubelet reports.
_PULL = f"""set -eu
if command -v crictl >/dev/null; then exec crictl pull "$0"; fi
images() {{ ctr --namespace k8s.io images "$@"; }}
images pull --hosts-dir {_CERTS} "$0"
case $0 in *@*) exit ;; esac
images tag --force "$0" "${{0%:*}}@$(images list "name==$0" | awk 'NR == 2 {{ print $3 }}')"
"""
_WRITE = 'mkdir -p "$0" && cat >"$0/.new" && mv "$0/.new" "$0/hosts.toml"'


class Engine(Protocol):
    """What is needed of a container engine."""

    def docker(
        self, *args: str | Path, check: bool = True, timeout_s: float | None = None, stdin: str | None = None
    ) -> shell.Result:
        """Run the engine's command line."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node's container. `state` is the engine's word (running, exited, created)."""

    name: str
    role: str
    state: str

    @property
    def running(self) -> bool:
        """Whether its container runs."""
        return self.state == "running"


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A node as the API server knows it."""

    name: str
    ready: bool
    version: str
    reason: str = ""


class Nodes:
    """The nodes of one cluster."""

    def __init__(self, engine: Engine, cluster: str) -> None:
        self._engine = engine
        self._cluster = cluster

    def all(self) -> list[Node]:
        """Return the containers of the cluster, control plane first."""
        template = f'{{{{.Names}}}}\t{{{{.Label "{_ROLE_LABEL}"}}}}\t{{{{.State}}}}'
        label = f"label={_CLUSTER_LABEL}={self._cluster}"
        found = self._engine.docker("ps", "--all", "--filter", label, "--format", template, timeout_s=_ANSWER_S)
        nodes = [Node(name=name, role=role, state=state)
                 for name, role, state in (line.split("\t") for line in found.stdout.splitlines())]  # fmt: skip
        return sorted(nodes, key=lambda node: (node.role != CONTROL_PLANE, node.name))

    def ports(self, node: str) -> dict[int, int]:
        """Return the ports of a node that are published on this machine: inside → outside."""
        template = "{{json .HostConfig.PortBindings}}"
        found = self._engine.docker("container", "inspect", "--format", template, node, timeout_s=_ANSWER_S)
        bindings = json.loads(found.stdout) or {}
        return {int(inside.partition("/")[0]): int(outside[0]["HostPort"])
                for inside, outside in bindings.items() if outside and outside[0].get("HostPort")}  # fmt: skip

    def start(self, names: Iterable[str]) -> None:
        """Start stopped containers."""
        self._engine.docker("start", *names)

    def registered(self, node: str) -> list[Registered]:
        """Ask the API server, on a control plane, for its nodes.

        Raises ClusterGone when that container is not there or not running, CommandFailed when the API server does not
        answer.
        """
        found = self.run(
            node, "kubectl", "--kubeconfig", _ADMIN, f"--request-timeout={_ANSWER_S:g}s", "get", "nodes", "--output",
            "json", timeout_s=2 * _ANSWER_S,
        )  # fmt: skip
        return [_registered(each) for each in json.loads(found.stdout)["items"]]

    def hosts(self, node: str) -> dict[str, str]:
        """Return the registry settings that a node has: host → digest of its file."""
        script = f"cd {_CERTS} 2>/dev/null && find . -name hosts.toml -exec sha256sum {{}} +; true"
        lines = self.run(node, "sh", "-c", script, timeout_s=_ANSWER_S).stdout.splitlines()
        return {line.split(maxsplit=1)[1].split("/")[1]: line.split()[0] for line in lines}

    def write_hosts(self, node: str, wanted: Mapping[str, str]) -> bool:
        """Make a node's registry settings what is wanted; return whether anything changed. containerd rereads them."""
        present = self.hosts(node)
        if present == digests(wanted):
            return False
        for host, text in wanted.items():
            self.run(node, "sh", "-c", _WRITE, f"{_CERTS}/{host}", stdin=text, timeout_s=_ANSWER_S)
        for host in present.keys() - wanted.keys():
            self.run(node, "rm", "-r", f"{_CERTS}/{host}", timeout_s=_ANSWER_S)
        return True

    def images(self, node: str) -> set[str]:
        """Return the names of the images that a node has."""
        found = self.run(node, "ctr", "--namespace", "k8s.io", "images", "list", "--quiet", timeout_s=6 * _ANSWER_S)
        return set(found.stdout.split())

    def pull(self, nodes: Iterable[str], refs: Iterable[str]) -> None:
        """Fetch the images that these nodes do not have, a few at a time.

        Raises FetchFailed naming every image that could not be had and why, after all were tried.
        """
        wanted = list(dict.fromkeys(refs))
        present = {node: self.images(node) for node in nodes}
        missing = [(node, ref) for node in present for ref in wanted if ref not in present[node]]
        with ThreadPoolExecutor(_PULLS) as pool:
            failed = [text for text in pool.map(lambda pair: self._pull(*pair), missing) if text]
        if failed:
            raise FetchFailed(
                f"{len(failed)} of {len(missing)} images could not be fetched to the nodes",
                facts={"images": "\n".join(failed)},
                hint="check the source with `invoke doctor`, then run again",
            )

    def run(
        self, node: str, *words: str, check: bool = True, stdin: str | None = None, timeout_s: float | None = None
    ) -> shell.Result:
        """Run a command in a node. Raises ClusterGone when the node is not there or not running."""
        flags = ["--interactive"] if stdin is not None else []
        try:
            return self._engine.docker("exec", *flags, node, *words, check=check, stdin=stdin, timeout_s=timeout_s)
        except CommandFailed as error:
            if any(word in error.output.lower() for word in _GONE):
                raise ClusterGone(
                    f"node {node} of cluster {self._cluster} is gone",
                    facts={"cause": error.output},
                    hint="run again: the cluster is repaired or made anew",
                ) from error
            raise

    def _pull(self, node: str, ref: str) -> str:
        """Fetch one image; return what went wrong, or nothing."""
        try:
            self.run(node, "sh", "-c", _PULL, ref, timeout_s=_PULL_S)
        except CommandFailed as error:
            last = error.output.strip().splitlines()[-1:] or [error.what]
            return f"{ref} on {node}: {last[0]}"
        return ""


def digests(hosts: Mapping[str, str]) -> dict[str, str]:
    """Return host → digest of its file, as `Nodes.hosts` returns it."""
    return {host: hashlib.sha256(text.encode()).hexdigest() for host, text in hosts.items()}


def _registered(node: Mapping[str, Any]) -> Registered:
    status, name = node["status"], node["metadata"]["name"]
    condition: Mapping[str, str] = next((each for each in status.get("conditions", []) if each["type"] == "Ready"), {})
    ready = condition.get("status") == "True"
    message = condition.get("message", "").removeprefix("[").partition(": ")[0]  # what follows repeats it
    reason = "" if ready else f"{name}: {message or 'has not reported yet'}"
    version = str(status.get("nodeInfo", {}).get("kubeletVersion", ""))
    return Registered(name=name, ready=ready, version=version, reason=reason)
