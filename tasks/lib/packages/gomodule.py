"""Commands of Go modules, built at one exact version.

`go install package@version` refuses a module with replace directives. A wrapper module that requires it, repeats its
replaces and carries its go.sum does not: the dependencies are then checked against the hashes that were checked with
the module itself.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks.lib import shell
from tasks.lib.errors import CommandFailed, FetchFailed, NotAvailable
from tasks.lib.packages.recipes import Module
from tasks.lib.packages.store import Store, digest

FORMAT = 1
"""Part of every key: raise it when the way of building changes what comes out."""

_RECORD = "module.json"
_ROOMY = 12 << 30
_NETWORK = re.compile(r"checksum mismatch|SECURITY ERROR|reading https?://|dial tcp|i/o timeout|no such host|: 40[34] ")

Line = Callable[[str], None]
Sum = Callable[[str, str], str]
"""From a module and its version to the locked sum (h1:…); empty when it is not locked."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """A module in Go's own cache: its files, its go.mod and its checksum (h1:…)."""

    dir: Path
    gomod: Path
    sum: str


def nothing_locked(module: str, version: str) -> str:  # noqa: ARG001 (the form of every lock)
    """Return no sum: nothing is locked yet."""
    return ""


class GoModules:
    """Downloads and builds modules. Finished ones are kept; a build cut off goes on from Go's own cache."""

    def __init__(self, store: Store, locked: Sum = nothing_locked) -> None:
        self._store = store
        self._locked = locked

    @cached_property
    def facts(self) -> dict[str, str]:
        """What the toolchain says of itself. Raises NotAvailable when there is none."""
        try:
            argv = ["go", "env", "-json", "GOVERSION", "GOPROXY", "GOARCH"]
            found = shell.run(argv, env=_environment(), timeout_s=60)
        except NotAvailable as error:
            raise NotAvailable(
                "source packages builds Go modules, and there is no `go` on PATH",
                facts={"looked in": os.environ.get("PATH", "")},
                hint="install Go (https://go.dev/dl), or choose another source with --source",
            ) from error
        return dict(json.loads(found.stdout))

    def download(self, module: str, version: str) -> Download:
        """Fetch a module into Go's cache.

        Raises FetchFailed naming the module that the proxy refuses, or that is not the locked one.
        """
        found = shell.run(["go", "mod", "download", "-json", f"{module}@{version}"], env=_environment(), check=False)
        info = json.loads(found.stdout) if found.stdout.strip() else {"Error": found.stderr.strip()}
        if info.get("Error"):
            raise FetchFailed(
                f"{module}@{version}: the Go module proxy does not serve it",
                facts={"proxy": self.facts["GOPROXY"], "cause": info["Error"]},
                hint="check GOPROXY and the network, then run again; finished modules are kept",
            )
        if (locked := self._locked(module, version)) and info["Sum"] != locked:
            raise FetchFailed(
                f"{module}@{version}: not the locked module",
                facts={"locked": locked, "got": info["Sum"], "proxy": self.facts["GOPROXY"]},
                hint="find out who changed it: a published version never changes",
            )
        return Download(dir=Path(info["Dir"]), gomod=Path(info["GoMod"]), sum=info["Sum"])

    def requirement(self, gomod: Path, module: str) -> str:
        """Return the version of `module` that a go.mod requires. Raises FetchFailed when it requires none."""
        for each in _edit(gomod).get("Require") or []:
            if each["Path"] == module:
                return str(each["Version"])
        raise FetchFailed(f"{module}: not required by {gomod}")

    def key(self, module: Module) -> str:
        """Return the digest of everything that decides what a build makes."""
        return digest(
            [FORMAT, module.module, module.version, dict(module.commands), dict(module.variables), module.keep_inlining,
             self.facts["GOVERSION"], self.facts["GOARCH"]]
        )  # fmt: skip

    def target(self, module: Module) -> Path:
        """Return the folder that holds the finished commands, whether or not it is there."""
        return self._store.path("bin", f"{module.name}@{module.version}-{self.key(module)}")

    def built(self, module: Module) -> bool:
        """Whether a build would have nothing to do."""
        return self.target(module).exists()

    def record(self, module: Module) -> dict[str, Any]:
        """Return what a finished build left: module, version, sum, seconds."""
        return dict(self._store.read(self.target(module) / _RECORD) or {})

    def build(self, module: Module, on_line: Line | None = None) -> Path:
        """Return the folder with the module's commands, built if they are not there yet.

        Raises FetchFailed naming what a registry refuses, CommandFailed with the compiler's last lines.
        """
        return self._store.once(self.target(module), lambda work: self._build(module, work, on_line))

    def _build(self, module: Module, work: Path, on_line: Line | None) -> None:
        started = time.monotonic()
        found = self.download(module.module, module.version)
        wrapper = work.parent / "wrapper"
        wrapper.mkdir()
        (wrapper / "go.mod").write_text(wrapper_gomod(module, _edit(found.gomod)))
        if (found.dir / "go.sum").exists():
            shutil.copyfile(found.dir / "go.sum", wrapper / "go.sum")
        work.mkdir()
        self._compile(module, wrapper, work, on_line)
        for command in module.commands:
            made = work / default_name(module.package(command))
            if made.name != command:
                made.rename(work / command)
        self._store.write(
            work / _RECORD,
            {"module": module.module, "version": module.version, "sum": found.sum, "go": self.facts["GOVERSION"],
             "seconds": round(time.monotonic() - started)},
        )  # fmt: skip

    def _compile(self, module: Module, wrapper: Path, into: Path, on_line: Line | None) -> None:
        try:
            packages = [module.package(command) for command in module.commands]
            argv = [*_not_alone(), "go", "build", "-trimpath", *flags(module), "-o", f"{into}/", *packages]
            temporary = into.parent / "tmp"
            temporary.mkdir()
            shell.run(argv, cwd=wrapper, env={**_environment(), "GOTMPDIR": str(temporary)}, on_line=on_line)
        except CommandFailed as error:
            refused = [line for line in error.output.splitlines() if _NETWORK.search(line)]
            if not refused:
                raise
            raise FetchFailed(
                f"{module.module}@{module.version}: a package it needs could not be had",
                facts={"proxy": self.facts["GOPROXY"], "cause": "\n".join(refused[:5])},
                hint="check GOPROXY and the network, then run again; what is compiled is kept",
            ) from error

    def program(self, name: str, source: Path) -> Path:
        """Build one Go file of our own that needs nothing but the standard library."""
        key = digest([FORMAT, source.read_text(), self.facts["GOVERSION"], self.facts["GOARCH"]])

        def make(work: Path) -> None:
            argv = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(work), source.name]
            shell.run(argv, cwd=source.parent, env={**_environment(), "GO111MODULE": "off"})

        return self._store.once(self._store.path("bin", f"{name}-{key}"), make)


