"""How far an object has come, from the object alone: a table of kinds and rules. Pure.

Kinds that report through conditions must have reported: for those in kinds.REPORTS, no condition yet means InProgress,
since a wrong Certificate or InferenceService looks no different in its first seconds. Failed is kept for what no amount
of waiting cures (a Job out of retries); a Deployment over its progress deadline recovers when its image appears.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tasks.lib.kube import kinds, pods

Obj = Mapping[str, Any]


class State(StrEnum):
    """How far an object has come."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far an object has come, and why, in words."""

    state: State
    message: str = ""

    def __str__(self) -> str:
        return self.message or str(self.state)


MISSING = Status(state=State.IN_PROGRESS, message="not there")
UNKNOWN = Status(state=State.IN_PROGRESS, message="not there, and the cluster does not know its kind")


def compute(obj: Obj) -> Status:
    """Return how far an object has come."""
    meta = obj["metadata"]
    if meta.get("deletionTimestamp"):
        holders = ", ".join(meta.get("finalizers") or [])
        return Status(state=State.TERMINATING, message=f"is being deleted{f' (held by {holders})' if holders else ''}")
    group, kind = obj["apiVersion"].rpartition("/")[0], obj["kind"]
    if (group, kind) in kinds.EXISTENCE:
        return _current()
    status = obj.get("status") or {}
    observed, wanted = status.get("observedGeneration"), meta.get("generation")
    if observed is not None and wanted is not None and observed < wanted and group != kinds.KSERVE:
        return _progress(f"generation {wanted} not seen yet by its controller")
    if rule := _RULES.get((group, kind)):
        return rule(obj)
    if types := kinds.REPORTS.get((group, kind)):
        return _reported(obj, status.get("conditions") or [], types)
    return _volunteered(obj)


def _current(message: str = "") -> Status:
    return Status(state=State.CURRENT, message=message)


def _progress(message: str) -> Status:
    return Status(state=State.IN_PROGRESS, message=message)


def _failed(message: str) -> Status:
    return Status(state=State.FAILED, message=message)


def condition(conditions: Sequence[Obj], kind: str) -> Obj | None:
    """Return the condition of that type."""
    return next((each for each in conditions if each.get("type") == kind), None)


def _conditions(obj: Obj) -> list[Obj]:
    return list((obj.get("status") or {}).get("conditions") or [])


def say(given: Obj) -> str:
    """Put a condition into words: "Ready=False: RevisionMissing: ..."."""
    words = [f"{given.get('type')}={given.get('status')}", given.get("reason"), given.get("message")]
    return ": ".join(str(word).strip() for word in words if word)


def _reported(obj: Obj, conditions: Sequence[Obj], types: Sequence[str]) -> Status:
    """Every condition named is there, is about this generation, and is True."""
    generation = obj["metadata"].get("generation")
    for kind in types:
        found = condition(conditions, kind) or condition(conditions, f"Not{kind}")
        if found is None:
            return _progress(f"{kind} not reported yet")
        seen = found.get("observedGeneration")
        if seen is not None and generation is not None and seen < generation:
            return _progress(f"{kind} not reported yet for generation {generation}")
        if found["type"] != kind or found.get("status") != "True":
            return _progress(say(found))
    return _current()


def _volunteered(obj: Obj) -> Status:
    """A kind we know nothing of: believe Ready when it reports it."""
    found = condition(_conditions(obj), "Ready")
    return _progress(say(found)) if found and found.get("status") != "True" else _current()


def _deployment(obj: Obj) -> Status:
    status, wanted = obj.get("status") or {}, _replicas(obj)
    if status.get("observedGeneration") is None:
        return _progress("not seen yet by its controller")
    updated, available, total = (status.get(key, 0) for key in ("updatedReplicas", "availableReplicas", "replicas"))
    if available < wanted:
        stuck = condition(_conditions(obj), "Progressing")
        late = stuck is not None and stuck.get("reason") == "ProgressDeadlineExceeded"
        return _progress(f"{available} of {wanted} available{', over its progress deadline' if late else ''}")
    if updated < wanted:
        return _progress(f"{updated} of {wanted} updated")
    if total > updated:
        return _progress(f"{total - updated} old to go")
    return _current(f"{available} of {wanted} available")


