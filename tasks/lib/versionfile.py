"""The entries of config/versions.yaml as they stand in the file, checked one by one, and the overlay laid over them.

Used by tasks.lib.versions, which makes records of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.lib import yamlfile
from tasks.lib.compatibility import Product, Range
from tasks.lib.errors import BadInput
from tasks.lib.yamlfile import Located

FILE = Path("config/versions.yaml")
OVERLAY = Path("config/packages.yaml")
SCHEMA = 1
STAGES = ("cluster", "certs", "mesh", "serving", "gateway", "obs", "tenants", "models", "bench")
"""Those of the platform, and `bench`: what `invoke bench.path` alone needs, and no component: `up` never fetches it."""

_EXACT = re.compile(r"(?=.*\d)[A-Za-z0-9][A-Za-z0-9._+-]*")
_FLOATING = re.compile(r"(^|[.-])(x|latest|main|stable)($|[.-])")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[a-z0-9.-]+\.[a-z]+(:\d+)?(/[a-z0-9._-]+)+")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")

_KEYS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tools": (("version", "url", "checksum_url"), ("member",)),
    "charts": (("version", "repo", "chart", "stage"), ()),
    "manifests": (("version", "url", "stage"), ()),
    "images": (("repository", "version", "stage"), ("digest",)),
    "kubernetes": (("version", "node_image"), ("digest",)),
}
"""Required and optional keys of an entry, by section."""


@dataclass(frozen=True, kw_only=True)
class Overlaid:
    """A pin that a source replaces: its key, the pin, what is used, and why."""

    key: str
    pin: str
    used: str
    why: str

    @property
    def entry(self) -> str:
        """The key of the whole pin: `key` names a field of it, unless all of it is left out."""
        return self.key if self.used == "nothing" else self.key.rpartition(".")[0]


def read(root: Path) -> tuple[dict[str, Located], dict[str, Product]]:
    """Return every entry by its key ("tools.helm", …, "kubernetes"), and the products they make up."""
    where = str(root / FILE)
    data = yamlfile.mapping(yamlfile.load(root / FILE), where=where, required=("schema", *_KEYS, "compatibility"))
    yamlfile.check_schema(data, SCHEMA, where=where)
    found = {"kubernetes": data["kubernetes"]}
    for section in _KEYS:
        if section != "kubernetes":
            table = yamlfile.table(data[section], where=f"{where}: {section}")
            found |= {f"{section}.{name}": entry for name, entry in table.items()}
    entries = {key: _entry(key, entry, f"{where}: {key}") for key, entry in found.items()}
    return entries, _products(data["compatibility"], entries, f"{where}: compatibility")


def overlay(root: Path, entries: dict[str, Located]) -> list[Overlaid]:
    """Lay the section `versions` of config/packages.yaml over the entries, in place. Return what it changed."""
    where = f"{root / OVERLAY}: versions"
    document = yamlfile.table(yamlfile.load(root / OVERLAY), where=str(root / OVERLAY))
    given = yamlfile.mapping(document.get("versions"), where=where, optional=tuple(_KEYS))
    changes = {"kubernetes": given["kubernetes"]} if "kubernetes" in given else {}
    for section in given:
        if section != "kubernetes":
            table = yamlfile.table(given[section], where=f"{where}.{section}")
            for name, entry in table.items():
                if f"{section}.{name}" not in entries:
                    known = [key.partition(".")[2] for key in entries if key.startswith(f"{section}.")]
                    raise yamlfile.bad(table, name, f"{where}.{section}", "no such pin", allowed=", ".join(known))
                changes[f"{section}.{name}"] = entry
    found: list[Overlaid] = []
    for key, change in changes.items():
        found += _lay(key, change, entries, f"{where}.{key}")
    return found


def _lay(key: str, change: Any, entries: dict[str, Located], place: str) -> list[Overlaid]:  # noqa: ANN401 (checked here)
    required, optional = _KEYS[key.partition(".")[0]]
    yamlfile.mapping(change, where=place, required=("why",), optional=(*required, *optional, "absent"))
    why = yamlfile.text(change, "why", where=place)
    pin = entries[key]
    if "absent" in change:
        if change["absent"] is not True or not key.startswith("images."):
            raise yamlfile.bad(change, "absent", place, "only an image can be absent: true", allowed="true")
        del entries[key]
        return [Overlaid(key=key, pin=pin["version"], used="nothing", why=why)]
    changed = {field: value for field, value in change.items() if field != "why"}
    entries[key] = _entry(key, yamlfile.relocated({**pin, **changed}, change), place)
    return [
        Overlaid(key=f"{key}.{field}", pin=pin.get(field, ""), used=value, why=why)
        for field, value in changed.items()
        if pin.get(field) != value
    ]


def _entry(key: str, given: object, where: str) -> Located:
    """Check the keys and texts of an entry."""
    required, optional = _KEYS[key.partition(".")[0]]
    entry = yamlfile.mapping(given, where=where, required=required, optional=optional)
    for field in entry:
        _valid(entry, field, yamlfile.text(entry, field, where=where), where)
    return yamlfile.relocated(entry, entry)


def _valid(entry: dict[str, Any], field: str, value: str, where: str) -> None:
    problem, allowed, tool = "", "", "checksum_url" in entry
    if field == "version" and (not _EXACT.fullmatch(value) or _FLOATING.search(value)):
        problem, allowed = f"{value!r} is not one exact version", "such as 1.2.3 or v1.2.3"
    elif field == "digest" and not _DIGEST.fullmatch(value):
        problem, allowed = f"{value!r} is not a digest", "sha256: and 64 hexadecimal digits"
    elif field == "stage" and value not in STAGES:
        problem, allowed = f"no stage {value!r}", ", ".join(STAGES)
    elif field == "repository" and not _REPOSITORY.fullmatch(value):
        problem, allowed = f"{value!r} is not a repository", "host/name in lower case, without a tag"
    elif field in ("url", "checksum_url") and not value.startswith("https://"):
        problem, allowed = f"{value!r} is not an address", "https://…"
    elif field == "repo" and not value.startswith(("https://", "oci://")):
        problem, allowed = f"{value!r} is not an address", "https://… or oci://…"
    elif unknown := sorted({*_PLACEHOLDER.findall(value)} - ({"version", "os", "arch"} if tool else {"version"})):
        problem, allowed = f"unknown placeholder {{{unknown[0]}}}", "{version}, and for tools {os} and {arch}"
    if problem:
        raise yamlfile.bad(entry, field, where, problem, allowed=allowed)


def _products(given: object, entries: Mapping[str, Any], where: str) -> dict[str, Product]:
    table = yamlfile.table(given, where=where)
    found = {}
    for name, each in table.items():
        here = f"{where}.{name}"
        product = yamlfile.mapping(each, where=here, required=("pins",), optional=("needs",))
        needs = yamlfile.table(product.get("needs", {}), where=f"{here}.needs")
        for other in needs:
            if other not in table:
                raise yamlfile.bad(needs, other, f"{here}.needs", "no such product", allowed=", ".join(table))
        found[name] = Product(
            name=name,
            pins=_pins(product, entries, here),
            needs={other: _range(needs, other, f"{here}.needs") for other in needs},
        )
    return found


def _pins(product: dict[str, Any], entries: Mapping[str, Any], where: str) -> tuple[str, ...]:
    pins = yamlfile.texts(product, "pins", where=where)
    missing = [pin for pin in pins if pin not in entries]
    if missing or not pins:
        problem = f"{', '.join(missing)} is not pinned" if missing else "no pin"
        raise yamlfile.bad(product, "pins", where, problem, allowed="section.name of what is pinned in this file")
    return pins


def _range(needs: dict[str, Any], other: str, where: str) -> Range:
    try:
        return Range(yamlfile.text(needs, other, where=where))
    except BadInput as error:
        raise yamlfile.bad(needs, other, where, error.what, hint=error.hint) from error
