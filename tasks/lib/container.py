"""The container engine: find it, say exactly what is wrong with it, and on a bare Debian machine install and start one.

Docker is what is supported and tested. Podman and nerdctl are recognised and reported. A daemon that we did not start
is never reconfigured, restarted or stopped.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tasks.lib import shell
from tasks.lib.daemon import Daemon
from tasks.lib.errors import CommandFailed, NotAvailable
from tasks.lib.packages.store import Store

CLIENT = "docker"
_OTHERS = ("podman", "nerdctl")
_PACKAGES = ("docker.io", "iptables", "jq")
_ANSWER_S = 20.0
_APT_S = 900.0
_apt = threading.Lock()
"""apt-get waits for another that installs, but not for one that refreshes the lists."""

Say = Callable[[str], None]


class Fault(StrEnum):
    """Why the engine cannot be used."""

    NO_CLIENT = "there is no container engine on this machine"
    OTHER_ENGINE = "only another container engine is here; Docker is what is supported and tested"
    NO_DAEMON = "the docker command is here, but no daemon answers it"
    REFUSED = "the docker daemon is running, but refuses this user"
    BROKEN = "the docker daemon does not work"


HINTS = {
    Fault.NO_CLIENT: "install Docker: https://docs.docker.com/engine/install   (root on Debian: without --no-install)",
    Fault.OTHER_ENGINE: "install Docker beside it: https://docs.docker.com/engine/install",
    Fault.NO_DAEMON: "start it:  sudo systemctl start docker   (Docker Desktop: open the application)",
    Fault.REFUSED: "sudo usermod -aG docker $USER   then log in again",
    Fault.BROKEN: "docker info   shows what it says of itself",
}


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a look at the engine found. `fault` is None when it answers."""

    fault: Fault | None
    version: str = ""
    said: str = ""

    def error(self) -> NotAvailable:
        """Return the failure, with what the engine said and what to type."""
        fault = self.fault or Fault.BROKEN
        facts = {"it said": self.said} if self.said else {}
        if host := os.environ.get("DOCKER_HOST"):
            facts["DOCKER_HOST"] = host
        return NotAvailable(str(fault), facts=facts, hint=HINTS[fault])


class ContainerEngine:
    """Docker, through its command line."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._daemon = Daemon(store)

    def docker(
        self,
        *args: str | Path,
        check: bool = True,
        timeout_s: float | None = None,
        on_line: Callable[[str], None] | None = None,
        stdin: str | None = None,
    ) -> shell.Result:
        """Run the engine's command line. Raises NotAvailable when it is the engine that fails, not the command."""
        try:
            return shell.run([CLIENT, *args], check=check, timeout_s=timeout_s, on_line=on_line, stdin=stdin)
        except CommandFailed as error:
            raise explain(error) from error

    def probe(self) -> Probe:
        """Ask the daemon for its version. Changes nothing."""
        if not shutil.which(CLIENT):
            others = [name for name in _OTHERS if shutil.which(name)]
            fault = Fault.OTHER_ENGINE if others else Fault.NO_CLIENT
            return Probe(fault=fault, said=f"found {', '.join(others)}" if others else "")
        try:
            found = shell.run([CLIENT, "version", "--format", "{{.Server.Version}}"], check=False, timeout_s=_ANSWER_S)
        except CommandFailed as error:
            return Probe(fault=Fault.BROKEN, said=error.what)
        return read(found)

    def detect(self) -> str:
        """Return the engine's version. Raises NotAvailable saying which of its faults it is, and what to type."""
        found = self.probe()
        if found.fault:
            raise found.error()
        return found.version

    def why_not(self, *, install: bool) -> str | None:
        """Return None when there is an engine, or one may be installed or started; otherwise why not."""
        fault = self.probe().fault
        if fault in (Fault.NO_CLIENT, Fault.NO_DAEMON):
            reason = cannot_install(install=install)
            return f"{fault} ({reason})" if reason else None
        return str(fault) if fault else None

    def ensure(self, *, install: bool, say: Say) -> str:
        """Return the version of a running engine; on a bare Debian machine, as root, install and start one.

        `install=False` forbids both. A daemon that we started and that died is started again. Safe for several runs at
        once. Raises NotAvailable when there is no engine and none may or can be made.
        """
        found = self.probe()
        if found.fault not in (Fault.NO_CLIENT, Fault.NO_DAEMON):
            return self.detect() if found.fault else found.version
        if reason := cannot_install(install=install):
            error = found.error()
            error.facts["not installed"] = reason
            raise error
        with self._store.lock("engine"):
            found = self.probe()
            if found.fault is Fault.NO_CLIENT or (found.fault and not self._daemon.installed()):
                say(f"{found.fault}: installing {_PACKAGES[0]} with apt-get (--no-install forbids it)")
                apt_install(_PACKAGES)
                found = self.probe()
            if found.fault is Fault.NO_DAEMON:
                self._daemon.start(say, answers=lambda: self.probe().fault is None)
        return self.detect()

    def info(self) -> dict[str, Any]:
        """Return what the engine says of itself (`docker info`)."""
        return dict(json.loads(self.docker("info", "--format", "{{json .}}", timeout_s=_ANSWER_S).stdout))

    def has_image(self, ref: str) -> bool:
        """Whether the engine has an image."""
        return self.docker("image", "inspect", "--format", "{{.Id}}", ref, check=False).returncode == 0

    def label(self, ref: str, name: str) -> str:
        """Return a label of an image; empty when there is no such image or label."""
        template = f'{{{{index .Config.Labels "{name}"}}}}'
        found = self.docker("image", "inspect", "--format", template, ref, check=False)
        return found.stdout.strip() if found.returncode == 0 else ""


