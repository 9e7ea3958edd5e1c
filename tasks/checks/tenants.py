"""Tenants are held to their quota, and denied by default."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from math import floor
from typing import Any

from tasks.components import tenants as components
from tasks.lib import quantity
from tasks.lib.checks import Check, Result, Scene, failed, passed, skipped, unmade
from tasks.lib.errors import Refused
from tasks.lib.kube.api import ApiError, Obj
from tasks.lib.scratch import LABEL
from tasks.lib.tenancy import Tenant

STAGE = "tenants"
QUOTA, DENY = "tenants.quota", "tenants.default-deny"

_FIX = "invoke tenants --force"
_MORE = {"cpu": Decimal(1), "memory": Decimal(2**30)}
"""By how much a pod asks for too much."""

_LEAST = {"cpu": "1m", "memory": "1Mi"}
_LIMITED = tuple(f"{side}.{resource}" for side in ("requests", "limits") for resource in _MORE)
_FORBIDDEN = 403
_EVERYWHERE = frozenset({"0.0.0.0/0", "::/0"})
_BOTH = {"Ingress", "Egress"}


def checks(tenants: Sequence[Tenant]) -> list[Check]:
    """Return the claims about the tenants."""
    if not tenants:
        claims = {QUOTA: "a tenant's quota refuses what exceeds it", DENY: "a tenant is denied by default"}
        return [unmade(check_id, STAGE, claim, "there is no tenant") for check_id, claim in claims.items()]
    quotas = [
        Check(
            id=QUOTA, subject=each.name, stage=STAGE, needs=(components.component_name(each.name),), fix=_FIX,
            claim=f"the quota of tenant {each.name} refuses what exceeds it, and lets in what fits",
            probe=partial(_quota, each),
        ) for each in tenants
    ]  # fmt: skip
    denials = [
        Check(
            id=DENY, subject=each.name, stage=STAGE, needs=(components.component_name(each.name),), fix=_FIX,
            claim=f"tenant {each.name} denies all traffic by default, and allows no one and nowhere at large",
            probe=partial(_denied, each),
        ) for each in tenants
    ]  # fmt: skip
    return [*quotas, *denials]


# quota


def _quota(tenant: Tenant, scene: Scene) -> Result:
    small = _dry_run(scene, _pod(tenant, {}))
    return refused(small, {key: _dry_run(scene, _pod(tenant, _too_much(tenant, key))) for key in _LIMITED})


def _dry_run(scene: Scene, pod: Obj) -> Refused | None:
    where = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods?dryRun=All"
    try:
        scene.box.kube.raw("POST", where, pod, subject="dry run of a pod")
    except Refused as error:
        return error
    return None


def refused(small: Refused | None, too_much: dict[str, Refused | None]) -> Result:
    """Judge what became of a pod that fits, and of one for each quota that does not."""
    if small is not None and _by_quota(small):
        return skipped(f"the quota is used up, so that nothing shows that it lets in what fits: {_message(small)}")
    if small is not None:
        return failed("a small pod was refused", _message(small))
    if through := [key for key, error in too_much.items() if error is None]:
        return failed(f"a pod beyond {' and '.join(through)} was let in")
    others = {key: error for key, error in too_much.items() if error and key not in _asked(error)}
    if others or not too_much:
        evidence = "\n".join(f"{key}: {_message(error)}" for key, error in others.items())
        return failed("something was refused, but not by the quota it exceeds", evidence)
    return passed(f"refused beyond {', '.join(too_much)}; a small pod is let in")


def _by_quota(error: Refused) -> bool:
    return error.status == _FORBIDDEN and "exceeded quota:" in _message(error)


def _asked(error: Refused) -> str:
    """Return what the quota names as too much ("limits.cpu=9,requests.cpu=3"); nothing for another refusal."""
    return "" if not _by_quota(error) else _message(error).partition("requested:")[2].partition("used:")[0]


def _message(error: Refused) -> str:
    return error.message if isinstance(error, ApiError) and error.message else error.what


def _too_much(tenant: Tenant, key: str) -> dict[str, str]:
    """Return requests and limits, of which just this one is beyond the quota wherever that can be."""
    side, _, resource = key.partition(".")
    amount = quantity.parse(tenant.quota[key], key) + _MORE[resource]
    text = str(floor(amount))
    return {f"limits.{resource}": text, **({f"requests.{resource}": text} if side == "requests" else {})}


def _pod(tenant: Tenant, amounts: dict[str, str]) -> Obj:
    resources = {
        side: {resource: amounts.get(f"{side}.{resource}", least) for resource, least in _LEAST.items()}
        for side in ("requests", "limits")
    }
    container = {
        "name": "probe", "image": "verify-quota", "resources": resources,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "verify-quota", "namespace": tenant.namespace, "labels": {LABEL: "true"}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        },
    }


# default deny


def _denied(tenant: Tenant, scene: Scene) -> Result:
    return denies(scene.box.kube.list("networking.k8s.io/v1", "NetworkPolicy", tenant.namespace))


def denies(policies: Sequence[Obj]) -> Result:
    """Judge a tenant's policies as a whole: one denies everything, and none of the others undoes it."""
    own = [each for each in policies if LABEL not in (each["metadata"].get("labels") or {})]
    if not any(_denies_all(each["spec"]) for each in own):
        named = ", ".join(each["metadata"]["name"] for each in own) or "none"
        return failed("no policy denies all traffic of all its pods, in and out", f"policies: {named}")
    if wide := list(_wide(own)):
        return failed("a policy allows what default-deny is for", "\n".join(wide))
    return passed(f"{len(own)} policies")


def _denies_all(spec: Obj) -> bool:
    whole = not any((spec.get("podSelector") or {}).values())
    return whole and set(spec.get("policyTypes") or []) >= _BOTH and not spec.get("ingress") and not spec.get("egress")


def _wide(policies: Iterable[Obj]) -> Iterator[str]:
    for each in policies:
        for side, peers, word in (("ingress", "from", "everyone in"), ("egress", "to", "everywhere out")):
            for rule in each["spec"].get(side) or []:
                if not rule.get(peers) or any(_is_wide(peer) for peer in rule[peers]):
                    yield f"{each['metadata']['name']} lets {word}"


def _is_wide(peer: dict[str, Any]) -> bool:
    if "ipBlock" in peer:
        return peer["ipBlock"].get("cidr") in _EVERYWHERE
    return "namespaceSelector" in peer and not any((peer["namespaceSelector"] or {}).values())
