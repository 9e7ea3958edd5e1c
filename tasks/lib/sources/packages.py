"""Source `packages`: no container registry in reach, only package registries.

Pieces are built, pushed to a registry beside the cluster, and pulled from there under their upstream names.
"""

import atexit
import contextlib
import os
import platform
import queue
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.lib import mirror, shell
from tasks.lib.container import ContainerEngine
from tasks.lib.errors import BoxError, NotAvailable
from tasks.lib.mirror import Mirror
from tasks.lib.packages import indexes
from tasks.lib.packages.charts import Charts
from tasks.lib.packages.debian import Base, find_mirror
from tasks.lib.packages.gomodule import GoModules, Sum, nothing_locked
from tasks.lib.packages.images import Images
from tasks.lib.packages.node import NodeImage, parts_of
from tasks.lib.packages.recipes import Recipes
from tasks.lib.packages.store import Store
from tasks.lib.packages.workshop import Workshop
from tasks.lib.registry import Registry
from tasks.lib.sources import reach
from tasks.lib.sources.mirror import unresolved

if TYPE_CHECKING:
    from tasks.lib.component import Say
    from tasks.lib.versions import Versions

APT = Path("/etc/apt")
FIRST_STAGE = "cluster"
_REGISTRY = "registry"
_TICK_S = 1.0

Piece = Callable[[threading.Event], object]


