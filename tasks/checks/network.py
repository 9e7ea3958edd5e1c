"""NetworkPolicies are enforced, and keep tenants apart.

Enforcement is proven first, by a probe that must be blocked: there are clusters that accept policies and do nothing.

Tenants are kept apart twice, by what the caller's side lets out and by what the model's side lets in. To see that a
policy is what blocks, it has to be taken away. Taking away a tenant's own policies would leave it open when a run dies
in the middle. Policies only ever add up, so a scratch policy that allows is the same as a denial taken away: each
side's allowance is made and removed in turn, and reaches no further than from the one probe pod to the one model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tasks.checks import asking
from tasks.components import models as components, tenants as tenant_components
from tasks.lib import predict, render
from tasks.lib.checks import Check, Result, Scene, failed, passed, skipped, unmade
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.modelling import Model
from tasks.lib.netpolicies import in_namespace, policy
from tasks.lib.objects import namespace
from tasks.lib.probepods import ROLE_LABEL, ProbePod, Way, call, closed, listen, reaches, start, words
from tasks.lib.scratch import Scratch
from tasks.lib.tenancy import Tenant

STAGE = "network"
ENFORCED, APART = "network.enforced", "network.tenants-apart"

SPREAD_S = 60.0
"""Seconds within which a change of policy has to take effect."""

_CANARY = "verify-network"
_PORT = 8080
_DIRECT_PORTS = {"queue-proxy": 8012, "model server": 8080}
_CALLER, _CONTROL = "caller", "control"
_FIX = "invoke tenants --force"


def checks(tenants: Sequence[Tenant], models: Sequence[Model]) -> list[Check]:
    """Return the claims about the network."""
    canary = Check(
        id=ENFORCED, stage=STAGE, claim="a NetworkPolicy that denies is enforced, and one that is gone is not",
        needs=("cluster",), probe=_enforced, timeout_s=500,
        fix="a network plugin that enforces NetworkPolicy (kind from 0.24 on has one)",
    )  # fmt: skip
    pairs = [(model, other) for model in models if (other := _other(model, tenants))]
    if not pairs:
        why = "there is no model" if not models else "there is only one tenant"
        return [canary, unmade(APART, STAGE, "a tenant's pod cannot reach another tenant's model", why)]
    return [canary, *(_pair(model, other) for model, other in pairs)]


def _other(model: Model, tenants: Sequence[Tenant]) -> Tenant | None:
    return next((each for each in tenants if each.name != model.tenant), None)


def _pair(model: Model, other: Tenant) -> Check:
    return Check(
        id=APART, subject=f"{model.tenant}/{model.name}", stage=STAGE,
        claim=f"a pod of tenant {other.name} cannot reach {model.tenant}/{model.name}, and could without the policies",
        needs=(ENFORCED, components.component_name(model), tenant_components.component_name(other.name)),
        after=("models.answers",), probe=partial(_apart, model, other), timeout_s=900, fix=_FIX,
    )  # fmt: skip


def _role(role: str) -> Obj:
    return {"podSelector": {"matchLabels": {ROLE_LABEL: role}}}


# enforcement


def _enforced(scene: Scene) -> Result:
    with Scratch(scene.box.kube, "network", scene.box.cancel) as scratch:
        scratch.add(namespace(_CANARY))
        listener = start(scene, scratch, _CANARY, "listener", listen(_PORT))
        order = call([Way(name="listener", host=listener.address, port=_PORT)])
        caller = start(scene, scratch, _CANARY, _CALLER, order)
        control = start(scene, scratch, _CANARY, _CONTROL, order)
        return _canary(scene, scratch, caller, control)


def _canary(scene: Scene, scratch: Scratch, caller: ProbePod, control: ProbePod) -> Result:
    """Let both in, then only the control, then both again."""
    ways = ("listener",)

    def both(since: Sequence[int]) -> str:
        return reaches(caller.rounds(since[0]), ways, _CALLER) or reaches(control.rounds(since[1]), ways, _CONTROL)

    def only_control(since: Sequence[int]) -> str:
        return reaches(control.rounds(since[1]), ways, _CONTROL) or closed(caller.rounds(since[0]), ways, _CALLER)

    if why := scene.observe(partial(both, (0, 0)), SPREAD_S):
        return failed("pods do not reach each other without any policy, so that a blocked one proves nothing", why)
    spec = {**_role("listener"), "policyTypes": ["Ingress"], "ingress": [{"from": [_role(_CONTROL)]}]}
    denial = scratch.add(policy("verify-deny", _CANARY, spec))
    if why := scene.observe(partial(only_control, (caller.mark(), control.mark())), SPREAD_S):
        says = f"{SPREAD_S:.0f} s after a policy that lets only the control in, it was not so"
        return failed(says, _trace(why, caller, control))
    how = words(caller.rounds(), ways)
    scratch.take_away(denial)
    if why := scene.observe(partial(both, (caller.mark(), control.mark())), SPREAD_S):
        says = f"{SPREAD_S:.0f} s after the policy was taken away, it still had its effect"
        return failed(says, _trace(why, caller, control))
    return passed(f"blocked ({how}) while the control got through; connected again without the policy")


def _trace(why: str, *pods: ProbePod) -> str:
    """Return an obstacle, and what each pod saw last."""
    lines = [why]
    for pod in pods:
        newest = pod.rounds()[-1:]
        seen = "; ".join(str(attempt) for each in newest for attempt in each.values())
        lines.append(f"{pod.role} {pod.ref.namespace}/{pod.ref.name}, at last: {seen or 'nothing'}")
    return "\n".join(lines)


# tenants


def _apart(model: Model, other: Tenant, scene: Scene) -> Result:
    if not model.instances:
        return skipped("config/models.yaml has no example for it, so that no control can be asked")
    reply = predict.ask(scene.box, model, model.instances)  # wakes it; the control keeps it awake
    if reply.obstacle:
        return failed(f"the model does not answer, so that a blocked pod proves nothing: {reply.obstacle}")
    owner = f"apart-{render.digest([model.tenant, model.name])[:8]}"
    with Scratch(scene.box.kube, owner, scene.box.cancel) as scratch:
        target, outside = _awake(scene, model), scratch.component
        scratch.add(namespace(outside))
        around = asking.ways(model, scene.box.settings.domain, predict.mint(scene.box, model))
        direct = [Way(name=name, host=target["status"]["podIP"], port=port) for name, port in _DIRECT_PORTS.items()]
        unnamed = [replace(way, token="") for way in around]
        caller = start(scene, scratch, other.namespace, _CALLER, call([*direct, *unnamed]))
        control = start(scene, scratch, outside, _CONTROL, call(around), mesh=True)
        wall = Wall(
            scene=scene, scratch=scratch, model=model, other=other, target=target, caller=caller, control=control,
            direct=tuple(way.name for way in direct), around=tuple(way.name for way in around),
        )  # fmt: skip
        return wall.judge()


def _awake(scene: Scene, model: Model) -> Obj:
    """Return the model's oldest pod that is ready: the last to be scaled away. Raises NotReady when there is none."""
    found: list[Obj] = []

    def obstacle() -> str:
        found[:] = [each for each in asking.pods(scene.box, model) if _is_ready(each)]
        return "" if found else f"{model.name}: no pod is ready"

    scene.require(obstacle, SPREAD_S)
    return min(found, key=lambda each: str(each["metadata"].get("creationTimestamp")))


