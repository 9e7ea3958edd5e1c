"""config/versions.lock.yaml: checksums and digests of what versions.yaml and packages.yaml name.

Derived, never edited. Entries are compared one by one (a hash over the whole file would make every lock stale with any
change of form). What could not be reached when the lock was made is in it as `unlocked`, with the reason.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tasks.lib import yamlfile
from tasks.lib.errors import BadInput, FetchFailed
from tasks.lib.lockfetch import Fetchers

FILE = Path("config/versions.lock.yaml")
SCHEMA = 1
COMMAND = "invoke versions.lock"
PLATFORMS = ("linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64")

_HEADER = f"""\
# Made by `{COMMAND}` from versions.yaml and packages.yaml; do not edit. An entry is stale when `of` is no longer what
# those files name. `unlocked` says why there is no checksum yet: `{COMMAND}` where that is in reach fills it in.
"""
_VALUES: Mapping[str, re.Pattern[str]] = {
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "digest": re.compile(r"sha256:[0-9a-f]{64}"),
    "sum": re.compile(r"h1:[A-Za-z0-9+/]{43}="),
}
"""The three kinds of locked value: of files and charts, of images, of Go modules."""

_JOBS = 8
_NAMED = 4


Value = str | Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What has to be locked: its key, what it is a lock of, and how the value is found out.

    `pinned` is the value where one of our files states it as well: then the lock has to say the same.
    """

    key: str
    of: str
    kind: str
    find: Callable[[Fetchers], Value]
    pinned: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One locked thing. `value` is empty when it is not locked, and `unlocked` says why. Tools have one by platform."""

    of: str
    kind: str = ""
    value: Value = ""
    unlocked: str = ""


@dataclass(frozen=True, kw_only=True)
class Stale:
    """An entry that is not of what the files name now. `locked` or `now` is empty when it is on one side only."""

    key: str
    locked: str
    now: str

    def __str__(self) -> str:
        if not self.locked:
            return f"{self.key}: not in the lock, now {self.now}"
        return f"{self.key}: locked for {self.locked}, " + (
            f"now {self.now}" if self.now else "which is no longer pinned"
        )


@dataclass(frozen=True, kw_only=True)
class Lock:
    """The lock as it was read or made. An entry that is not there is as one that is not locked."""

    entries: Mapping[str, Entry] = field(default_factory=dict)

    def sha256(self, section: str, name: str, platform: str = "") -> str:
        """Return the sha256 of a chart, manifest or wheel, or of a tool's download for a platform; else empty.

        What a mirror serves as a tool is another file than the publisher's download, so without a platform a tool has
        none.
        """
        entry = self.entries.get(f"{section}.{name}")
        if entry is None or entry.kind != "sha256":
            return ""
        if isinstance(entry.value, str):
            return "" if platform else entry.value
        return entry.value.get(platform, "")

    def digest(self, key: str) -> str:
        """Return the digest of "images.<name>" or "kubernetes"; empty when it is not locked."""
        entry = self.entries.get(key)
        return entry.value if entry and entry.kind == "digest" and isinstance(entry.value, str) else ""

    def sum(self, module: str, version: str) -> str:
        """Return the sum of a Go module; empty when it is not locked in this version."""
        found = (each.value for each in self.entries.values() if (each.kind, each.of) == ("sum", f"{module}@{version}"))
        return next((value for value in found if isinstance(value, str)), "")

    def fitting(self, wanted: Iterable[Wanted]) -> "Lock":
        """Return the lock with nothing but what is wanted: an entry that is of something else locks nothing."""
        found = {each.key: self.entries[each.key] for each in wanted if _fits(self.entries.get(each.key), each)}
        return Lock(entries=found)

    def unlocked(self) -> dict[str, str]:
        """Return the keys that are not locked yet, with the reason."""
        return {key: entry.unlocked for key, entry in self.entries.items() if entry.unlocked}


def make(
    wanted: Iterable[Wanted], fetch: Fetchers, *, old: Lock, refresh: bool = False, say: Callable[[str], None] = print
) -> Lock:
    """Make the lock. Entries of `old` that still fit are kept, unless `refresh` asks for everything anew.

    What cannot be found out is `unlocked`, with the reason; an entry that was locked and still fits is never lost to
    a network that is away. Raises BadInput when `refresh` finds other bytes under the same name, naming both.
    """
    wanted = list(wanted)

    def entry(each: Wanted) -> Entry:
        known = old.entries.get(each.key)
        fits = _fits(known, each) and known is not None and bool(known.value)
        if known and fits and not refresh:
            return known
        try:
            found = Entry(of=each.of, kind=each.kind, value=each.find(fetch))
        except FetchFailed as error:
            say(f"{each.key}: {error.what}")
            return known if known and fits else Entry(of=each.of, unlocked=_reason(error))
        if known and fits and known.value != found.value:
            raise BadInput(
                f"{each.key}: {each.of} is not what it was when it was locked",
                facts={"locked": known.value, "now": found.value},
                hint=f"find out why; then remove the entry from {FILE} and run  {COMMAND}",
            )
        return found

    with ThreadPoolExecutor(_JOBS) as pool:
        made = list(pool.map(entry, wanted))
    return Lock(entries={each.key: one for each, one in zip(wanted, made, strict=True)})


def _reason(error: FetchFailed) -> str:
    cause = str(error.facts.get("cause", "")).splitlines()
    return f"{error.what} ({cause[0][:160]})" if cause else error.what


def compare(lock: Lock, wanted: Iterable[Wanted], *, whole: bool = True) -> list[Stale]:
    """Return the entries that are stale. With `whole`, those that nothing wants any more count too."""
    now = {each.key: each for each in wanted}
    stale = [_stale(lock.entries.get(key), each) for key, each in now.items() if not _fits(lock.entries.get(key), each)]
    gone = [Stale(key=key, locked=entry.of, now="") for key, entry in lock.entries.items() if key not in now]
    return stale + (gone if whole else [])


def _fits(entry: Entry | None, wanted: Wanted) -> bool:
    if entry is None or entry.of != wanted.of:
        return False
    return not (wanted.pinned and entry.value and entry.value != wanted.pinned)


def _stale(entry: Entry | None, wanted: Wanted) -> Stale:
    if entry and entry.of == wanted.of:
        return Stale(key=wanted.key, locked=str(entry.value), now=wanted.pinned)
    return Stale(key=wanted.key, locked=entry.of if entry else "", now=wanted.of)


def told(lock: Lock, wanted: Iterable[Wanted]) -> str:
    """Say which of these cannot be held against the lock; nothing when all can."""
    wanted = list(wanted)
    fitting = lock.fitting(wanted).entries
    free = [each.key for each in wanted if each.key not in fitting or fitting[each.key].unlocked]
    if not free:
        return ""
    named = ", ".join(free[:_NAMED]) + (", ..." if len(free) > _NAMED else "")
    return f"not locked: {len(free)} of {len(wanted)} ({named}); invoke versions.list   says why"


def check(lock: Lock, wanted: Iterable[Wanted], *, whole: bool = True) -> None:
    """Raise BadInput naming every stale entry."""
    if stale := compare(lock, wanted, whole=whole):
        raise BadInput(
            f"{FILE} is not of what config/versions.yaml names: {len(stale)} entries are stale",
            facts={"stale": "\n".join(map(str, stale))},
            hint=COMMAND,
        )


def load(root: Path) -> Lock:
    """Read the lock under `root`; an empty one when there is none yet. Raises BadInput naming file, line and key."""
    path = root / FILE
    if not path.exists():
        return Lock()
    where = str(path)
    data = yamlfile.mapping(yamlfile.load(path), where=where, required=("schema", "entries"))
    if data["schema"] != SCHEMA:
        raise yamlfile.bad(data, "schema", where, f"{data['schema']!r} is not known", hint=COMMAND)
    table = yamlfile.table(data["entries"], where=f"{where}: entries")
    return Lock(entries={key: _entry(given, f"{where}: entries.{key}") for key, given in table.items()})


def _entry(given: object, where: str) -> Entry:
    found = yamlfile.mapping(given, where=where, required=("of",), optional=(*_VALUES, "unlocked"))
    kinds = [key for key in found if key != "of"]
    if len(kinds) != 1:
        raise yamlfile.bad(found, "of", where, "has one value beside it", allowed=", ".join((*_VALUES, "unlocked")))
    kind, value, of = kinds[0], found[kinds[0]], yamlfile.text(found, "of", where=where)
    if kind == "unlocked":
        return Entry(of=of, unlocked=yamlfile.text(found, kind, where=where))
    several = list(value.values()) if isinstance(value, dict) else [value]
    if not several or not all(isinstance(each, str) and _VALUES[kind].fullmatch(each) for each in several):
        raise yamlfile.bad(found, kind, where, f"{value!r} is not possible", hint=COMMAND)
    return Entry(of=of, kind=kind, value=value)


def save(root: Path, lock: Lock) -> bool:
    """Write the lock under `root`, whole or not at all. Return whether it changed."""
    path = root / FILE
    text = render(lock)
    if path.exists() and path.read_text() == text:
        return False
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)
    return True


def render(lock: Lock) -> str:
    """Return the text of the lock: the same for the same entries."""
    entries = {
        key: {"of": entry.of, **({entry.kind: entry.value} if entry.value else {"unlocked": entry.unlocked})}
        for key, entry in sorted(lock.entries.items())
    }
    return _HEADER + yamlfile.dump({"schema": SCHEMA, "entries": entries})
