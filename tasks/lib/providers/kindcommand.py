"""The `kind` command: what it is given, and how it is run so that a run that is killed does no harm.

`kind create` leaves half a cluster behind when it is cut off. Before it starts, a marker is written; it goes when every
node is ready. A marker without a whole cluster is the sign to delete and make it anew, and nothing else is.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.lib import names, shell
from tasks.lib.container import explain
from tasks.lib.errors import ClusterGone, CommandFailed
from tasks.lib.packages.store import Store
from tasks.lib.providers import Progress
from tasks.lib.providers.machine import LOOPBACK

CREATE_S = 600.0

_DELETE_S = 180.0
_ANSWER_S = 30.0
_CERTS = '[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/etc/containerd/certs.d"\n'

# The lock goes with the process: if we are killed and `kind` goes on, the next run waits until it has ended.
_LOCKED = """import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
fcntl.flock(lock, fcntl.LOCK_EX)
os.set_inheritable(lock, True)
os.execv(sys.argv[2], sys.argv[2:])"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the cluster is to be. `install`: whether an engine may be installed for it."""

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

    def config(self) -> str:
        """Return kind's configuration (JSON, which is YAML)."""
        mappings = [
            {"containerPort": inside, "hostPort": outside, "listenAddress": LOOPBACK, "protocol": "TCP"}
            for inside, outside in self.ports.items()
        ]
        control_plane = {"role": "control-plane", "extraPortMappings": mappings}
        return json.dumps(
            {
                "kind": "Cluster",
                "apiVersion": "kind.x-k8s.io/v1alpha4",
                "nodes": [control_plane, *({"role": "worker"} for _ in range(self.workers))],
                "containerdConfigPatches": [_CERTS],
            }
        )


class KindCommand:
    """`kind`, for one cluster. `path` finds (or fetches, or builds) the command when it is needed."""

    def __init__(self, cluster: str, path: Callable[[], Path], store: Store, kubeconfig: Path) -> None:
        self._cluster = cluster
        self._path = path
        self._store = store
        self._kubeconfig = kubeconfig
        self._lock = f"kind-{cluster}"
        self._marker = store.path("clusters", f"{cluster}.creating")

    @property
    def unfinished(self) -> bool:
        """Whether a creation was begun and not seen to its end."""
        return self._marker.exists()

    def finished(self) -> None:
        """Say that the cluster is whole, or gone."""
        self._marker.unlink(missing_ok=True)

    def wait_for_other(self) -> None:
        """Wait until no `kind` works on this cluster: one may have outlived the run that started it."""
        with self._store.lock(self._lock):
            return

    def create(self, wanted: Wanted, image: str, say: Progress) -> None:
        """Make the cluster. Returns when all nodes have joined; they may not be ready yet."""
        self._marker.touch()
        self._kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        words = ["create", "cluster", "--image", image, "--config", "-", "--kubeconfig", str(self._kubeconfig)]
        self._run(words, stdin=wanted.config(), timeout_s=CREATE_S, on_line=lambda line: _tell(line, say))

    def delete(self) -> None:
        """Delete the cluster's containers and their volumes."""
        self._run(["delete", "cluster", "--kubeconfig", str(self._kubeconfig)], timeout_s=_DELETE_S)
        self.finished()

    def write_kubeconfig(self) -> Path:
        """Write the cluster's kubeconfig, whole or not at all, and readable by its owner only.

        Raises ClusterGone when there is no such cluster.
        """
        argv: list[str | Path] = [self._path(), "get", "kubeconfig", "--name", self._cluster]
        try:
            text = shell.run(argv, env=_environment(), timeout_s=_ANSWER_S).stdout
        except CommandFailed as error:
            raise ClusterGone(
                f"there is no cluster {self._cluster}", facts={"cause": error.output}, hint="invoke up"
            ) from error
        self._kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        work = self._kubeconfig.with_name(f".{self._kubeconfig.name}.{os.getpid()}")
        with os.fdopen(os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        work.rename(self._kubeconfig)
        return self._kubeconfig

    def _run(
        self,
        words: list[str],
        *,
        timeout_s: float,
        stdin: str | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> shell.Result:
        lock = self._store.path("locks", f"{self._lock}.lock")
        argv: list[str | Path] = [sys.executable, "-c", _LOCKED, lock, self._path(), *words, "--name", self._cluster]
        try:
            return shell.run(argv, env=_environment(), stdin=stdin, timeout_s=timeout_s, on_line=on_line)
        except CommandFailed as error:
            raise explain(_without_lock(error, words)) from error


def _without_lock(error: CommandFailed, words: list[str]) -> CommandFailed:
    """Return the failure as one of `kind`, without what it was wrapped in."""
    why = error.what.partition(": ")[2]
    return CommandFailed(
        f"kind {' '.join(words[:2])}: {why}",
        returncode=error.returncode,
        output=error.output,
        facts={"command": f"kind {' '.join(words)}", "output": error.output},
        hint="run again: what was begun is finished or made anew",
    )


def _environment() -> Mapping[str, str]:
    return {"KIND_EXPERIMENTAL_PROVIDER": "docker"}


def _tell(line: str, say: Progress) -> None:
    """Say the step that kind begins (` • Starting control-plane …`)."""
    if found := re.match(r"\s*•\s+([ -~]+)", line):
        say(found.group(1).strip(" ."))
