"""What this machine must offer before nodes are started on it: free ports, and enough inotify instances."""

import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tasks.lib.errors import NotAvailable

LOOPBACK = "127.0.0.1"
OTHER_PORTS = "free it, or choose others: INVOKE_BOX_HTTP_PORT=8090 INVOKE_BOX_HTTPS_PORT=8453"
INOTIFY = Path("/proc/sys/fs/inotify")
LIMITS: Mapping[str, int] = {"max_user_instances": 512, "max_user_watches": 524288}
"""Each kubelet, containerd and Envoy holds some; the usual 128 instances are used up by two nodes."""


def require_ports(ports: Iterable[int], holder: Callable[[int], str]) -> None:
    """Raise NotAvailable naming each port that is taken, and by what (`holder` knows, or returns nothing)."""
    taken = [port for port in ports if not _free(port)]
    if taken:
        facts = {f"{LOOPBACK}:{port}": holder(port) or "taken by another program" for port in taken}
        raise NotAvailable(
            f"port {', '.join(map(str, taken))} on this machine is taken",
            facts=facts,
            hint=f"{OTHER_PORTS}   (ss -ltnp shows what listens)",
        )


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def raise_inotify(say: Callable[[str], None], folder: Path = INOTIFY) -> None:
    """Raise limits that are too low for several nodes on one machine, where that may be done; otherwise say so."""
    for name, wanted in LIMITS.items():
        path = folder / name
        if not path.exists() or int(path.read_text()) >= wanted:
            continue
        try:
            path.write_text(str(wanted))
        except OSError:
            say(f"fs.inotify.{name} is {path.read_text().strip()}; pods may fail with 'too many open files'. "
                f"Type: sudo sysctl fs.inotify.{name}={wanted}")  # fmt: skip
        else:
            say(f"raised fs.inotify.{name} to {wanted}")
