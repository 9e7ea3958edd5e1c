"""What Linux says of itself under /proc, /sys and /boot. None or nothing where it does not say."""

import gzip
import platform
from collections.abc import Mapping
from pathlib import Path

_LISTENING = "0A"

FEATURES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "overlay": (("CONFIG_OVERLAY_FS", "overlay"),),
    "veth": (("CONFIG_VETH", "veth"),),
    "bridge": (("CONFIG_BRIDGE", "bridge"),),
    "nat": (("CONFIG_NF_TABLES", "nf_tables"), ("CONFIG_IP_NF_NAT", "iptable_nat")),
}
"""What containers need of a Linux kernel: the option and the module that bring it; one of several is enough."""


def memory_available(proc: Path) -> int | None:
    """Return the bytes that programs can still have, as the kernel estimates them."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def inotify(proc: Path) -> dict[str, int]:
    """Return the limits of inotify."""
    folder = proc / "sys/fs/inotify"
    try:
        return {path.name: int(path.read_text()) for path in sorted(folder.iterdir())}
    except (OSError, ValueError):
        return {}


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """Return the program that listens on a port ("nginx, pid 12"), as far as /proc tells us; else nothing."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    if not wanted:
        return ""
    for process in proc.iterdir():
        if process.name.isdigit() and wanted & _sockets(process):
            try:
                return f"{(process / 'comm').read_text().strip()}, pid {process.name}"
            except OSError:
                return f"pid {process.name}"
    return "a program of another user"


def _inodes(port: int, proc: Path) -> set[str]:
    found: set[str] = set()
    for table in ("net/tcp", "net/tcp6"):
        try:
            rows = [line.split() for line in (proc / table).read_text().splitlines()[1:]]
        except OSError:
            continue
        found |= {row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port}
    return found


def _sockets(process: Path) -> set[str]:
    found: set[str] = set()
    try:
        for descriptor in (process / "fd").iterdir():
            found.add(str(descriptor.readlink()))
    except OSError:
        pass
    return found


def kernel(
    proc: Path = Path("/proc"), sys: Path = Path("/sys"), root: Path = Path("/"), release: str = ""
) -> dict[str, bool | None]:
    """Return which features the running kernel has, built in, loaded or to be loaded; None where it cannot be told."""
    release = release or platform.release()
    config = _kernel_config(proc, root, release)
    modules = root / "lib/modules" / release
    try:
        names = (modules / "modules.builtin").read_text() + (modules / "modules.dep").read_text()
    except OSError:
        names = ""

    def has(option: str, module: str) -> bool | None:
        if (sys / "module" / module).exists() or f"{option}=y" in config or f"/{module}.ko" in names:
            return True
        return False if config or names else None

    found: dict[str, bool | None] = {}
    for feature, ways in FEATURES.items():
        answers = [has(*way) for way in ways]
        found[feature] = True if True in answers else None if None in answers else False
    return found


def _kernel_config(proc: Path, root: Path, release: str) -> set[str]:
    for path, read in ((proc / "config.gz", gzip.open), (root / f"boot/config-{release}", open)):
        try:
            with read(path, "rt") as file:
                return set(file.read().splitlines())
        except OSError:
            continue
    return set()
