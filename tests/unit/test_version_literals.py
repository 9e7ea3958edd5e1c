"""Every version is written once, in config/: nothing else that is run or applied repeats one."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tasks.lib import versions, yamlfile

ROOT = Path(__file__).parents[2]
PINNED_IN = ("config/versions.yaml", "config/packages.yaml")
SEARCHED = ("tasks", "manifests", "scripts", "tests/cluster")
WRITTEN_AGAINST = {
    "tasks/lib/packages/standins/net-istio/controller.py": "net-istio",
    "tasks/lib/packages/standins/net-istio/manifest.yaml": "net-istio",
}
"""Stand-ins do by hand what one version of a manifest does: they name it, and are looked at again when it changes."""

SHORTEST = 5
"""A shorter one ("3.11") is too common to be told from other numbers."""


def pins(document: object) -> Iterator[str]:
    """Return every version that a parsed file pins: each `version`, and each `name==version`. Without a leading v."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "version" and isinstance(value, str):
                yield value.removeprefix("v")
            yield from pins(value)
    elif isinstance(document, list):
        for value in document:
            yield from pins(value)
    elif isinstance(document, str):
        yield from re.findall(r"==\s*v?([\w.+-]+)", document)


def all_pins() -> set[str]:
    """Return every version pinned that is long enough to be recognised."""
    found = {pin for name in PINNED_IN for pin in pins(yamlfile.load(ROOT / name))}
    return {pin for pin in found if len(pin) >= SHORTEST}


def repeated(text: str, wanted: Iterable[str]) -> list[tuple[int, str]]:
    """Return line and version of each whole version in a text: "1.2.3", "v1.2.3", "x:1.2.3-y", but not "1.2.30"."""
    words = "|".join(re.escape(each) for each in sorted(wanted, key=len, reverse=True))
    pattern = re.compile(rf"(?<![0-9a-zA-Z.])v?({words})(?![0-9a-zA-Z]|\.[0-9])")
    return [
        (number, match[1]) for number, line in enumerate(text.splitlines(), start=1) for match in pattern.finditer(line)
    ]


def searched() -> Iterator[Path]:
    """Return every file that must not repeat a version."""
    for name in SEARCHED:
        for path in sorted((ROOT / name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def against(path: Path) -> set[str]:
    """Return the version that a stand-in names."""
    manifest = WRITTEN_AGAINST.get(str(path.relative_to(ROOT)))
    return {versions.load(ROOT).manifests[manifest].version} if manifest else set()


def test_no_version_is_written_twice() -> None:
    wanted = all_pins()
    assert [
        f"{path.relative_to(ROOT)}:{line}: {version}"
        for path in searched()
        for line, version in repeated(path.read_text(encoding="utf-8", errors="replace"), wanted - against(path))
    ] == []


@pytest.mark.parametrize(("path", "manifest"), WRITTEN_AGAINST.items())
def test_a_stand_in_names_the_version_it_was_written_against(path: str, manifest: str) -> None:
    pinned = versions.load(ROOT).manifests[manifest].version
    assert repeated((ROOT / path).read_text(encoding="utf-8"), {pinned}), (
        f"{path}: does it still do what {pinned} does?"
    )


def test_the_pins_of_both_files_are_known() -> None:
    found = all_pins()
    for name in PINNED_IN:
        assert found & set(pins(yamlfile.load(ROOT / name)))
    document = {
        "a": {"version": "v1.26.2"},
        "b": [{"version": "0.15.0", "module": "x"}],
        "c": ["kserve[storage]==0.15.1"],
    }
    assert set(pins(document)) == {"1.26.2", "0.15.0", "0.15.1"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.26.2", True),
        ("v1.26.2", True),
        ("docker.io/istio/pilot:1.26.2-distroless", True),
        ("'1.26.2'", True),
        ("Since 1.26.2.", True),
        ("1.26.20", False),
        ("11.26.2", False),
        ("1.1.26.2", False),
        ("1.26.2.1", False),
        ("1x26x2", False),
    ],
)
def test_a_version_is_seen_as_a_whole(text: str, found: bool) -> None:
    assert repeated(f"\n# {text}\n", {"1.26.2", "0.15.0"}) == ([(2, "1.26.2")] if found else [])


def test_files_are_searched_in_every_place_that_there_is() -> None:
    places = {path.relative_to(ROOT).parts[0] for path in searched()}
    assert {"tasks", "manifests", "scripts"} <= places
