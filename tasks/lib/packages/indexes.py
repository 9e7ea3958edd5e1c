"""Which package registries this machine is set up to use."""

import os
import re
import sys

from tasks.lib import shell

_PYPI = "https://pypi.org/simple"


def go_proxy(setting: str) -> str:
    """Return the first proxy of a GOPROXY list; empty when it names none ("direct", "off")."""
    first = re.split(r"[,|]", setting)[0].strip()
    return first.rstrip("/") if first.startswith(("http://", "https://")) else ""


def pypi() -> str:
    """Return the index that pip uses."""
    if given := os.environ.get("PIP_INDEX_URL"):
        return given.rstrip("/")
    found = shell.run([sys.executable, "-m", "pip", "config", "get", "global.index-url"], check=False, timeout_s=20)
    return (found.stdout.strip() if found.returncode == 0 else "").rstrip("/") or _PYPI