class PackagesSource:
    """Everything built from published packages.

    `local` says whether the nodes are containers of ours, which reach the registry beside them by its name. `install`
    allows what is missing (a container engine, debootstrap) to be installed. `locked` knows the sums of modules.
    `stages` are those of the platform: what only others need must not make the source unusable. None means all.
    """

    name = "packages"

    def __init__(
        self,
        versions: "Versions",
        store: Store,
        recipes: Recipes,
        *,
        engine: ContainerEngine,
        local: bool = True,
        install: bool = True,
        locked: Sum = nothing_locked,
        stages: Collection[str] | None = None,
    ) -> None:
        self._stages = stages
        self._versions = versions
        self._store = store
        self._recipes = recipes
        self._engine = engine
        self._local = local
        self._install = install
        self._modules = GoModules(store, locked)
        self._workshop = Workshop(self._modules, recipes)
        self._base = Base(store, recipes.debian, engine, install=install)
        self._images = Images(store, recipes, self._modules, self._base.userland, self._workshop.build_now)
        self._charts = Charts(store, recipes, self._modules)
        self._registry_lock = threading.Lock()
        atexit.register(shell.end_all)  # a build that nobody waits for any more must not outlive us
        self._registry: Registry | None = None

    def available(self) -> str | None:
        """Ask for Go and for the three registries; for nothing when all is built already."""
        if not self._local:
            return "it is for clusters of our own: other nodes do not reach the registry on this machine"
        system, machine, wanted = platform.system(), platform.machine(), self._recipes.python.machine
        if (system, machine) != ("Linux", wanted):
            return f"its recipes are for Linux {wanted}; this machine is {system} {machine}"
        if os.geteuid() != 0:
            return "it makes a Debian file system with debootstrap, which needs root"
        try:
            self._modules.facts  # noqa: B018 (asks the toolchain)
        except NotAvailable as error:
            return error.what
        if not self.estimate():
            return None
        failed = reach.probe(self.addresses())
        return "\n".join(f"{name}: {reason}" for name, reason in failed.items()) or None

    def addresses(self) -> dict[str, str]:
        """Return the three registries: name → an address that must answer."""
        first = next(iter(self._recipes.modules.values()))
        wheel = next(iter(self._recipes.wheels.values()))
        found = {"PyPI": f"{indexes.pypi()}/{wheel.package}/"}
        found["Debian"] = f"{find_mirror(APT)}/dists/{self._recipes.debian.suite}/InRelease"
        if proxy := indexes.go_proxy(self._modules.facts["GOPROXY"]):
            found["Go modules"] = f"{proxy}/{first.module}/@v/{first.version}.info"
        return found

    def describe(self) -> str:
        """Say where things come from."""
        return "built from Go modules, PyPI and Debian, and pulled from a registry beside the cluster"

    def tool(self, name: str) -> Path | None:
        """Return a tool, built from its module if it is not there yet."""
        module = self._recipes.module_of(name)
        return self._workshop.build(module.name, threading.Event()) / name

    def chart(self, name: str) -> Path:
        """Return the chart that lies in a module."""
        return self._charts.chart(name, self._versions.charts[name].version)

    def manifest(self, name: str) -> Path:
        """Return the manifest put together from a module's files, or a stand-in's own."""
        return self._charts.manifest(name, self._versions.manifests[name].version, self.ref)

    def values(self, chart: str) -> Mapping[str, Any]:
        """Return what stand-ins need to have different."""
        return self._recipes.values.get(chart, {})

    def node_image(self) -> str:
        """Return the node image that `prepare` of the first stage builds."""
        return self._versions.kubernetes.node_image

    def containerd_hosts(self) -> dict[str, str]:
        """Return one entry: our registry stands for every other."""
        return mirror.pushed_hosts()

    def registries_without_tag_resolving(self) -> list[str]:
        """Return every registry: none of them is in reach."""
        return unresolved(self._versions)

    def ref(self, name: str) -> str:
        """Return the reference of an image."""
        own = self._recipes.images[name].ref if name in self._recipes.images else ""
        return own or self._versions.images[name].ref

    def begin(self, stages: Sequence[str], cancel: threading.Event | None = None) -> None:
        """Build the modules of these stages and the Debian base in the background, in the order of the stages.

        Needs no container engine, so that nothing is idle while one is installed and the cluster comes up.
        """
        stop = cancel or threading.Event()
        work: list[Piece] = [partial(self._workshop.build, name) for name in self._wanted_modules(stages)]
        work.append(lambda _: self._base.tar())
        for piece in work:
            threading.Thread(target=_quietly, args=(piece, stop), daemon=True).start()

    def prepare(self, stages: Sequence[str], say: "Say", cancel: threading.Event | None = None) -> None:
        """Build what these stages need and put it into the registry. Nothing that is there is made again.

        Raises the first failure; what was built until then is kept.
        """
        stop = _Either(cancel)
        pieces = self._pieces(stages)
        modules = self._wanted_modules(stages)
        done: queue.Queue[tuple[str, BaseException | None]] = queue.Queue()
        for name, piece in pieces.items():
            threading.Thread(target=_attempt, args=(name, piece, stop, done), daemon=True).start()
        waiting = set(pieces)
        while waiting:
            try:
                name, error = done.get(timeout=_TICK_S)
            except queue.Empty:
                say(self._workshop.progress(modules) or f"putting together {', '.join(sorted(waiting))}")
                continue
            waiting.discard(name)
            if error is not None:
                stop.set()
                raise error
        if stop.is_set():
            raise BoxError("interrupted while building")

    def digests(self) -> dict[str, str]:
        """Return the digest of every image that was composed, for the lock and for `verify`."""
        return {
            name: found for name, each in self._recipes.images.items()
            if not each.ref and (found := self._images.digest(name))
        }  # fmt: skip

    def estimate(self) -> dict[str, float | None]:
        """Return what the platform's stages need and is not built yet, with seconds."""
        modules = [each.name for each in self._recipes.modules.values() if self._needed(each.stage)]
        missing = self._workshop.missing(modules)
        found: dict[str, float | None] = {
            f"Go module {name}": self._workshop.expected(self._recipes.module(name)) for name in missing
        }
        for name, image in self._recipes.images.items():
            stage = FIRST_STAGE if image.ref else self._versions.images[name].stage
            if self._needed(stage) and self._images.digest(name) is None:
                found[f"image {name}"] = None
        return found

    def _needed(self, stage: str) -> bool:
        return self._stages is None or stage in self._stages

    def standins(self) -> dict[str, str]:
        """Return what stands in for what, and what stays untested because of it."""
        return {each["stands_for"]: each["untested"] for each in self._recipes.standins.values()}

    @cached_property
    def _node(self) -> NodeImage:
        return NodeImage(self._engine, self._store, parts_of(self._recipes, self._modules, self._images, self._base))

    def registry(self) -> Registry:
        """Return the registry beside the cluster, started from an image of our own if it is not running."""
        with self._registry_lock:
            if self._registry is None or not self._registry.answers():
                self._engine.ensure(install=self._install, say=_silent)
                ref = self.ref(_REGISTRY)
                self._images.load(_REGISTRY, ref, self._engine)
                self._registry = Mirror(engine=self._engine, store=self._store, image=ref).ensure()
            return self._registry

    def _pieces(self, stages: Sequence[str]) -> dict[str, Piece]:
        """Return the things to make for these stages, each under a name for people."""
        pieces: dict[str, Piece] = {}
        for name in self._wanted_modules(stages):
            pieces[f"module {name}"] = partial(self._workshop.build, name)
        for name in self._wanted_images(stages):
            pieces[f"image {name}"] = partial(self._push, name)
        for name, chart in self._recipes.charts.items():
            if self._recipes.module(chart.module).stage in stages:
                pieces[f"chart {name}"] = partial(self._fetch_chart, name)
        if FIRST_STAGE in stages:
            pieces["node image"] = self._build_node
        return pieces

    def _push(self, name: str, stop: threading.Event) -> None:
        if self._images.known(name) is None:
            for module in self._recipes.image(name).modules:
                self._workshop.build(module, stop)
        self._images.push(name, self.ref(name), self.registry())

    def _fetch_chart(self, name: str, stop: threading.Event) -> None:
        if not stop.is_set():
            self.chart(name)

    def _build_node(self, stop: threading.Event) -> None:
        for module in self._wanted_modules([FIRST_STAGE]):
            self._workshop.build(module, stop)
        if not stop.is_set():
            self._engine.ensure(install=self._install, say=_silent)
            self._node.build(_silent)

    def _wanted_images(self, stages: Sequence[str]) -> list[str]:
        return [
            name for name, each in self._recipes.images.items()
            if not each.ref and name in self._versions.images and self._versions.images[name].stage in stages
        ]  # fmt: skip

    def _wanted_modules(self, stages: Sequence[str]) -> list[str]:
        used = {module for name in self._wanted_images(stages) for module in self._recipes.images[name].modules}
        return [name for name, each in self._recipes.modules.items() if each.stage in stages or name in used]


class _Either(threading.Event):
    """Set when it is set, or when the run it belongs to is cancelled."""

    def __init__(self, other: threading.Event | None) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or (self._other is not None and self._other.is_set())


def _attempt(
    name: str, piece: Piece, stop: threading.Event, done: "queue.Queue[tuple[str, BaseException | None]]"
) -> None:
    try:
        if not stop.is_set():
            piece(stop)
    except BaseException as error:  # noqa: BLE001 (carried to the thread that waits, and raised there)
        done.put((name, error))
    else:
        done.put((name, None))


def _quietly(piece: Piece, stop: threading.Event) -> None:
    with contextlib.suppress(Exception):  # raised again, and shown, where it is needed
        piece(stop)


def _silent(text: str) -> None:
    """Take what is said inside a piece: the board shows the whole."""