def flags(module: Module) -> list[str]:
    """Return the compiler's and linker's flags.

    Without debugging data, and without inlining where speed is of no matter, a build takes two thirds of the time.
    """
    inline = "" if module.keep_inlining else " -l"
    variables = [f"-X {name}={value}" for name, value in sorted(module.variables.items())]
    return [f"-gcflags=all=-dwarf=false{inline}", f"-ldflags={' '.join(['-s', '-w', *variables])}"]


def default_name(package: str) -> str:
    """Return the name that `go build` gives to a command: the last element of its path that is not a major version."""
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) else parts[-1]


def wrapper_gomod(module: Module, parsed: dict[str, Any]) -> str:
    """Return the go.mod of the wrapper: the module, its toolchain settings and its replaces.

    Kubernetes replaces its staging modules by folders that are not in the zip; they are published as v0.MINOR.PATCH.
    Other folders are dropped: the version that is required beside them is what was released.
    """
    lines = ["module build", "", f"go {parsed['Go']}", "", f"require {module.module} {module.version}", ""]
    lines += [f"godebug {each['Key']}={each['Value']}" for each in parsed.get("Godebug") or []]
    lines += [line for each in parsed.get("Replace") or [] if (line := _replace(each, module.version))]
    return "\n".join(lines) + "\n"


def _replace(entry: dict[str, Any], version: str) -> str:
    old, new = entry["Old"], entry["New"]
    if new["Path"].startswith("./staging/"):
        staged = re.sub(r"^v\d+\.", "v0.", version)
        return f"replace {old['Path']} => {old['Path']} {staged}"
    if new["Path"].startswith("."):
        return ""
    return " ".join(filter(None, ["replace", old["Path"], old.get("Version"), "=>", new["Path"], new.get("Version")]))


def _not_alone() -> list[str]:
    """Return what makes a build end with us, even when we are killed: alone, it would compete with the next."""
    return ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


def _edit(gomod: Path) -> dict[str, Any]:
    return dict(json.loads(shell.run(["go", "mod", "edit", "-json", gomod], env=_environment()).stdout))


def _environment() -> dict[str, str]:
    """Return what every `go` gets, so that its cache is shared. A compiler that collects no garbage is 7 % faster."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=mod",
        "GOGC": "off" if memory >= _ROOMY else "100",
        "GOOS": "linux",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def sums(modules: GoModules, wanted: Iterable[Module]) -> dict[str, str]:
    """Return the checksum of each module, for the lock. Fetches what is not in Go's cache."""
    return {
        f"{each.module}@{each.version}": modules.record(each).get("sum")
        or modules.download(each.module, each.version).sum
        for each in wanted
    }
