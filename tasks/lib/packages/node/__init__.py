"""The node image of a kind cluster, made from Debian, kind's own files and Kubernetes binaries."""

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.lib.container import ContainerEngine
from tasks.lib.errors import BadInput, CommandFailed
from tasks.lib.packages.debian import Base
from tasks.lib.packages.gomodule import GoModules
from tasks.lib.packages.images import Images
from tasks.lib.packages.recipes import Recipes
from tasks.lib.packages.store import Store, digest, file_digest

FORMAT = 1
"""Part of the key: raise it when the way of building changes what comes out."""

REPOSITORY = "docker.io/kindest/node"
RECIPE_LABEL = "inference-in-a-box.recipe"
BINARIES = ("kubeadm", "kubectl", "kubelet")
MANIFESTS = ("default-cni.yaml", "default-storage.yaml")

AGENT = "tasks/lib/packages/standins/node-agent"
"""Pod network, NetworkPolicy and volumes of the nodes: its folder has the two manifests that kind applies."""

_KUBERNETES, _KIND = "kubernetes", "kind"
_FOLDER = Path(__file__).parent
_OWN = ("build.sh", "oci-runtime")
_IN = "/run/build"
_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_TEMPLATED = "would you kindly template this file"
_ENTRYPOINT = 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'
_STOP_SIGNAL = "SIGRTMIN+3"  # systemd executes itself again on SIGTERM; a commit keeps the container's
_BUILD_S = 900.0

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a node image is made of.

    `binaries` are kubeadm, kubectl and kubelet; `kind_files` is images/base/files of kind's module; `manifests` is the
    folder with default-cni.yaml and default-storage.yaml; `preload` writes an archive of the images that every node
    brings along; `inputs_key` changes with the binaries, with kind's version and with those images.
    """

    version: str
    base: Callable[[], str]
    base_key: str
    binaries: Mapping[str, Path]
    kind_files: Callable[[], Path]
    manifests: Path
    pause: str
    preload: Callable[[Path], object]
    inputs_key: str

    @property
    def ref(self) -> str:
        """The name of the image, which says its Kubernetes version as kind's own images do."""
        return f"{REPOSITORY}:{self.version}"

    def key(self) -> str:
        """Return the digest of everything that goes into the image."""
        return digest(
            [
                FORMAT, self.version, self.base_key, self.pause, self.inputs_key,
                [file_digest(_FOLDER / name) for name in _OWN],
                [file_digest(self.manifests / name) for name in MANIFESTS],
            ]
        )  # fmt: skip


class NodeImage:
    """Builds the node image in the engine, once for the same parts."""

    def __init__(self, engine: ContainerEngine, store: Store, parts: Parts) -> None:
        self._engine = engine
        self._store = store
        self._parts = parts

    def ref(self) -> str:
        """Return its reference."""
        return self._parts.ref

    def built(self) -> bool:
        """Whether the engine has the image that these parts make."""
        return self._engine.label(self._parts.ref, RECIPE_LABEL) == self._parts.key()

    def build(self, say: Say) -> None:
        """Build the image when the engine has none of these parts.

        Raises BadInput for parts that are not whole, CommandFailed with the build's last lines.
        """
        check(self._parts)
        with self._store.lock("node-image"):
            if not self.built():
                self._build(self._parts, say)

    def _build(self, parts: Parts, say: Say) -> None:
        key = parts.key()
        name = f"inference-in-a-box-node-{key}"
        self._engine.docker("rm", "--force", name, check=False)  # left by a build that was cut off
        folder = self._store.path("node", "here").parent
        with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as work:
            archive = Path(work) / "images.tar"
            say("node image: the images that every node brings along")
            parts.preload(archive)
            try:
                self._run(parts, name, archive, say)
                say("node image: saving it")
                self._commit(parts, name, key)
            finally:
                self._engine.docker("rm", "--force", "--volumes", name, check=False)

    def _run(self, parts: Parts, name: str, archive: Path, say: Say) -> None:
        mounts = {
            "kind": parts.kind_files(),
            "node": _FOLDER,
            "images.tar": archive,
            **{f"bin/{binary}": parts.binaries[binary] for binary in BINARIES},
            **{f"manifests/{manifest}": parts.manifests / manifest for manifest in MANIFESTS},
        }
        words = [f"--volume={path}:{_IN}/{inside}:ro" for inside, path in mounts.items()]
        if _CA_BUNDLE.exists():  # a machine that has authorities of its own has them for the package mirror too
            words.append(f"--volume={_CA_BUNDLE}:{_CA_BUNDLE}:ro")
        words += [f"--env={proxy}" for proxy in _PROXIES if proxy in os.environ]
        words += [f"--env=KUBERNETES_VERSION={parts.version}", f"--env=PAUSE_IMAGE={parts.pause}"]
        lines: list[str] = []

        def tell(line: str) -> None:
            lines.append(line)
            if found := re.match(r"\d+s (.+)", line):
                say(f"node image: {found.group(1)}")

        try:
            self._engine.docker(
                "run", "--name", name, "--label", "inference-in-a-box=1", "--privileged", "--network", "host",
                "--stop-signal", _STOP_SIGNAL, *words,
                parts.base(), "bash", f"{_IN}/node/build.sh", on_line=tell, timeout_s=_BUILD_S,
            )  # fmt: skip
        except CommandFailed as error:
            error.facts["output"] = "\n".join(lines[-15:])
            raise

    def _commit(self, parts: Parts, name: str, key: str) -> None:
        changes = (
            _ENTRYPOINT,
            "CMD []",
            "ENV container=docker",
            "LABEL inference-in-a-box=1",
            f"LABEL {RECIPE_LABEL}={key}",
        )
        words = [word for change in changes for word in ("--change", change)]
        self._engine.docker("commit", *words, name, parts.ref)


def parts_of(recipes: Recipes, modules: GoModules, images: Images, base: Base) -> Parts:
    """Return the parts that config/packages.yaml names. Builds and fetches nothing yet."""
    kubernetes, kind = recipes.module(_KUBERNETES), recipes.module(_KIND)
    preload = {name: image.ref for name, image in recipes.images.items() if image.preload}
    folder = modules.target(kubernetes)
    return Parts(
        version=kubernetes.version,
        base=base.image,
        base_key=base.key,
        binaries={name: folder / name for name in BINARIES},
        kind_files=lambda: modules.download(kind.module, kind.version).dir / "images" / "base" / "files",
        manifests=recipes.root / AGENT,
        pause=recipes.image("pause").ref,
        preload=lambda target: images.archive(preload, target),
        inputs_key=digest([modules.key(kubernetes), kind.version, {name: images.key(name) for name in preload}]),
    )


def check(parts: Parts) -> None:
    """Raise BadInput for what would only show when the cluster does not come up."""
    missing = [name for name in BINARIES if not parts.binaries.get(name, Path("/nowhere")).is_file()]
    if missing:
        raise BadInput(f"node image: no {', '.join(missing)} among the binaries")
    network = parts.manifests / "default-cni.yaml"
    if _TEMPLATED not in network.read_text():
        raise BadInput(
            f"{network}: kind fills in the pods' subnet only where it reads {_TEMPLATED!r}",
            hint=f"put  # {_TEMPLATED}  at the top",
        )
