"""What this machine and its surroundings are like, gathered in seconds and without changing anything.

Every question is asked of all at once, each in its own thread, with one deadline: what does not answer is a fact too.
What cannot be told on a machine (no /proc, a remote engine) is None, and is not held against it.
"""

import os
import platform
import queue
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tasks.lib.container import Fault, Probe
from tasks.lib.errors import BoxError
from tasks.lib.linux import holder, inotify, kernel, memory_available

DEADLINE_S = 20.0

_LOOPBACK = "127.0.0.1"
_ENGINE_ROOT = Path("/var/lib/docker")


class Engine(Protocol):
    """What is needed of the container engine."""

    def probe(self) -> Probe:
        """Ask the daemon for its version."""

    def info(self) -> dict[str, Any]:
        """Return what it says of itself."""


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """The container engine. `problem` is empty when it answers; `curable` when `up` will install or start one."""

    version: str = ""
    problem: str = ""
    hint: str = ""
    curable: bool = False
    memory: int | None = None
    root: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Free bytes of the file system under a folder. `device` tells file systems apart."""

    path: Path
    free: int
    device: int


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A source that was asked whether it can work here. `problem` is empty when it can."""

    problem: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """The cluster that provider `existing` names. `problem` is empty when it answers."""

    context: str = ""
    version: str = ""
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything the checks look at. `cluster_exists`: the kind cluster is there, and uses what it uses."""

    provider: str = "kind"
    cluster_exists: bool = False
    cpus: int | None = None
    memory_available: int | None = None
    engine: EngineFacts | None = None
    engine_disk: Disk | None = None
    cache_disk: Disk | None = None
    inotify: Mapping[str, int] = field(default_factory=dict)
    ports: Mapping[int, str | None] = field(default_factory=dict)
    """Port → who holds it; None: it is free."""

    kernel: Mapping[str, bool | None] = field(default_factory=dict)
    sources: Mapping[str, Tried] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    cluster: ClusterFacts | None = None


def gather(
    *,
    provider: str,
    ports: Iterable[int],
    cache: Path,
    engine: Engine | None,
    cannot_install: Callable[[], str] = lambda: "",
    cluster_exists: Callable[[], bool] = lambda: False,
    sources: Mapping[str, Callable[[], str | None]],
    tools: Mapping[str, Callable[[], str]],
    cluster: Callable[[], ClusterFacts] | None = None,
    deadline_s: float = DEADLINE_S,
    proc: Path = Path("/proc"),
) -> Facts:
    """Ask everything. `engine` is None where none is needed, `cluster` where none is named.

    `cannot_install` says why no engine may be installed here, `sources` why each cannot work, `tools` what state each
    is in.
    """
    asked: dict[str, Callable[[], Any]] = {
        **{f"source {name}": _timed(ask) for name, ask in sources.items()},
        **{f"tool {name}": ask for name, ask in tools.items()},
        "engine": lambda: engine_facts(engine, cannot_install) if engine else None,
        "exists": cluster_exists,
        "cluster": cluster or (lambda: None),
    }
    said = _all(asked, deadline_s)
    found = said["engine"] if isinstance(said["engine"], EngineFacts) else None
    if engine and not found:
        found = EngineFacts(problem=_problem(said["engine"]), hint="docker info")
    return Facts(
        provider=provider,
        cluster_exists=said["exists"] is True,
        cpus=os.cpu_count(),
        memory_available=memory_available(proc),
        engine=found,
        engine_disk=disk((found and found.root) or _ENGINE_ROOT) if engine and _local(found) else None,
        cache_disk=disk(cache),
        inotify=inotify(proc),
        ports={port: held(port, proc) for port in ports},
        kernel=kernel(proc) if platform.system() == "Linux" else {},
        sources={name: _tried(said[f"source {name}"], deadline_s) for name in sources},
        tools={name: answer if isinstance(answer := said[f"tool {name}"], str) else _problem(answer) for name in tools},
        cluster=_cluster(said["cluster"]),
    )


def engine_facts(engine: Engine, cannot_install: Callable[[], str]) -> EngineFacts:
    """Ask the engine."""
    probe = engine.probe()
    if probe.fault is None:
        info = engine.info()
        root = str(info.get("DockerRootDir", ""))
        return EngineFacts(
            version=probe.version, memory=int(info.get("MemTotal", 0)) or None, root=Path(root) if root else None
        )
    error = probe.error()
    reason = cannot_install() if probe.fault in (Fault.NO_CLIENT, Fault.NO_DAEMON) else "-"
    said = [str(error.facts[key]) for key in ("it said", "DOCKER_HOST") if key in error.facts]
    return EngineFacts(problem=": ".join([error.what, *said]), hint=error.hint, curable=not reason)


def disk(path: Path) -> Disk | None:
    """Return the file system under a folder that need not be there yet."""
    for folder in (path, *path.parents):
        try:
            return Disk(path=path, free=shutil.disk_usage(folder).free, device=folder.stat().st_dev)
        except OSError:
            continue
    return None


def held(port: int, proc: Path) -> str | None:
    """Return who holds a port of this machine's loopback address; None when it is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_LOOPBACK, port))
        except PermissionError:  # a low port: ours to try only as root, but the engine's to take
            return holder(port, proc) or None
        except OSError:
            return holder(port, proc) or "another program"
    return None


def _local(engine: EngineFacts | None) -> bool:
    """Whether the engine's data are on this machine: not with a remote engine, nor with Docker Desktop."""
    if os.environ.get("DOCKER_HOST", "").startswith(("tcp:", "ssh:")):
        return False
    return platform.system() == "Linux" and not (engine and engine.root and not engine.root.exists())


def _timed(ask: Callable[[], str | None]) -> Callable[[], Tried]:
    def timed() -> Tried:
        begun = time.monotonic()
        problem = ask() or ""
        return Tried(problem=problem, seconds=time.monotonic() - begun)

    return timed


def _tried(answer: object, deadline_s: float) -> Tried:
    return answer if isinstance(answer, Tried) else Tried(problem=_problem(answer), seconds=deadline_s)


def _cluster(answer: object) -> ClusterFacts | None:
    if answer is None or isinstance(answer, ClusterFacts):
        return answer
    hint = answer.hint if isinstance(answer, BoxError) else ""
    return ClusterFacts(problem=_problem(answer), hint=hint)


def _problem(answer: object) -> str:
    """Say in one line what a question that was not answered came to."""
    if not isinstance(answer, BoxError):
        return f"{type(answer).__name__}: {answer}" if not isinstance(answer, TimeoutError) else str(answer)
    cause = str(answer.facts.get("cause", "")).splitlines()
    return f"{answer.what}: {cause[0]}" if cause else answer.what


def _all(asked: Mapping[str, Callable[[], Any]], deadline_s: float) -> dict[str, Any]:
    """Ask everything at once. An answer is what was returned, or the exception."""
    answers: queue.Queue[tuple[str, Any]] = queue.Queue()

    def ask(name: str, question: Callable[[], Any]) -> None:
        try:
            answers.put((name, question()))
        except Exception as error:  # noqa: BLE001 (a check that breaks is a finding, not the end of the others)
            answers.put((name, error))

    for name, question in asked.items():
        # Daemons: what hangs must not hold up the end of the program.
        threading.Thread(target=ask, args=(name, question), daemon=True).start()
    said: dict[str, Any] = {name: TimeoutError(f"no answer within {deadline_s:g} s") for name in asked}
    deadline = time.monotonic() + deadline_s
    for _ in asked:
        try:
            name, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        said[name] = answer
    return said
