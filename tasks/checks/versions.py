"""What runs is what is locked: every container's image, as the node that runs it reports it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from tasks.lib import lockfile, names, registry
from tasks.lib.box import Box
from tasks.lib.checks import Check, Result, Scene, failed, passed, skipped
from tasks.lib.kube.api import Obj
from tasks.lib.tenancy import Tenant

STAGE = "versions"
LOCKED = "versions.locked"

_OURS = (
    names.PLATFORM_NAMESPACE, names.CERT_MANAGER_NAMESPACE, names.ISTIO_NAMESPACE, names.KNATIVE_NAMESPACE,
    names.KSERVE_NAMESPACE,
)  # fmt: skip
_OVER = frozenset({"Succeeded", "Failed"})


@runtime_checkable
class Builder(Protocol):
    """A source that makes images itself, whose bytes are others than those the lock names."""

    def digests(self) -> dict[str, str]:
        """Return the digest of every image that it made, by its name in versions.yaml."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """What an image has to be. `digest` is empty when it is not locked."""

    name: str
    version: str
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A container that runs: what was asked for, and the digest of what the node has.

    It is empty for an image that came another way than through a pull (`kind load`): the node knows no digest then.
    """

    place: str
    image: str
    digest: str = ""


def checks(tenants: Iterable[Tenant]) -> list[Check]:
    """Return the claim about versions."""
    ours = (*_OURS, *(each.namespace for each in tenants))
    return [
        Check(
            id=LOCKED, stage=STAGE, claim="every container of the platform runs the image that is locked",
            needs=("cluster",), probe=partial(_locked, ours), fix="invoke up --force",
        )
    ]  # fmt: skip


def _locked(ours: Sequence[str], scene: Scene) -> Result:
    pods = scene.box.kube.list("v1", "Pod")
    inside = [each for each in pods if each["metadata"]["namespace"] in ours]
    elsewhere = sum(1 for _ in running(each for each in pods if each["metadata"]["namespace"] not in ours))
    word = "built here" if isinstance(scene.box.source, Builder) else "locked"
    return judge(list(running(inside)), pins(scene.box), elsewhere=elsewhere, word=word)


def pins(box: Box) -> dict[str, Pin]:
    """Return what each image has to be, by host and repository."""
    built = box.source.digests() if isinstance(box.source, Builder) else None
    lock = lockfile.load(box.root)
    found = {}
    for image in box.versions.images.values():
        host, repository, _ = registry.split(image.ref)
        locked = image.digest or lock.digest(f"images.{image.name}")
        found[f"{host}/{repository}"] = Pin(
            name=image.name, version=image.version, digest=locked if built is None else built.get(image.name, "")
        )
    return found


def running(pods: Iterable[Obj]) -> Iterator[Running]:
    """Return the containers of pods that are not over, with the image each was made from."""
    for pod in pods:
        meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
        if status.get("phase") in _OVER:
            continue
        containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        asked = {each["name"]: each["image"] for each in containers}
        for key in ("initContainerStatuses", "containerStatuses"):
            for each in status.get(key) or []:
                if each.get("imageID"):
                    place = f"{meta['namespace']}/{meta['name']}/{each['name']}"
                    image = asked.get(each["name"], each.get("image", ""))
                    yield Running(place=place, image=image, digest=each["imageID"].partition("@")[2])


def judge(found: Sequence[Running], wanted: Mapping[str, Pin], *, elsewhere: int = 0, word: str = "locked") -> Result:
    """Hold what runs against what is pinned. `word` says where the digests come from."""
    wrong, open_, same = list[str](), dict[str, list[str]](), 0
    for each in found:
        host, repository, reference = registry.split(each.image)
        pin = wanted.get(f"{host}/{repository}")
        if pin is None:
            wrong.append(f"{each.place}: {each.image} is not in config/versions.yaml")
        elif why := _differs(each, reference, pin):
            wrong.append(f"{each.place}: {pin.name} {why}")
        elif reason := _incomparable(each, pin, word):
            open_.setdefault(reason, []).append(pin.name)
        else:
            same += 1
    if wrong:
        return failed(f"{len(wrong)} of {len(found)} containers run something else", "\n".join(wrong))
    lines = [f"{len(images)} {reason}: {', '.join(dict.fromkeys(images))}" for reason, images in open_.items()]
    count = len(found) - same
    if not same:
        return skipped(f"none of {count} containers can be held against what is {word}", "\n".join(lines))
    told = f"{same} containers run what is {word}" + (f", {count} cannot be held against it" if count else "")
    if elsewhere:
        lines.append(f"{elsewhere} in other namespaces are the cluster's own")
    measured = {"same": same, "not_comparable": count, "elsewhere": elsewhere}
    return passed(told, "\n".join(lines), measured=measured)


def _differs(each: Running, reference: str, pin: Pin) -> str:
    """Return how a container is not what is pinned. Its tag counts too, where it was asked for by one."""
    if not reference.startswith("sha256:") and reference != pin.version:
        return f"runs {reference} instead of {pin.version}"
    if pin.digest and each.digest and each.digest != pin.digest:
        return f"runs {each.digest} instead of {pin.digest}"
    return ""


def _incomparable(each: Running, pin: Pin, word: str) -> str:
    if not pin.digest:
        return f"not {word}"
    return "" if each.digest else "of which the node says no digest"
