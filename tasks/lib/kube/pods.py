"""Why a pod is not ready, in words, from the pod alone. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

Obj = Mapping[str, Any]

_NORMAL = frozenset({"PodInitializing", "ContainerCreating"})
_LONGEST = 200


def reason(pod: Obj) -> str:
    """Return the first thing that stands in the way; empty when nothing does.

    The scheduler's message, a container that waits ("ImagePullBackOff: …") with how it ended last, or one that runs
    but is not ready.
    """
    status = pod.get("status") or {}
    if status.get("phase") == "Failed":
        return _join(status.get("reason"), status.get("message")) or next(_ended(status), "failed")
    for each in status.get("conditions") or []:
        if each.get("type") == "PodScheduled" and each.get("status") == "False":
            return _join(each.get("reason"), each.get("message"))
    found = [*_containers(status, "initContainerStatuses"), *_containers(status, "containerStatuses")]
    return next((text for serious, text in found if serious), next((text for _, text in found), ""))


def _containers(status: Obj, key: str) -> Iterator[tuple[bool, str]]:
    for each in status.get(key) or []:
        state = each.get("state") or {}
        waiting, last = state.get("waiting"), (each.get("lastState") or {}).get("terminated")
        if waiting:
            why = waiting.get("reason") or "waiting"
            ended = f" (last {_exit(last)})" if last else ""
            yield why not in _NORMAL, f"{each['name']}: {_join(why, waiting.get('message'))}{ended}"
        elif state.get("terminated") and state["terminated"].get("exitCode"):
            yield True, f"{each['name']}: {_exit(state['terminated'])}"
        elif "running" in state and not each.get("ready", True) and key == "containerStatuses":
            ended = f", restarted {each['restartCount']} times, last {_exit(last)}" if last else ""
            yield bool(last), f"{each['name']}: not ready{ended}"


def _ended(status: Obj) -> Iterator[str]:
    for key in ("initContainerStatuses", "containerStatuses"):
        for each in status.get(key) or []:
            ended = (each.get("state") or {}).get("terminated")
            if ended and ended.get("exitCode"):
                yield f"{each['name']}: {_exit(ended)}"


def _exit(ended: Obj) -> str:
    return _join(f"exit {ended.get('exitCode')}", ended.get("reason"), ended.get("message"))


def _join(*words: object) -> str:
    text = ": ".join(" ".join(str(word).split()) for word in words if word)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
