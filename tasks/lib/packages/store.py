"""The cache folder: things made once, whole or not at all, by any number of runs at the same time."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_SHORT = 12


class Store:
    """A folder of finished things. Each is made under a temporary name and renamed when it is complete."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, *parts: str) -> Path:
        """Return a path in the cache; its folder exists."""
        path = self.root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock that other threads and other runs respect. The kernel releases it if we are killed."""
        with self.path("locks", f"{name}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def once(self, target: Path, make: Callable[[Path], None]) -> Path:
        """Return `target`, made by `make` (which gets a temporary path to fill) if it is not there yet.

        A crash leaves only a temporary name, which the next run removes.
        """
        if target.exists():
            return target
        with self.lock(digest(str(target))):
            if target.exists():
                return target
            for left in target.parent.glob(f".{target.name}.*"):
                _remove(left)
            target.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            try:
                make(work / "it")
                (work / "it").rename(target)
            finally:
                _remove(work)
        return target

    def read(self, target: Path) -> Any:  # noqa: ANN401 (JSON)
        """Return a JSON record, or None when it is not there or was cut off."""
        try:
            return json.loads(target.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def write(self, target: Path, record: object) -> None:
        """Write a JSON record atomically."""
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(record, file, indent=1, sort_keys=True)
        Path(name).rename(target)


def digest(value: object) -> str:
    """Return a short stable digest of any JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_SHORT]


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path):
            Path(folder).chmod(0o755)  # a module's own folders are read-only, and so are copies
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
