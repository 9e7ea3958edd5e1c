"""Pinned helm, kind and kubectl in the project's own folder, whatever the machine has.

Each is held against a checksum, asked for its own version and only then put in place, in one step. A cut-off download
or a killed run leaves nothing that would be taken for a tool.
"""

import json
import os
import platform
import re
import shutil
import tarfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from tasks.lib import lockfile, shell
from tasks.lib.errors import CommandFailed, FetchFailed, NotAvailable
from tasks.lib.lockfile import Lock
from tasks.lib.packages.store import Store, file_digest
from tasks.lib.versions import Tool, Versions

FOLDER = Path(".box/bin")

_SYSTEMS = ("linux", "darwin")
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_ASK_S = 30.0
_ASK = {
    "helm": ("version", "--template", "{{.Version}}"),
    "kind": ("--version",),
    "kubectl": ("version", "--client", "--output", "json"),
}
"""How each says its own version."""

_VERSION = re.compile(r"v?(\d+\.\d+\.\d+[^\s+]*)")


class ToolSource(Protocol):
    """What is needed of a source."""

    @property
    def name(self) -> str:
        """The word that --source takes."""

    def tool(self, name: str) -> Path | None:
        """Return a tool that this source has itself, or None when it is to be downloaded from its publisher."""


class Tools:
    """The tools of a run. Safe for threads, and for several runs in one folder.

    `say` is told what is fetched, and from where a checksum comes when the lock has none.
    """

    def __init__(
        self, root: Path, versions: Versions, source: ToolSource, *, lock: Lock | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._folder = root / FOLDER
        self._store = Store(self._folder)
        self._versions = versions
        self._source = source
        self._lock = lockfile.load(root) if lock is None else lock
        self._say = say
        self._good: dict[str, Path] = {}
        self._busy = threading.Lock()

    def path(self, name: str) -> Path:
        """Return a tool, fetched or built once, that says it is the version pinned.

        Raises FetchFailed with address, expected and got when its bytes are not to be had; NotAvailable when there is
        none for this machine.
        """
        with self._busy:
            if name not in self._good:
                self._good[name] = self._ready(self._versions.tools[name])
            return self._good[name]

    def state(self, name: str) -> str:
        """Say what is there: "3.2.1", "3.2.1, to be fetched" or what is wrong. Fetches nothing."""
        tool = self._versions.tools[name]
        target = self._target(tool)
        if not target.exists():
            return f"{tool.version}, to be fetched"
        wrong = _disagrees(tool, target)
        return f"{wrong}; to be fetched again" if wrong else tool.version

    def _target(self, tool: Tool) -> Path:
        return self._folder / f"{tool.name}-{tool.version}"

    def _ready(self, tool: Tool) -> Path:
        target = self._target(tool)
        if target.exists() and (wrong := _disagrees(tool, target)):
            self._say(f"{wrong}; fetching it again")
            target.unlink(missing_ok=True)
        self._store.once(target, lambda work: self._make(tool, work))
        self._link(tool.name, target)
        return target

    def _make(self, tool: Tool, work: Path) -> None:
        own = self._source.tool(tool.name)
        if own:
            shutil.copyfile(own, work)
            origin = f"source {self._source.name}"
        else:
            origin = self._download(tool, work)
        work.chmod(0o755)
        if wrong := _disagrees(tool, work):
            raise FetchFailed(
                wrong, facts={"from": origin, "expected": tool.version}, hint="check tools in config/versions.yaml"
            )

    def _download(self, tool: Tool, work: Path) -> str:
        """Download a tool, check it, and take it out of its archive. Return the address."""
        from tasks.lib.sources.fetch import download

        system, machine = here()
        url = tool.at(tool.url, system, machine)
        self._say(f"fetching {tool.name} {tool.version} from {urlsplit(url).netloc}")
        expected, stated_by = self._expected(tool, system, machine)
        archive = work.with_name("archive")
        download(url, archive)
        got = file_digest(archive)
        if got != expected:
            raise FetchFailed(
                f"{tool.name} {tool.version}: wrong checksum",
                facts={"url": url, "expected": f"sha256:{expected} ({stated_by})", "got": f"sha256:{got}"},
                hint=f"run again; if the new file is right:  {lockfile.COMMAND}",
            )
        if tool.member:
            _extract(archive, tool.at(tool.member, system, machine), work, url)
        else:
            archive.rename(work)
        return url

    def _expected(self, tool: Tool, system: str, machine: str) -> tuple[str, str]:
        """Return the checksum and who states it: the lock, or the publisher while the tool is not locked."""
        locked = self._lock.sha256("tools", tool.name, f"{system}-{machine}")
        entry = self._lock.entries.get(f"tools.{tool.name}")
        if locked and entry and entry.of == tool.at(tool.url, "{os}", "{arch}"):
            return locked, str(lockfile.FILE)
        from tasks.lib.lockfetch import published

        url = tool.at(tool.checksum_url, system, machine)
        host = urlsplit(url).netloc
        self._say(f"{tool.name} {tool.version} is not locked yet: checked against what {host} publishes")
        return published(url), url

    def _link(self, name: str, target: Path) -> None:
        """Let .box/bin/<name> be the one in use, for people who put that folder on their PATH."""
        link = self._folder / name
        if link.is_symlink() and str(link.readlink()) == target.name:
            return
        beside = self._folder / f".{name}.{os.getpid()}.{threading.get_ident()}"
        beside.symlink_to(target.name)
        beside.replace(link)


def here() -> tuple[str, str]:
    """Return this machine's system and architecture as publishers spell them. Raises NotAvailable for others."""
    system, machine = platform.system().lower(), _MACHINES.get(platform.machine().lower(), "")
    if system not in _SYSTEMS or not machine:
        raise NotAvailable(
            f"no tools are published for {platform.system()} on {platform.machine()}",
            facts={"known": ", ".join(lockfile.PLATFORMS)},
            hint="run this in a Linux machine (on Windows: WSL 2)",
        )
    return system, machine


def _extract(archive: Path, member: str, target: Path, url: str) -> None:
    try:
        with tarfile.open(archive) as tar:
            inside = tar.extractfile(member)
            if inside is None:
                raise KeyError(member)  # noqa: TRY301 (a member that is no file is not there)
            with inside, target.open("wb") as out:
                shutil.copyfileobj(inside, out)
    except (tarfile.TarError, zlib.error, KeyError, EOFError, OSError) as error:
        raise FetchFailed(f"{url}: {member} cannot be taken out of the archive", facts={"cause": error}) from error


def _disagrees(tool: Tool, path: Path) -> str:
    """Ask a tool for its version. Return what is wrong, empty when it is the pinned one."""
    try:
        said = shell.run([path, *_ASK[tool.name]], timeout_s=_ASK_S).stdout
    except (CommandFailed, NotAvailable, OSError) as error:
        return f"{tool.name} {tool.version} does not run here: {str(error).splitlines()[0]}"
    if tool.name == "kubectl":
        said = _client_version(said)
    found = _VERSION.search(said)
    if found and found[1] == tool.version.removeprefix("v"):
        return ""
    return f"{tool.name} {tool.version} says that it is {said.strip()[:60] or 'nothing'}"


def _client_version(said: str) -> str:
    try:
        return str(json.loads(said)["clientVersion"]["gitVersion"])
    except (ValueError, KeyError, TypeError):
        return said
