"""A Docker daemon of our own, on a machine where nothing else starts one. It outlives the run that started it."""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.lib import shell
from tasks.lib.errors import NotAvailable
from tasks.lib.packages.store import Store

RUNTIME = Path(__file__).parent / "packages" / "node" / "oci-runtime"
"""The runtime wrapper for machines whose root lacks CAP_SYS_RESOURCE; its header says what it does."""

_CAP_SYS_RESOURCE = 24
_START_S = 60.0
_POLL_S = 0.2
_LAST_LINES = 15


class Daemon:
    """Starts dockerd, detached; its log and process id are in the cache folder."""

    def __init__(self, store: Store) -> None:
        self.log = store.path("engine", "dockerd.log")
        self._pid = store.path("engine", "dockerd.pid")
        self._runtime = store.path("engine", RUNTIME.name)

    def installed(self) -> bool:
        """Whether there is a daemon to start."""
        return shutil.which("dockerd") is not None

    def start(self, say: Callable[[str], None], answers: Callable[[], bool]) -> None:
        """Start the daemon and wait until it answers. Raises NotAvailable with its last lines when it does not."""
        if Path("/run/systemd/system").exists():
            say("starting the docker service")
            shell.run(["systemctl", "start", "docker"], timeout_s=_START_S)
            self._wait(answers, died=lambda: False)
            return
        say(f"starting dockerd; it keeps running after this command. Log: {self.log}")
        if not is_dockerd(self._pid):
            self._pid.unlink(missing_ok=True)
            self._launch()
        self._wait(answers, died=lambda: self._pid.exists() and not is_dockerd(self._pid))

    def _launch(self) -> None:
        command = ["dockerd", "--pidfile", str(self._pid), *self._runtime_flags()]
        # The shell takes its output away from our pipes, so that it neither holds us up nor ends with us.
        detach = ["setsid", "--fork", "sh", "-c", 'log=$0; exec "$@" >>"$log" 2>&1', str(self.log)]
        shell.run([*detach, *command], timeout_s=_START_S)

    def _runtime_flags(self) -> Sequence[str]:
        if has_sys_resource():
            return ()
        work = self._runtime.with_name(f".{self._runtime.name}.{os.getpid()}")
        shutil.copyfile(RUNTIME, work)
        work.chmod(0o755)
        work.rename(self._runtime)
        return ("--add-runtime", f"without-sys-resource={self._runtime}", "--default-runtime", "without-sys-resource")

    def _wait(self, answers: Callable[[], bool], died: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if answers():
                return
            if died():
                break
            time.sleep(_POLL_S)
        raise NotAvailable(
            f"dockerd did not answer within {_START_S:g} s of its start",
            facts={"log": self.log, "its last lines": last_lines(self.log) or "(none)"},
            hint=f"less {self.log}   then start a Docker daemon yourself",
        )


def has_sys_resource(status: str = "") -> bool:
    """Whether this process may hand CAP_SYS_RESOURCE to a container. `status` is the text of /proc/self/status."""
    for line in (status or Path("/proc/self/status").read_text()).splitlines():
        key, _, value = line.partition(":")
        if key == "CapBnd":
            return bool(int(value, 16) >> _CAP_SYS_RESOURCE & 1)
    return False


def is_dockerd(pidfile: Path) -> bool:
    """Whether the process that a pid file names is there and is dockerd (ids are used again after a restart)."""
    try:
        pid = int(pidfile.read_text())
        return Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return False


def last_lines(path: Path) -> str:
    """Return the end of a text file; empty when it is not there."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-_LAST_LINES:]) if path.exists() else ""