def _is_ready(pod: Obj) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return not pod["metadata"].get("deletionTimestamp") and any(
        each["type"] == "Ready" and each["status"] == "True" for each in conditions
    )


@dataclass(kw_only=True)
class Wall:
    """The two policies between a tenant's pod and another tenant's model, opened and closed side by side.

    `direct` are the ways to the model's pod, which both sides' allowances open. `around` are the ways through the
    mesh's gateways: they stay closed to the caller throughout, while the control is answered on them.
    """

    scene: Scene
    scratch: Scratch
    model: Model
    other: Tenant
    target: Obj
    caller: ProbePod
    control: ProbePod
    direct: tuple[str, ...]
    around: tuple[str, ...]
    allowed: dict[str, Ref] = field(default_factory=dict)

    def judge(self) -> Result:
        """Walk through what may be allowed; at each step the network has to show it."""
        who, whose = f"tenant {self.other.name}", f"tenant {self.model.tenant}"
        steps: tuple[tuple[set[str], Callable[..., str], str], ...] = (
            (set(), self.all_closed, f"a pod of {who} was not shut out"),
            ({"in", "out"}, self.direct_open, "with both sides' policies taken away it did not get through"),
            ({"out"}, self.direct_closed, f"the policies of {whose} alone did not shut it out"),
            ({"in", "out"}, self.direct_open, "with both sides' policies taken away again it did not get through"),
            ({"in"}, self.direct_closed, f"the policies of {who} alone did not shut it out"),
            (set(), self.all_closed, "with everything as it was it was not shut out"),
        )
        early = 0
        for number, (sides, expected, otherwise) in enumerate(steps):
            since = self.allow(sides, first=number == 0)
            if why := self.scene.observe(partial(expected, since), SPREAD_S):
                return failed(f"{otherwise}, for {SPREAD_S:.0f} s", _trace(why, self.caller, self.control))
            if number == 0:
                early = self.early()
        return passed(self._says(early), measured={"connected_at_first": early})

    def allow(self, sides: set[str], *, first: bool = False) -> tuple[int, int]:
        """Make or remove allowances until these are there; return the rounds of both pods that began before."""
        for side in set(self.allowed) - sides:
            self.scratch.take_away(self.allowed.pop(side))
        for side in sides - set(self.allowed):
            self.allowed[side] = self.scratch.add(self._allowance(side))
        return (0, 0) if first else (self.caller.mark(), self.control.mark())

    def all_closed(self, since: tuple[int, int]) -> str:
        """No way leads to the model for the caller, while the control is answered."""
        return self._closed((*self.direct, *self.around), since)

    def direct_closed(self, since: tuple[int, int]) -> str:
        """No way leads to the model's pod, while the control is answered."""
        return self._closed(self.direct, since)

    def direct_open(self, since: tuple[int, int]) -> str:
        """The model's pod is reached, and the control is answered."""
        return self._disturbed(since) or reaches(self.caller.rounds(since[0]), self.direct, _CALLER)

    def early(self) -> int:
        """Return in how many rounds the caller got through before the network knew its pod."""
        return sum(any(each.connect == "connected" for each in found.values()) for found in self.caller.rounds())

    def _closed(self, ways: Sequence[str], since: tuple[int, int]) -> str:
        return self._disturbed(since) or closed(self.caller.rounds(since[0]), ways, _CALLER)

    def _disturbed(self, since: tuple[int, int]) -> str:
        """Return what makes a look worthless: a model that does not answer now, or whose pod is another one."""
        uids = [each["metadata"]["uid"] for each in asking.pods(self.scene.box, self.model) if _is_ready(each)]
        if self.target["metadata"]["uid"] not in uids:
            return f"the model's pod {self.target['metadata']['name']} went away meanwhile"
        return asking.unanswered(self.control.rounds(since[1]), self.around, self.model, _CONTROL)

    def _allowance(self, side: str) -> Obj:
        model, other = self.model, self.other
        served: dict[str, Any] = {"podSelector": {"matchLabels": asking.pod_labels(model)}}
        ports = [{"protocol": "TCP", "port": port} for port in _DIRECT_PORTS.values()]
        if side == "in":
            peer = {**in_namespace(other.namespace), **_role(_CALLER)}
            spec = {**served, "policyTypes": ["Ingress"], "ingress": [{"from": [peer], "ports": ports}]}
            return policy(f"verify-allow-in-{model.name}", model.namespace, spec)
        spec = {
            **_role(_CALLER), "policyTypes": ["Egress"],
            "egress": [{"to": [{**in_namespace(model.namespace), **served}], "ports": ports}],
        }  # fmt: skip
        return policy(f"verify-allow-out-{model.tenant}-{model.name}", other.namespace, spec)

    def _says(self, early: int) -> str:
        how = words(self.caller.rounds(), self.direct)
        count = len(self.direct) + len(self.around)
        told = f"shut out ({how}) on {count} ways, and by either side alone; connected when both allowed it"
        return f"{told} (it got through {early} times before the network knew its pod)" if early else told
