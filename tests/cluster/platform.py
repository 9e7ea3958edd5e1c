"""The product as a user has it: a copy of this checkout, its two scripts, and a cluster of its own."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.lib import names
from tasks.lib.errors import BoxError
from tasks.lib.kube import inventory
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.kube.client import Kube

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = "inference-in-a-box-test"
HTTP_PORT, HTTPS_PORT = 18080, 18443

COLD_S = 60 * 60.0
"""Seconds for a command that may have to build everything."""

_POLL_S = 0.05
_MADE_BY_THE_CLUSTER = frozenset({"Event", "Lease", "EndpointSlice", "Endpoints", "Pod", "ReplicaSet", "PodMetrics"})
"""Kinds whose objects come and go by themselves."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a command left."""

    command: str
    code: int
    out: str
    err: str
    seconds: float

    def ok(self) -> "Result":
        """Return itself; fail with all of its output when it did not succeed."""
        assert self.code == 0, f"{self.command}: exit {self.code}\n{self.out}\n{self.err}"
        return self


class Platform:
    """A copy of the checkout in a folder, and the cluster that it makes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy_checkout(ROOT, folder)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("INVOKE_")},
            "INVOKE_BOX_CLUSTER": CLUSTER,
            "INVOKE_BOX_HTTP_PORT": str(HTTP_PORT),
            "INVOKE_BOX_HTTPS_PORT": str(HTTPS_PORT),
        }

    @property
    def kubeconfig(self) -> Path:
        """Where the product writes the cluster's kubeconfig."""
        return self.folder / ".box" / f"kubeconfig-{CLUSTER}"

    @property
    def kube(self) -> Kube:
        """A client of the cluster as it is now."""
        return Kube(self.kubeconfig)

    @staticmethod
    def command(*words: str) -> list[str]:
        """Return a command of the product, as a user types it."""
        return ["./scripts/invoke", *words]

    def start(self, *words: str, **variables: str) -> "subprocess.Popen[str]":
        """Start a command of the product."""
        return subprocess.Popen(
            self.command(*words), cwd=self.folder, env={**self.environment, **variables}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str, timeout_s: float = COLD_S, **variables: str) -> Result:
        """Run a command of the product to its end."""
        return self.finish(self.start(*words, **variables), timeout_s=timeout_s)

    def finish(self, process: "subprocess.Popen[str]", timeout_s: float = COLD_S) -> Result:
        """Wait for a command to end."""
        begun = time.monotonic()
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += f"\nkilled after {timeout_s:g} s"
        command = " ".join(map(str, process.args))  # type: ignore[arg-type]
        print(f"$ {command}  (exit {process.returncode})\n{out}{err}")  # noqa: T201 (pytest shows it on failure)
        return Result(command=command, code=process.returncode, out=out, err=err, seconds=time.monotonic() - begun)

    def interrupt(self, words: list[str], when: Callable[[int], bool], number: signal.Signals) -> Result:
        """Start a command and send it a signal as soon as something is seen. Fails when it ends before.

        `when` is told the process id of the command.
        """
        process = self.start(*words)
        while process.poll() is None and not when(process.pid):
            time.sleep(_POLL_S)
        if process.poll() is None:
            process.send_signal(number)
        result = self.finish(process)
        assert result.code != 0, f"{result.command} ended before it could be interrupted"
        return result

    def json(self, *words: str) -> Any:
        """Run a command and return the JSON that it prints."""
        return json.loads(self.run(*words, "--json").out)

    def nodes(self) -> list[str]:
        """Return the containers that are nodes of the cluster; none before there is an engine to have them."""
        label = f"label=io.x-k8s.kind.cluster={CLUSTER}"
        try:
            found = subprocess.run(
                ["docker", "ps", "--all", "--filter", label, "--format", "{{.Names}}"],
                check=False, capture_output=True, text=True,
            )  # fmt: skip
        except FileNotFoundError:
            return []
        if found.returncode and "Cannot connect to the Docker daemon" in found.stderr:
            return []
        found.check_returncode()
        return found.stdout.split()

    def remove_nodes(self) -> None:
        """Take the cluster away behind the product's back."""
        subprocess.run(["docker", "rm", "--force", "--volumes", *self.nodes()], check=True, capture_output=True)

    def seen(self, ref: Ref) -> Obj | None:
        """Return an object; None also while there is no cluster to ask."""
        try:
            return self.kube.get(ref)
        except BoxError:
            return None

    def applying(self, component: str) -> bool:
        """Whether a component has an inventory whose apply has not come to its end."""
        found = self._inventory(component)
        return found is not None and not found["data"]["digest"]

    def begun(self, component: str) -> bool:
        """Whether a component has an inventory."""
        return self._inventory(component) is not None

    def _inventory(self, component: str) -> Obj | None:
        return self.seen(Ref("v1", "ConfigMap", names.PLATFORM_NAMESPACE, inventory.name(component)))

    def at_work(self, pid: int) -> bool:
        """Whether a process holds the cluster's lease."""
        found = self.seen(Ref("coordination.k8s.io/v1", "Lease", names.PLATFORM_NAMESPACE, "run"))
        return found is not None and f"/{pid}/" in found["spec"].get("holderIdentity", "")

    def versions(self) -> dict[Ref, str]:
        """Return when each object that carries our label was last written by us, our own notes (inventories) aside."""
        kube = self.kube
        return {
            ref: found["metadata"]["uid"] + "/" + _written_by_us(found)
            for ref in inventory.everything(kube, selector=names.COMPONENT_LABEL)
            if ref.kind not in _MADE_BY_THE_CLUSTER
            and not ref.name.startswith(inventory.name(""))
            and (found := kube.get(ref, heads=True))
        }

    def inventory(self) -> set[Ref]:
        """Return every object of all API groups, but for what comes and goes by itself."""
        return {ref for ref in inventory.everything(self.kube) if ref.kind not in _MADE_BY_THE_CLUSTER}

    def edit(self, path: str, change: Callable[[str], str]) -> None:
        """Change a file of the copy. Fails when that changes nothing."""
        file = self.folder / path
        before = file.read_text()
        after = change(before)
        assert after != before, f"{path}: nothing to change"
        file.write_text(after)


def _written_by_us(found: Obj) -> str:
    """When our field manager last wrote an object."""
    entries = found["metadata"].get("managedFields") or []
    return ",".join(sorted(each.get("time", "") for each in entries if each["manager"] == names.FIELD_MANAGER))


def copy_checkout(root: Path, folder: Path) -> None:
    """Copy what git tracks or would track, as it is in the work tree: a fresh clone that has what is being tested."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source, target = root / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def changed(before: Mapping[Ref, str], after: Mapping[Ref, str]) -> set[str]:
    """Return the names of what is not as it was."""
    return {str(ref) for ref in before.keys() | after.keys() if before.get(ref) != after.get(ref)}
