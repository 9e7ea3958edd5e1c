"""The Debian userland under every image that is more than a static binary, and under the cluster's nodes.

Made by debootstrap, as a tar file with the same bytes whenever it holds the same packages. Packages that were fetched
are kept, so that another recipe fetches only what is new.
"""

import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from tasks.lib import shell
from tasks.lib.container import ContainerEngine, apt_install
from tasks.lib.errors import CommandFailed, FetchFailed, NotAvailable
from tasks.lib.packages.images import Userland
from tasks.lib.packages.recipes import Debian
from tasks.lib.packages.store import Store, digest

FORMAT = 1
"""Part of the key: raise it when the way of making the userland changes what comes out."""

DEFAULT_MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_APT = Path("/etc/apt")
_BOOTSTRAP_S = 1200.0
_PRUNE = (
    "dev/*", "etc/hostname", "etc/machine-id", "etc/resolv.conf", "run/*", "tmp/*", "usr/share/doc/*",
    "usr/share/doc-base/*", "usr/share/info/*", "usr/share/lintian/*", "usr/share/locale/*", "usr/share/man/*",
    "var/cache/apt/*", "var/cache/debconf/*", "var/cache/ldconfig/*", "var/lib/apt/lists/*", "var/log/*",
)  # fmt: skip

Say = Callable[[str], None]


class Base:
    """The userland: a tar file in the cache, and an image of the engine."""

    def __init__(self, store: Store, recipe: Debian, engine: ContainerEngine, *, install: bool = True) -> None:
        self._store = store
        self._recipe = recipe
        self._engine = engine
        self._install = install

    @property
    def key(self) -> str:
        """The digest of everything that decides what is in it."""
        return digest([FORMAT, self._recipe.suite, sorted(self._recipe.base), _PRUNE])

    @property
    def target(self) -> Path:
        """Where its tar file is, or will be."""
        return self._store.path("layers", f"debian-{self.key}.tar")

    def tar(self) -> Path:
        """Return the whole file system as a tar file, made if it is not there."""
        return self._store.once(self.target, self.write)

    def image(self) -> str:
        """Return the reference under which the engine has it, imported if it has not."""
        ref = f"inference-in-a-box/debian:{self.key}"
        with self._store.lock(f"debian-{self.key}"):
            if not self._engine.has_image(ref):
                self._engine.docker("import", "--change", "LABEL inference-in-a-box=1", self.tar(), ref)
        return ref

    def compile(self, folder: Path, inside: str) -> None:
        """Compile a folder of Python with the userland's own interpreter, for the path it will be found at."""
        self._engine.docker(
            "run", "--rm", "--network", "none", "--volume", f"{folder}:{inside}", self.image(),
            "python3", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", inside,
        )  # fmt: skip

    def userland(self, packages: tuple[str, ...] = ()) -> Userland:
        """Return it as the images want it; with `packages`, another one that has these and what they need, and no more.

        For a server that is in Debian and wanted in one image: in the userland of all, it would be in every sidecar.
        """
        found = self
        if packages:
            found = Base(self._store, replace(self._recipe, base=packages), self._engine, install=self._install)
        return Userland(key=found.key, layer=found.write, compile=found.compile)

    def write(self, target: Path) -> None:
        """Write the tar file.

        Raises NotAvailable without root or debootstrap, FetchFailed naming the mirror when packages cannot be had.
        """
        require_debootstrap(install=self._install)
        root = target.parent / "rootfs"
        self._bootstrap(root)
        prune(root)
        # Sorted and without times: the same packages give the same digest.
        shell.run(
            ["tar", "--create", "--sort=name", "--mtime=@0", "--numeric-owner", "--format=gnu", "--xattrs",
             f"--file={target}", f"--directory={root}", "."]
        )  # fmt: skip

    def _bootstrap(self, root: Path) -> None:
        mirror = find_mirror(_APT)
        packages = self._store.path("debian", "packages")
        packages.mkdir(exist_ok=True)
        # In a mount namespace of its own: what it mounts below the root is gone when it is, however it ends.
        argv: list[str | Path] = [
            "unshare", "--mount", "debootstrap", "--variant=minbase", f"--cache-dir={packages}", f"--keyring={KEYRING}",
            f"--include={','.join(sorted(self._recipe.base))}", self._recipe.suite, root, mirror,
        ]  # fmt: skip
        try:
            shell.run(argv, timeout_s=_BOOTSTRAP_S)
        except CommandFailed as error:
            log = root / "debootstrap" / "debootstrap.log"
            raise FetchFailed(
                f"debootstrap could not make a Debian {self._recipe.suite} from {mirror}",
                facts={"output": error.output, "log": _tail(log)},
                hint="check the mirror in /etc/apt and the network, then run again; packages fetched are kept",
            ) from error


def prune(root: Path) -> None:
    """Remove what no container needs, and what differs from one machine to the next."""
    for pattern in _PRUNE:
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    (root / "etc" / "machine-id").touch()


def require_debootstrap(*, install: bool) -> None:
    """Make sure of debootstrap and Debian's keys. Raises NotAvailable saying what to type when that may not be done."""
    if os.geteuid() != 0:
        raise NotAvailable(
            "source packages makes a Debian file system with debootstrap, which needs root",
            hint="run as root, or choose another source with --source",
        )
    missing = [name for name, there in (("debootstrap", shutil.which("debootstrap")),
                                        ("debian-archive-keyring", KEYRING.exists())) if not there]  # fmt: skip
    if not missing:
        return
    if not install or not shutil.which("apt-get"):
        raise NotAvailable(
            f"source packages needs {' and '.join(missing)}",
            hint=f"apt-get install {' '.join(missing)}   (on other systems: debootstrap from your distribution)",
        )
    apt_install(missing)


def find_mirror(apt: Path) -> str:
    """Return the Debian mirror that this machine is set up with; Debian's own when it has none (Ubuntu)."""
    texts = [
        path.read_text() for path in (apt / "sources.list", *sorted(apt.glob("sources.list.d/*"))) if path.is_file()
    ]
    return next(filter(_is_debian, _addresses("\n".join(texts))), DEFAULT_MIRROR).rstrip("/")


def _addresses(text: str) -> Iterable[str]:
    """Return the addresses in apt's sources, both of the old style (`deb URI …`) and the new (`URIs: URI …`)."""
    for line in text.splitlines():
        if found := re.match(r"(?:deb(?:\s+\[[^\]]*\])?|URIs:)\s+(.*)", line.strip()):
            yield from (word for word in found.group(1).split() if "://" in word)


def _is_debian(address: str) -> bool:
    path = urllib.parse.urlsplit(address).path.rstrip("/")
    return address.startswith(("http://", "https://")) and path.rpartition("/")[2] == "debian"


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-10:]) if log.exists() else "(none)"
