"""Registries beside the cluster, on the engine's network `kind`, each with a volume that outlives `down`.

One that we push to (source `packages`), or one cache for each upstream registry (source `upstream`). Nodes reach them
by name; this machine reaches them on a loopback port that the engine chose.
"""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from tasks.lib import names, shell
from tasks.lib.errors import NotReady
from tasks.lib.packages.store import Store, digest
from tasks.lib.registry import Registry

NETWORK = "kind"
NAME = "kind-registry"
PORT = 5000

_WAIT_S = 30.0
_POLL_S = 0.1
_FORMAT = 1
_LABEL = "inference-in-a-box"
_DOCKER_HUB = "registry-1.docker.io"


class Engine(Protocol):
    """What is needed of a container engine."""

    def docker(self, *args: str | Path, check: bool = True, timeout_s: float | None = None) -> shell.Result:
        """Run the engine's command line."""


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """One registry container: its name, the image it runs, and the upstream it is a cache of (if any)."""

    engine: Engine
    store: Store
    image: str
    name: str = NAME
    upstream: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def volume(self) -> str:
        """The volume that keeps what was pushed or cached."""
        return f"{names.DOMAIN}-mirror" if self.name == NAME else f"{names.DOMAIN}-{self.name}"

    def ensure(self) -> Registry:
        """Return the running registry, made or started if it is not. Safe for several runs at once.

        Raises NotReady with the container's last lines when it does not answer.
        """
        with self.store.lock(f"mirror-{self.name}"):
            self._network()
            if self._recipe_of_running() != self._recipe():
                if self._inspect("{{.Id}}"):
                    self.engine.docker("rm", "--force", self.name)
                self._create()
            elif not self._running():
                self.engine.docker("start", self.name)
            return self._wait()

    def _create(self) -> None:
        settings = {
            "OTEL_TRACES_EXPORTER": "none",
            "REGISTRY_LOG_ACCESSLOG_DISABLED": "true",
            "REGISTRY_LOG_LEVEL": "error",
            **self.environment,
        }
        if self.upstream:
            settings["REGISTRY_PROXY_REMOTEURL"] = self.upstream
        words = [word for name, value in sorted(settings.items()) for word in ("--env", f"{name}={value}")]
        self.engine.docker(
            "run", "--detach", "--name", self.name, "--network", NETWORK, "--restart", "unless-stopped",
            "--publish", f"127.0.0.1::{PORT}", "--volume", f"{self.volume}:/var/lib/registry",
            "--label", f"{_LABEL}=1", "--label", f"{_LABEL}.recipe={self._recipe()}", *words, self.image,
        )  # fmt: skip

    def _network(self) -> None:
        """Make the network as kind would, if kind has not: it takes one that is there."""
        if self.engine.docker("network", "inspect", NETWORK, check=False).returncode != 0:
            self.engine.docker(
                "network", "create", "--driver", "bridge", "--label", f"{_LABEL}=1",
                "--opt", "com.docker.network.bridge.enable_ip_masquerade=true", NETWORK,
            )  # fmt: skip

    def _recipe(self) -> str:
        return digest([_FORMAT, self.image, self.upstream, dict(self.environment)])

    def _recipe_of_running(self) -> str:
        return self._inspect(f'{{{{index .Config.Labels "{_LABEL}.recipe"}}}}')

    def _running(self) -> bool:
        return self._inspect("{{.State.Running}}") == "true"

    def _inspect(self, template: str) -> str:
        found = self.engine.docker("container", "inspect", "--format", template, self.name, check=False)
        return found.stdout.strip() if found.returncode == 0 else ""

    def _url(self) -> str:
        found = self.engine.docker("port", self.name, f"{PORT}/tcp", check=False)
        lines = found.stdout.split()
        return f"http://{lines[0]}" if found.returncode == 0 and lines else ""

    def _wait(self) -> Registry:
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            if (url := self._url()) and (found := Registry(url)).answers():
                return found
            time.sleep(_POLL_S)
        said = self.engine.docker("logs", "--tail", "10", self.name, check=False)
        raise NotReady(
            f"the local registry {self.name} did not answer in {_WAIT_S:g} s",
            facts={"container": self.name, "output": (said.stdout + said.stderr).strip() or "(none)"},
            hint=f"docker rm -f {self.name}   then run again; what it kept is in a volume",
        )


def hosts_file(mirror: str, *, server: str = "") -> str:
    """Return a containerd hosts.toml: pull through `mirror` (a URL); from `server` when it does not have it.

    A path in the mirror's address is a folder of its registry, under which the upstream names lie.
    """
    lines = [f'server = "{server}"', ""] if server else []
    where = urlsplit(mirror)
    if folder := where.path.strip("/"):
        lines.append(f'[host."{where.scheme}://{where.netloc}/v2/{folder}"]')
        lines.append("  override_path = true")
    else:
        lines.append(f'[host."{mirror}"]')
    return "\n".join([*lines, '  capabilities = ["pull", "resolve"]', ""])


def pushed_hosts() -> dict[str, str]:
    """Return what the nodes need for the registry that we push to: it stands for every host."""
    return {"_default": hosts_file(f"http://{NAME}:{PORT}")}


def cache_name(host: str) -> str:
    """Return the container that caches a host."""
    return f"kind-cache-{re.sub(r'[^a-z0-9]+', '-', host.lower())}"


def upstream_url(host: str) -> str:
    """Return the address of a host's API (docker.io has another name for it)."""
    return f"https://{_DOCKER_HUB if host == 'docker.io' else host}"


def cache_hosts(hosts: Iterable[str]) -> dict[str, str]:
    """Return what the nodes need for the caches: each host through its cache, itself when the cache is away."""
    return {
        host: hosts_file(f"http://{cache_name(host)}:{PORT}", server=upstream_url(host)) for host in sorted(set(hosts))
    }