def _stateful_set(obj: Obj) -> Status:
    status, wanted = obj.get("status") or {}, _replicas(obj)
    if status.get("observedGeneration") is None:
        return _progress("not seen yet by its controller")
    ready = status.get("readyReplicas", 0)
    if ready < wanted:
        return _progress(f"{ready} of {wanted} ready")
    rolling = (obj["spec"].get("updateStrategy") or {}).get("type") != "OnDelete"
    partition = ((obj["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition", 0)
    if rolling and not partition and status.get("updateRevision") != status.get("currentRevision"):
        return _progress(f"{status.get('updatedReplicas', 0)} of {wanted} updated")
    return _current(f"{ready} of {wanted} ready")


def _daemon_set(obj: Obj) -> Status:
    status = obj.get("status") or {}
    if status.get("observedGeneration") is None:
        return _progress("not seen yet by its controller")
    wanted = status.get("desiredNumberScheduled", 0)
    for key, word in (("updatedNumberScheduled", "updated"), ("numberAvailable", "available")):
        if status.get(key, 0) < wanted:
            return _progress(f"{status.get(key, 0)} of {wanted} {word}")
    return _current(f"{wanted} of {wanted} available")


def _replica_set(obj: Obj) -> Status:
    status, wanted = obj.get("status") or {}, _replicas(obj)
    available = status.get("availableReplicas", 0)
    message = f"{available} of {wanted} available"
    return _current(message) if status.get("replicas") == wanted == available else _progress(message)


def _replicas(obj: Obj) -> int:
    return int(obj["spec"].get("replicas", 1))


def _job(obj: Obj) -> Status:
    failed, complete = (condition(_conditions(obj), kind) for kind in ("Failed", "Complete"))
    if failed and failed.get("status") == "True":
        return _failed(f"failed: {failed.get('reason', '')}: {failed.get('message', '')}".rstrip(": "))
    if complete and complete.get("status") == "True":
        return _current("complete")
    status = obj.get("status") or {}
    if obj["spec"].get("suspend"):
        return _progress("suspended")
    done, tries = status.get("succeeded", 0), status.get("failed", 0)
    wanted = obj["spec"].get("completions", 1)
    return _progress(f"{done} of {wanted} complete{f', {tries} failed' if tries else ''}")


def _pod(obj: Obj) -> Status:
    phase = (obj.get("status") or {}).get("phase", "Pending")
    if phase == "Succeeded":
        return _current("complete")
    if phase == "Failed":
        return _failed(pods.reason(obj) or "failed")
    ready = condition(_conditions(obj), "Ready")
    if phase == "Running" and ready and ready.get("status") == "True":
        return _current("ready")
    return _progress(pods.reason(obj) or phase)


def _definition(obj: Obj) -> Status:
    accepted, established = (condition(_conditions(obj), kind) for kind in ("NamesAccepted", "Established"))
    if accepted and accepted.get("status") == "False":
        return _failed(say(accepted))
    return _current() if established and established.get("status") == "True" else _progress("not established yet")


def _namespace(obj: Obj) -> Status:
    phase = (obj.get("status") or {}).get("phase")
    if phase == "Terminating":
        return Status(state=State.TERMINATING, message="is being deleted")
    return _current() if phase == "Active" else _progress("not active yet")


def _claim(obj: Obj) -> Status:
    phase = (obj.get("status") or {}).get("phase", "Pending")
    if phase == "Lost":
        return _failed("its volume is lost")
    return _current("bound") if phase == "Bound" else _progress(f"{phase.lower()}, no volume bound yet")


def _volume(obj: Obj) -> Status:
    phase = (obj.get("status") or {}).get("phase", "Pending")
    return _failed("failed") if phase == "Failed" else _current() if phase != "Pending" else _progress("pending")


def _service(obj: Obj) -> Status:
    if obj["spec"].get("type") != "LoadBalancer":
        return _current()
    addresses = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress")
    return _current() if addresses else _progress("no load balancer has given it an address")


def _quota(obj: Obj) -> Status:
    """Until it is counted, the quota refuses everything it limits."""
    counted = (obj.get("status") or {}).get("hard") or {}
    missing = [key for key in (obj["spec"].get("hard") or {}) if key not in counted]
    return _progress(f"not counted yet: {', '.join(missing)}") if missing else _current()


def _route(obj: Obj) -> Status:
    """Every Gateway it names has taken it and found its backends."""
    parents = (obj.get("status") or {}).get("parents") or []
    return _all_of(obj, parents, ("Accepted", "ResolvedRefs"), "no Gateway has reported on it yet")


def _policy(obj: Obj) -> Status:
    ancestors = (obj.get("status") or {}).get("ancestors") or []
    return _all_of(obj, ancestors, ("Accepted",), "no target has reported on it yet")


def _all_of(obj: Obj, parts: Sequence[Obj], types: Sequence[str], none: str) -> Status:
    results = [_reported(obj, part.get("conditions") or [], types) for part in parts]
    return next((each for each in results if each.state is not State.CURRENT), _current() if parts else _progress(none))


_RULES: Mapping[tuple[str, str], Callable[[Obj], Status]] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "ReplicaSet"): _replica_set,
    ("batch", "Job"): _job,
    ("", "Pod"): _pod,
    ("", "Namespace"): _namespace,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "PersistentVolume"): _volume,
    ("", "Service"): _service,
    ("", "ResourceQuota"): _quota,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    **{(kinds.GATEWAY_API, f"{kind}Route"): _route for kind in ("HTTP", "GRPC", "TCP", "TLS", "UDP")},
    **{
        (kinds.ENVOY, kind): _policy
        for kind in ("SecurityPolicy", "BackendTrafficPolicy", "ClientTrafficPolicy", "EnvoyExtensionPolicy")
    },
}
