"""What a user may set, typed and checked: options of the command line, INVOKE_BOX_… variables, box: in invoke.yaml."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tasks.lib.errors import BadInput

PROVIDERS = ("auto", "kind", "existing")
SOURCES = ("auto", "upstream", "mirror", "packages")
PREFIX = "INVOKE_BOX_"
FOLDER = "inference-in-a-box"

_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")
_CLUSTER = re.compile(r"[a-z0-9]([a-z0-9-]{0,47}[a-z0-9])?")
"""A node's host name, `<cluster>-control-plane`, has to fit in 63 characters."""

_DOMAIN = re.compile(r"(?=.{1,200}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_RANGES = {"workers": (1, 16), "jobs": (1, 64), "http_port": (1, 65535), "https_port": (1, 65535)}
_CHOICES = {"provider": PROVIDERS, "source": SOURCES}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One run's settings.

    `context` and `kubeconfig` name the cluster of provider `existing`; empty means what kubectl would use. `mirror` is
    HOST:PORT or an address, `cache` a folder, `domain` what models' host names end in. `install` allows to install and
    start a container engine.
    """

    provider: str = "auto"
    source: str = "auto"
    cluster: str = "inference-in-a-box"
    context: str = ""
    kubeconfig: str = ""
    workers: int = 1
    jobs: int = 6
    http_port: int = 8080
    https_port: int = 8443
    domain: str = "127.0.0.1.sslip.io"
    mirror: str = ""
    cache: str = ""
    install: bool = True

    def cache_dir(self) -> Path:
        """Return the folder of what outlives this project: downloads, builds, locks."""
        return cache_dir(self.cache)


def cache_dir(chosen: str = "") -> Path:
    """Return the chosen folder, or inference-in-a-box in the user's cache folder ($XDG_CACHE_HOME, else ~/.cache)."""
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative path there is to be ignored (XDG Base Directory Specification).
    return (base if base.is_absolute() else Path.home() / ".cache") / FOLDER


def defaults() -> dict[str, str]:
    """Return the defaults for Invoke's configuration, as text.

    Invoke turns a variable into the type of the default, and does it badly: it would take INVOKE_BOX_INSTALL=false for
    true, and end with a traceback at INVOKE_BOX_JOBS=many. As text they come to `load` as they were typed.
    """
    return {each.name: str(each.default) for each in fields(Settings)}


def load(
    box: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, options: Mapping[str, Any] | None = None
) -> Settings:
    """Make the settings of a run. `box` is Invoke's configuration, `options` are those given on the command line.

    Options win over variables, variables over files. An option that is None was not given.
    Raises BadInput naming setting, value and what is allowed; an unknown name is an error too.
    """
    environ = os.environ if environ is None else environ
    named = {each.name: each.type for each in fields(Settings)}
    values: dict[str, Any] = {}
    for origin, given in (
        ("box.{}", dict(box)),
        (PREFIX + "{}", {key.removeprefix(PREFIX): environ[key] for key in environ if key.startswith(PREFIX)}),
        ("--{}", {key: value for key, value in (options or {}).items() if value is not None}),
    ):
        for key, value in given.items():
            name = key.lower() if origin.startswith(PREFIX) else key
            where = origin.format(key.replace("_", "-") if origin.startswith("--") else key)
            if name not in named:
                raise BadInput(f"{where}: no such setting", facts={"known": ", ".join(named)})
            values[name] = _value(name, value, where)
    return _together(Settings(**values))


def _value(name: str, value: object, where: str) -> str | int | bool:
    """Return a setting's value in its type. Raises BadInput naming what is allowed."""
    wanted = type(getattr(Settings, name))
    if wanted is bool:
        return _flag(value, where)
    if wanted is int:
        return _number(name, value, where)
    if not isinstance(value, str):
        raise BadInput(f"{where}: {value!r} is not text", facts={"allowed": "text"})
    return _text(name, value.strip(), where)


def _flag(value: object, where: str) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in _YES + _NO:
        raise BadInput(f"{where}: {value!r} is neither yes nor no", facts={"allowed": "true, false, 1, 0"})
    return word in _YES


def _number(name: str, value: object, where: str) -> int:
    low, high = _RANGES[name]
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
        raise BadInput(f"{where}: {value!r} is not possible", facts={"allowed": f"a whole number from {low} to {high}"})
    return int(text)


def _text(name: str, value: str, where: str) -> str:
    allowed = ""
    if name in _CHOICES and value not in _CHOICES[name]:
        allowed = ", ".join(_CHOICES[name])
    elif name == "cluster" and not _CLUSTER.fullmatch(value):
        allowed = "lower-case letters, digits and '-', at most 49, beginning and ending with a letter or digit"
    elif name == "domain" and not _DOMAIN.fullmatch(value):
        allowed = "a domain name in lower case, such as models.example.com"
    if allowed:
        raise BadInput(f"{where}: {value!r} is not possible", facts={"allowed": allowed})
    return value


def _together(settings: Settings) -> Settings:
    """Refuse settings that contradict each other."""
    if settings.http_port == settings.https_port:
        raise BadInput(f"http_port and https_port are both {settings.http_port}", hint="give one of them another port")
    if settings.source == "mirror" and not settings.mirror:
        raise BadInput(
            "source mirror needs the mirror's address", hint="--mirror HOST:PORT, or box.mirror in invoke.yaml"
        )
    for name in ("context", "kubeconfig"):
        if getattr(settings, name) and settings.provider == "kind":
            raise BadInput(
                f"{name} {getattr(settings, name)!r} belongs to a cluster that is there already, and provider is kind",
                hint="--provider existing",
            )
    return settings
