"""The form of a container image: its layers, its configuration, and what the smallest base holds."""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.lib import registry
from tasks.lib.errors import BadInput
from tasks.lib.packages import layers
from tasks.lib.packages.layers import Entry, Layer
from tasks.lib.packages.recipes import Image

NOBODY = 65532

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_EPOCH = "1970-01-01T00:00:00Z"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Composed:
    """An image ready to be pushed or saved."""

    manifest: bytes
    config: bytes
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> str:
        """The digest by which a registry knows it."""
        return sha(self.manifest)

    @property
    def size(self) -> int:
        """Bytes of all its layers."""
        return sum(each.size for each in self.layers)


def assemble(recipe: Image, parts: Sequence[Layer], architecture: str) -> Composed:
    """Return the image that these layers and the recipe's settings make."""
    environment = {"PATH": _PATH, **recipe.environment}
    settings = {
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Entrypoint": list(recipe.entrypoint),
        "Cmd": list(recipe.command) or None,
        "User": recipe.user,
        "WorkingDir": recipe.workdir or "/",
    }
    config = _json(
        {
            "created": _EPOCH,
            "architecture": architecture,
            "os": "linux",
            "config": {key: value for key, value in settings.items() if value},
            "rootfs": {"type": "layers", "diff_ids": [each.digest for each in parts]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": registry.MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": sha(config), "size": len(config)},
            "layers": [{"mediaType": _LAYER, "digest": each.digest, "size": each.size} for each in parts],
        }
    )
    return Composed(manifest=manifest, config=config, layers=tuple(parts))


def static() -> Iterable[Entry]:
    """Return a home for a static binary: names for its numeric users, and a place for temporary files."""
    users = f"root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{NOBODY}:{NOBODY}:nonroot:/home/nonroot:/sbin/nologin\n"
    groups = f"root:x:0:\nnonroot:x:{NOBODY}:\n"
    return [
        Entry(path="etc/passwd", content=users.encode(), mode=layers.DATA),
        Entry(path="etc/group", content=groups.encode(), mode=layers.DATA),
        Entry(path="home/nonroot", mode=layers.PRIVATE, owner=NOBODY),
        Entry(path="tmp", mode=layers.STICKY),
    ]


def users(wanted: Mapping[str, int], base: Layer) -> Iterable[Entry]:
    """Add users to those of the base."""
    accounts = "".join(f"{name}:x:{number}:{number}::/home/{name}:/bin/sh\n" for name, number in wanted.items())
    groups = "".join(f"{name}:x:{number}:\n" for name, number in wanted.items())
    with tarfile.open(base.path) as tar:
        for name, more in (("etc/passwd", accounts), ("etc/group", groups)):
            yield Entry(path=name, content=_read(tar, name) + more.encode(), mode=layers.DATA)
    for name, number in wanted.items():
        yield Entry(path=f"home/{name}", mode=layers.PRIVATE, owner=number)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    for spelled in (name, f"./{name}"):
        if spelled in tar.getnames() and (file := tar.extractfile(spelled)):
            return file.read()
    raise BadInput(f"the base image has no /{name}")


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha(data: bytes) -> str:
    """Return the digest of bytes as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
