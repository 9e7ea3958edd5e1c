"""Golden files: what is rendered, kept in the repository, so that a change of it is seen where it is reviewed."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.lib import yamlfile
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.session import ROOT

UPDATE = ".box/venv/bin/python -m pytest tests/render --update-golden"

_DIGEST = re.compile(r"((?:train|model-store-(?:ensure|remove))-[a-z0-9-]+|jwt-server)-[0-9a-f]{8}")


@dataclass(frozen=True, kw_only=True)
class Golden:
    """The golden files of a folder. `update` writes them instead of comparing."""

    folder: Path
    update: bool = False

    def check(self, name: str, text: str) -> None:
        """Compare a text with its golden file. Fails with a diff, and with the command that takes the text over."""
        path = self.folder / name
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        kept = path.read_text(encoding="utf-8") if path.exists() else ""
        if kept != text:
            pytest.fail(self._differs(path, kept, text), pytrace=False)

    def strangers(self, names: Iterable[str]) -> list[str]:
        """Return the files in the folder that belong to none of these names; with `update` they are removed."""
        known = set(names)
        found = [path for path in sorted(self.folder.iterdir()) if path.name not in known]
        if self.update:
            for path in found:
                path.unlink()
            return []
        return [path.name for path in found]

    def _differs(self, path: Path, kept: str, text: str) -> str:
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        diff = difflib.unified_diff(
            kept.splitlines(keepends=True), text.splitlines(keepends=True), f"{shown} (kept)", f"{shown} (rendered)"
        )
        return f"{''.join(diff)}\nif that is what you want:  {UPDATE}"


def text_of(objects: Iterable[Obj]) -> str:
    """Return objects as YAML, without what changes for reasons of its own: the text of files, digests in names."""
    return yamlfile.dump_all(_stable(each) for each in objects)


def summary(objects: Iterable[Obj]) -> str:
    """Return one line for each object: what it is called, and nothing about what is in it."""
    return "".join(f"{line}\n" for line in sorted(f"{each['apiVersion']} {Ref.of(each)}" for each in objects))


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_stable(each) for each in value]
    if not isinstance(value, str):
        return value
    if value.count("\n") > 1 and (path := _file_with(value)):
        return f"(the text of {path})"
    return _DIGEST.sub(r"\1-(digest)", value)


def _file_with(text: str) -> str:
    """Return the file under manifests/ that has this text; empty when none has."""
    for path in sorted((ROOT / "manifests").rglob("*")):
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return str(path.relative_to(ROOT))
    return ""
