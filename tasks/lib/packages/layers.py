"""Image layers, written as the same bytes whenever they hold the same files.

Not compressed: they travel over loopback, and unpacking is what a small machine waits for.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

DATA, PRIVATE, PROGRAM, STICKY = 0o644, 0o700, 0o755, 0o1777

_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A tar file and its digest (`sha256:…`), which is also its diff id."""

    path: Path
    digest: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file, folder (`content` is None) or symbolic link (`link`) of a layer. `path` has no leading slash."""

    path: str
    content: Path | bytes | None = None
    link: str = ""
    mode: int = PROGRAM
    owner: int = 0


def tree(folder: Path, prefix: str, *, executable: bool = False, skip: Iterable[str] = ()) -> Iterator[Entry]:
    """Return the entries of a folder under `prefix`, without the folders named in `skip`."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not set(skip).intersection(inside.parts[:-1]):
            yield from _entry(path, f"{prefix}/{inside.as_posix()}", executable=executable)


def _entry(path: Path, name: str, *, executable: bool) -> Iterator[Entry]:
    if path.is_symlink():
        yield Entry(path=name, link=str(path.readlink()))
    elif path.is_file():
        runs = executable or bool(path.stat().st_mode & 0o100)
        yield Entry(path=name, content=path, mode=PROGRAM if runs else DATA)


def write(entries: Iterable[Entry], target: Path) -> Layer:
    """Write a layer: sorted, without times, owners as said, with the folders above each entry."""
    known = {each.path: each for each in entries}
    for path in list(known):
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                known.setdefault(str(parent), Entry(path=str(parent)))
    with target.open("wb") as file:
        out = _Hashing(file)
        with tarfile.TarFile(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, copybufsize=_BLOCK) as tar:  # type: ignore[arg-type]
            for path in sorted(known):
                add(tar, known[path])
    return Layer(path=target, digest=f"sha256:{out.sha.hexdigest()}", size=target.stat().st_size)


def add(tar: tarfile.TarFile, entry: Entry) -> None:
    """Add one entry to an open tar file."""
    info = tarfile.TarInfo(entry.path)
    info.mode, info.uid, info.gid = entry.mode, entry.owner, entry.owner
    if entry.link:
        info.type, info.linkname = tarfile.SYMTYPE, entry.link
        tar.addfile(info)
    elif entry.content is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif isinstance(entry.content, bytes):
        info.size = len(entry.content)
        tar.addfile(info, io.BytesIO(entry.content))
    else:
        info.size = entry.content.stat().st_size
        with entry.content.open("rb") as source:
            tar.addfile(info, source)


def of_file(path: Path) -> Layer:
    """Return the layer that an existing tar file is."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256")
    return Layer(path=path, digest=f"sha256:{found.hexdigest()}", size=path.stat().st_size)


class _Hashing:
    """A file that knows the digest of what was written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write and count in."""
        self.sha.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        """Return the position, which tarfile asks for."""
        return self._file.tell()
