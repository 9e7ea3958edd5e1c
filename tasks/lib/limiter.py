"""What the limiter has counted, read where it counts: in Redis, by a pod that is let in for as long as it reads.

Its own statistics say it for no tenant: the endpoint for debugging has the process's alone, and the one for Prometheus
is not in every version. The headers of an answer are the limiter's words, and not its counters.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.lib import names, probepods
from tasks.lib.checks import Scene
from tasks.lib.errors import NotReady
from tasks.lib.kube import follow
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.netpolicies import policy
from tasks.lib.scratch import PREFIX, Scratch

SCRIPT = "verify/counters.py"
ROLE = "counters"
CLIENT = "redis-client"
"""The Secret with the certificate that Redis takes for the limiter's."""

READ_S = 60.0
LIFE_S = 600

_HOST = names.service_host(names.REDIS, names.GATEWAY_NAMESPACE)
_PORT = 6379
_INTERVAL_S = 0.5
_CERTIFICATES = "/redis-certs"
_TAIL_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was in Redis at one time: for each tenant, how much was counted in the window that begins then."""

    number: int
    windows: Mapping[str, Mapping[int, int]]
    error: str = ""

    def since(self, before: "Reading", tenant: str) -> int:
        """Return what was counted of a tenant since an earlier reading, in all windows."""
        old = before.windows.get(tenant, {})
        return sum(count - old.get(begins, 0) for begins, count in self.windows.get(tenant, {}).items() if count)


@dataclass(frozen=True, kw_only=True)
class Counters:
    """A pod that reads the counters of these tenants."""

    scene: Scene
    ref: Ref

    def read(self) -> Reading:
        """Return a reading that certainly began after now. Raises NotReady when there is none."""
        since = max((each.number for each in self._readings()), default=0) + 1
        found: list[Reading] = []

        def obstacle() -> str:
            found[:] = [each for each in self._readings() if each.number > since]
            if not found:
                return "the counters have not been read yet"
            return found[-1].error

        if why := self.scene.observe(obstacle, READ_S):
            raise NotReady(f"what the limiter counts cannot be read: {why}")
        return found[-1]

    def _readings(self) -> Sequence[Reading]:
        return parse(follow.read(self.scene.box.kube, self.ref, probepods.CONTAINER, tailLines=_TAIL_LINES))


def start(scene: Scene, scratch: Scratch, tenants: Sequence[str]) -> Counters:
    """Let a pod read what is counted of these tenants. Raises NotReady when it does not run."""
    scratch.add(allowance())
    order = {
        "host": _HOST, "port": _PORT, "certificates": _CERTIFICATES, "prefixes": list(map(prefix, tenants)),
        "interval_s": _INTERVAL_S, "seconds": LIFE_S,
    }  # fmt: skip
    ref = probepods.submit(scene, scratch, pod(scene), order)
    probepods.started(scene, ref, ROLE)
    return Counters(scene=scene, ref=ref)


def pod(scene: Scene) -> Obj:
    """Return a probe pod in the limiter's namespace, where the limiter's certificate is."""
    made = probepods.pod(scene, names.GATEWAY_NAMESPACE, ROLE, life_s=LIFE_S, script=SCRIPT)
    (container,) = made["spec"]["containers"]
    container["volumeMounts"].append({"name": "certificates", "mountPath": _CERTIFICATES, "readOnly": True})
    made["spec"]["volumes"].append({"name": "certificates", "secret": {"secretName": CLIENT}})
    return made


def allowance() -> Obj:
    """Return the policy by which Redis lets the pod in."""
    reader = {"podSelector": {"matchLabels": {probepods.ROLE_LABEL: ROLE}}}
    rule = {"from": [reader], "ports": [{"protocol": "TCP", "port": _PORT}]}
    to = {"matchLabels": {"app": "redis"}}
    return policy(
        f"{PREFIX}{ROLE}", names.GATEWAY_NAMESPACE,
        {"podSelector": to, "policyTypes": ["Ingress"], "ingress": [rule]},
    )  # fmt: skip


def prefix(tenant: str) -> str:
    """Return how the keys of a tenant begin: with the policy that limits it."""
    return f"{names.tenant_namespace(tenant)}/limits_"


def parse(text: str) -> Sequence[Reading]:
    """Read the pod's log. A key ends with the second, since 1970, in which its window begins."""
    readings = []
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue  # the rest of a line that was cut off
        if not isinstance(found, dict) or "reading" not in found:
            continue
        windows = {
            each.removeprefix("tenant-").partition("/")[0]: _windows(keys)
            for each, keys in found.get("counted", {}).items()
        }
        readings.append(Reading(number=found["reading"], windows=windows, error=found.get("error", "")))
    return readings


def _windows(keys: Mapping[str, int]) -> dict[int, int]:
    """Add up the keys of each window."""
    windows: dict[int, int] = {}
    for key, count in keys.items():
        begins = key.rpartition("_")[2]
        if begins.isdigit():
            windows[int(begins)] = windows.get(int(begins), 0) + count
    return windows
