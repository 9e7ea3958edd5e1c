"""Puts a source together from what a run has."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.lib import lockfile, lockwants
from tasks.lib.packages.store import Store
from tasks.lib.sources import Make, Source
from tasks.lib.sources.upstream import Locked

if TYPE_CHECKING:
    from tasks.lib.container import ContainerEngine
    from tasks.lib.lockfile import Lock
    from tasks.lib.versions import Versions

PACKAGES = "packages"


def maker(
    *,
    root: Path,
    cache: Path,
    mirror: str,
    engine: "ContainerEngine",
    helm: Callable[["Versions", Source], Path],
    local: bool = True,
    install: bool = True,
    lock: "Lock | None" = None,
    stages: Collection[str] | None = None,
) -> Make:
    """Return the function that makes a source by its name, for `detect`.

    `cache` is the user's cache folder, `mirror` what `--mirror` was given. `local` says whether the nodes are
    containers of ours (provider kind). `helm` returns the helm that pulls charts. `lock` is what is fetched held
    against, entry by entry. `stages` are those of this version.
    """
    lock = lock or lockfile.Lock()

    def locked(versions: "Versions") -> Locked:
        return lock.fitting(lockwants.of_versions(versions)).sha256

    def upstream(versions: "Versions") -> Source:
        from tasks.lib.sources.upstream import Upstream

        made: Upstream = Upstream(
            versions, Store(cache), helm=lambda: helm(versions, made), locked=locked(versions),
            engine=engine if local else None, stages=stages,
        )  # fmt: skip
        return made

    def from_mirror(versions: "Versions") -> Source:
        from tasks.lib.sources.mirror import MirrorSource

        return MirrorSource(versions, Store(cache), mirror, locked=locked(versions))

    def packages(versions: "Versions") -> Source:
        from tasks.lib.packages import recipes
        from tasks.lib.sources.packages import PackagesSource

        store = Store(cache / PACKAGES)
        return PackagesSource(
            versions, store, recipes.load(root), engine=engine, local=local, install=install, locked=lock.sum,
            stages=stages,
        )  # fmt: skip

    makers = {"upstream": upstream, "mirror": from_mirror, PACKAGES: packages}
    return lambda name, versions: makers[name](versions)