def read(found: shell.Result) -> Probe:
    """Say what an answer of `docker version` means."""
    said = (found.stderr or found.stdout).strip()
    lower = said.lower()
    if found.returncode == 0 and found.stdout.strip():
        if "podman" in lower:
            return Probe(fault=Fault.OTHER_ENGINE, said=said)
        return Probe(fault=None, version=found.stdout.strip())
    if "permission denied" in lower:
        return Probe(fault=Fault.REFUSED, said=said)
    if any(words in lower for words in _NO_ANSWER):
        return Probe(fault=Fault.NO_DAEMON, said=said)
    return Probe(fault=Fault.BROKEN, said=said)


_NO_ANSWER = ("cannot connect", "is the docker daemon running", "no such host", "connection refused")
_PRIVILEGED = (
    "root on this machine lacks a capability that the daemon asks for (CAP_SYS_RESOURCE, mostly).\n       "
    "Stop the daemon and run again: the one we start does not ask for it"
)
_MEANINGS = (
    (
        ("unable to apply caps", "operation not permitted: unknown"),
        "the docker daemon cannot start privileged containers, which Kubernetes nodes are",
        _PRIVILEGED,
    ),
    (("port is already allocated", "address already in use"), "a port on this machine is taken", "docker ps; ss -ltnp"),
    (("no space left on device",), "the disk is full", "docker system df   shows what can go"),
    (("permission denied while trying to connect",), str(Fault.REFUSED), HINTS[Fault.REFUSED]),
    (("cannot connect to the docker daemon",), str(Fault.NO_DAEMON), HINTS[Fault.NO_DAEMON]),
)


def explain(error: CommandFailed) -> CommandFailed | NotAvailable:
    """Return what a failed command means, when it is the machine or the daemon that is at fault; otherwise itself."""
    lower = error.output.lower()
    for words, what, hint in _MEANINGS:
        if any(word in lower for word in words):
            return NotAvailable(what, facts=error.facts, hint=hint)
    return error


def cannot_install(*, install: bool) -> str:
    """Return why we may not install or start an engine here; empty when we may."""
    if not install:
        return "--no-install was given"
    if os.environ.get("DOCKER_HOST"):
        return "DOCKER_HOST names a daemon somewhere else"
    if os.geteuid() != 0:
        return "this needs root"
    if not shutil.which("apt-get"):
        return "this is not a Debian-family machine (no apt-get)"
    return ""


def apt_install(packages: Iterable[str]) -> None:
    """Install Debian packages, refreshing the package lists when they do not know them. Raises NotAvailable."""
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *packages]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    if not Path("/run/systemd/system").exists():
        quiet["RUNLEVEL"] = "1"  # nothing manages services here: packages must not start theirs
    try:
        with _apt:
            if shell.run(install, env=quiet, check=False, timeout_s=_APT_S).returncode != 0:
                shell.run(["apt-get", "update"], env=quiet, timeout_s=_APT_S)
                shell.run(install, env=quiet, timeout_s=_APT_S)
    except CommandFailed as error:
        raise NotAvailable(
            f"apt-get could not install {', '.join(packages)}",
            facts=error.facts,
            hint=f"apt-get update && apt-get install {' '.join(packages)}",
        ) from error
