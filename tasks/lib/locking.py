"""`versions.lock` and `versions.list`: make the lock, and show every pin with what holds it."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from tasks.lib import lockfile, lockwants, versions
from tasks.lib.errors import FetchFailed, NotAvailable
from tasks.lib.lockfetch import Published
from tasks.lib.lockfile import Lock, Wanted
from tasks.lib.packages import gomodule, pypi, recipes
from tasks.lib.packages.gomodule import GoModules
from tasks.lib.packages.recipes import Recipes
from tasks.lib.packages.store import Store
from tasks.lib.provenance import Provenance
from tasks.lib.sources.factory import PACKAGES
from tasks.lib.tenants import columns

LOCKED, UNLOCKED, STALE = "locked", "not locked", "stale"


class _Pin(Protocol):
    @property
    def version(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Row:
    """One pin: its version, how it is held, and what source `packages` takes instead: why, and outside which ranges."""

    key: str
    version: str
    state: str
    why: str = ""
    value: object = ""
    packages: dict[str, str] = field(default_factory=dict)
    packages_why: str = ""
    packages_outside: tuple[str, ...] = ()


def lock(root: Path, cache: Path, *, refresh: bool = False) -> None:
    """Write the lock, and the lock of Python packages. What cannot be had is reported as not locked, with the reason.

    Raises BadInput when `refresh` finds other bytes under a name that was locked.
    """
    found = recipes.load(root)
    wanted = lockwants.everything(root)
    old = lockfile.load(root)
    made = lockfile.make(wanted, Published(module_sums(found, cache)), old=old, refresh=refresh, say=_tell)
    written = lockfile.save(root, made)
    sys.stdout.write(summary(old, made, written=written))
    file = root / "config" / found.python.lock
    new = python_packages(found, file, refresh=refresh)
    sys.stdout.write(f"{file.relative_to(root)}: {'written' if new else 'as it was'}\n")


def module_sums(found: Recipes, cache: Path) -> Callable[[str, str], str]:
    """Return the function that asks Go for a module's sum; a finished build has noted it."""
    modules = GoModules(Store(cache / PACKAGES))
    known = {(each.module, each.version): each for each in found.modules.values()}

    def ask(module: str, version: str) -> str:
        try:
            return gomodule.sums(modules, [known[module, version]])[f"{module}@{version}"]
        except NotAvailable as error:
            raise FetchFailed(f"{module}@{version}: {error.what}") from error

    return ask


def python_packages(found: Recipes, file: Path, *, refresh: bool) -> bool:
    """Resolve the Python packages where their lock does not fit; return whether it was written.

    A lock that fits is never lost to an index that is away.
    """
    old = file.read_text() if file.exists() else ""
    fits = pypi.fits(found.python, old)
    if fits and not refresh:
        return False
    try:
        new = pypi.resolve(found.python)
    except FetchFailed as error:
        if not fits:
            raise
        _tell(f"{file.name}: {error.what}")
        return False
    if new != old:
        beside = file.with_name(f".{file.name}.new")
        beside.write_text(new)
        beside.replace(file)
    return new != old


def summary(old: Lock, made: Lock, *, written: bool) -> str:
    """Say what the lock has now, and what it has not."""
    before = {key for key, entry in old.entries.items() if entry.value}
    now = {key for key, entry in made.entries.items() if entry.value}
    counts = [f"{len(now)} of {len(made.entries)} locked"]
    counts += [f"{len(found)} {word}" for found, word in ((now - before, "new"), (before - now, "gone")) if found]
    lines = [f"{lockfile.FILE}: {', '.join(counts)}; {'written' if written else 'as it was'}"]
    if free := made.unlocked():
        lines += [f"not locked: {len(free)}", *(f"  {key}: {why}" for key, why in free.items())]
    return "\n".join(lines) + "\n"


def rows(root: Path) -> list[Row]:
    """Return every pin, in the order of the files."""
    held, instead = lockfile.load(root), packages(root)
    wanted = {each.key: each for each in lockwants.everything(root)}
    return [_row(key, version, wanted[key], held, instead) for key, version in _pins(root).items()]


def packages(root: Path) -> Provenance:
    """Return how what source `packages` makes differs from the pins."""
    found = versions.load(root, versions.PACKAGES)
    standins = {each["stands_for"]: each["untested"] for each in recipes.load(root).standins.values()}
    return Provenance(
        source="built from Go modules, PyPI and Debian", name=versions.PACKAGES, overlaid=found.overlaid,
        outside=found.outside, standins=standins,
    )  # fmt: skip


def _pins(root: Path) -> dict[str, str]:
    pins, found = versions.load(root), recipes.load(root)
    sections: Mapping[str, Mapping[str, _Pin]] = {
        "tools": pins.tools, "charts": pins.charts, "manifests": pins.manifests, "images": pins.images,
        "modules": found.modules, "wheels": found.wheels,
    }  # fmt: skip
    named = {
        f"{section}.{name}": each.version for section, entries in sections.items() for name, each in entries.items()
    }
    return {"kubernetes": pins.kubernetes.version, **named}


def _row(key: str, version: str, wanted: Wanted, held: Lock, instead: Provenance) -> Row:
    overlaid = [each for each in instead.overlaid if each.entry == key]
    entry = held.fitting([wanted]).entries.get(key)
    if entry and entry.value:
        state, why = LOCKED, ""
    elif entry:
        state, why = UNLOCKED, entry.unlocked
    elif key in held.entries:
        (stale,) = lockfile.compare(held, [wanted], whole=False)
        state, why = STALE, str(stale).partition(": ")[2]
    else:
        state, why = UNLOCKED, "not in the lock"
    return Row(
        key=key, version=version, state=state, why=why, value=entry.value if entry else "",
        packages={each.key.removeprefix(key).lstrip(".") or "image": each.used for each in overlaid},
        packages_why=overlaid[0].why if overlaid else "",
        packages_outside=tuple(each.says for each in instead.outside if each.key == key),
    )  # fmt: skip


def show(root: Path, *, as_json: bool) -> None:
    """Print every pin, what source `packages` takes instead, and whether it is locked; then the reasons for both."""
    found = rows(root)
    if as_json:
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=2) + "\n")
        return
    table = [("NAME", "VERSION", "WITH PACKAGES", "LOCKED")]
    table += [(each.key, each.version, _instead(each), "yes" if each.state == LOCKED else each.state) for each in found]
    sys.stdout.write(f"{columns(table)}\nwith --source packages:\n{packages(root).text()}")
    free = [each for each in found if each.state != LOCKED]
    sys.stdout.write(f"\n{len(found) - len(free)} of {len(found)} are locked\n")
    if free:
        sys.stdout.write("not locked:\n" + "".join(f"  {each.key}: {each.why}\n" for each in free))
        sys.stdout.write(f"{lockfile.COMMAND}   locks what is in reach\n")


def _instead(row: Row) -> str:
    return row.packages.get("version") or ", ".join(row.packages.values())


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
