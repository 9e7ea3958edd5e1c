"""What is taken away to see whether the matrix notices: one policy, or one setting of one, at a time. Pure.

Most of it belongs to the scratch tenants. What belongs to the platform is widened by a policy that reaches no further
than to our probe pods, where there is such a way; three things have none, and are taken away for everybody for the
seconds that it takes: the mesh-wide PeerAuthentication, the header removal, and the gateway's policy for routes without
one. `--mutate` is for platforms that can bear that.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.checks.trust.cells import Seat
from tasks.lib import isolation, names
from tasks.lib.ground import Admission
from tasks.lib.kube.api import Obj
from tasks.lib.netpolicies import in_namespace, policy
from tasks.lib.probepods import ROLE_LABEL


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change. `before` is what is there (None: nothing), `after` what it becomes (None: nothing).

    `borrowed`: it is the platform's, and has to be put back whatever happens.
    """

    name: str
    before: Obj | None
    after: Obj | None
    borrowed: bool = False


Edit = Callable[[dict[str, Any]], object]
"""Changes the spec of a copy."""


def of_tenants(first: Sequence[Obj], last: Sequence[Obj], before: Admission) -> Iterator[Mutant]:
    """What belongs to the scratch tenants. The first has the tenant's seat in it, the last the bystander's.

    `before` is whom they let in before the key was rotated out.
    """
    there = {(each["kind"], each["metadata"]["name"]): each for each in last}
    for each in first:
        name = each["metadata"]["name"]
        if each["kind"] == "NetworkPolicy" and name != "allow-knative":
            yield Mutant(name=f"NetworkPolicy {name} taken away", before=each, after=None)
    whole = (
        "NetworkPolicy allow-knative", "RequestAuthentication tokens", "AuthorizationPolicy deny-by-default",
        "AuthorizationPolicy knative", "AuthorizationPolicy revoked", "AuthorizationPolicy model-echo",
        "SecurityPolicy tokens", "BackendTrafficPolicy limits", "HTTPRoute not-found", "HTTPRoute echo",
    )  # fmt: skip
    for what in whole:
        kind, name = what.split()
        yield Mutant(name=f"{what} taken away", before=there[kind, name], after=None)
    for (kind, name), what, edit in _edits(before):
        original = there[kind, name]
        changed = copy.deepcopy(original)
        edit(changed["spec"])
        yield Mutant(name=f"{kind} {name}: {what}", before=original, after=changed)


def _edits(before: Admission) -> list[tuple[tuple[str, str], str, Edit]]:
    mesh, rules = ("RequestAuthentication", "tokens"), ("AuthorizationPolicy", "model-echo")
    edge, route = ("SecurityPolicy", "tokens"), ("HTTPRoute", "echo")
    stale = isolation.rules(before.jwks)["jwks"]
    return [
        (mesh, "no audience", lambda spec: spec["jwtRules"][0].pop("audiences")),
        (mesh, "the key that was rotated out", lambda spec: spec["jwtRules"][0].update(jwks=stale)),
        (rules, "any tenant", lambda spec: _drop(spec, "tenant")),
        (rules, "any model", lambda spec: _drop(spec, "model")),
        (rules, "from anywhere", lambda spec: [each.update(_from_anywhere(each)) for each in spec["rules"]]),
        (rules, "without a token", lambda spec: [each.update(_without_token(each)) for each in spec["rules"]]),
        (edge, "no issuer", lambda spec: spec["jwt"]["providers"][0].pop("issuer")),
        (edge, "no audience", lambda spec: spec["jwt"]["providers"][0].pop("audiences")),
        (edge, "the key that was rotated out", lambda spec: _provider(spec)["localJWKS"].update(inline=stale)),
        (edge, "tokens from anywhere", lambda spec: _provider(spec).pop("extractFrom")),
        (edge, "no claim for the limiter", lambda spec: _provider(spec).pop("claimToHeaders")),
        (edge, "no authorization", lambda spec: spec.pop("authorization")),
        (edge, "allowed by default", lambda spec: spec["authorization"].update(defaultAction="Allow")),
        (edge, "nothing revoked", lambda spec: spec["authorization"]["rules"].pop(0)),
        (route, "any path", lambda spec: spec["rules"][0].pop("matches")),
        (route, "the limiter's header stays", lambda spec: _no_filter(spec, "RequestHeaderModifier")),
    ]


def _provider(spec: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["jwt"]["providers"][0]
    return found


def _drop(spec: Mapping[str, Any], claim: str) -> None:
    for rule in spec["rules"]:
        rule["when"] = [each for each in rule["when"] if f"[{claim}]" not in each["key"]]


def _from_anywhere(rule: Mapping[str, Any]) -> Obj:
    """Return a rule's sources without who connects."""
    return {"from": [{"source": {"requestPrincipals": each["source"]["requestPrincipals"]}} for each in rule["from"]]}


def _without_token(rule: Mapping[str, Any]) -> Obj:
    """Return a rule's sources without the token, and without what it has to say."""
    kept = [{k: v for k, v in each["source"].items() if k != "requestPrincipals"} for each in rule["from"]]
    return {"from": [{"source": each} for each in kept], "when": []}


def _no_filter(spec: Mapping[str, Any], kind: str) -> None:
    rule = spec["rules"][0]
    rule["filters"] = [each for each in rule["filters"] if each["type"] != kind]


def widened(space: str, outside: str) -> Iterator[Mutant]:
    """What is added, and reaches no further than our probe pods: as if a policy of the platform were not there.

    `space` is the bystander's namespace, `outside` that of the seats that belong to nobody.
    """
    for what, where, selector in (
        ("a tenant's namespace", space, {}),
        ("the activator", names.KNATIVE_NAMESPACE, {"app": "activator"}),
        ("the autoscaler", names.KNATIVE_NAMESPACE, {"app": "autoscaler"}),
        ("a pod of Knative's namespace", names.KNATIVE_NAMESPACE, {ROLE_LABEL: Seat.KNATIVE}),
        ("the edge", names.GATEWAY_NAMESPACE, _EDGE),
    ):
        yield Mutant(name=f"PeerAuthentication: plain text to {what}", before=None, after=_permissive(where, selector))
    for what, where, selector in (
        ("the activator", names.KNATIVE_NAMESPACE, {"app": "activator"}),
        ("a pod of Knative's namespace", names.KNATIVE_NAMESPACE, {ROLE_LABEL: Seat.KNATIVE}),
        ("the edge", names.GATEWAY_NAMESPACE, _EDGE),
    ):
        yield Mutant(
            name=f"AuthorizationPolicy: a stranger to {what}", before=None, after=_allow(where, selector, outside)
        )
    for what, where, selector in (
        ("the edge", names.GATEWAY_NAMESPACE, _EDGE),
        ("the edge's control plane", names.GATEWAY_NAMESPACE, {"control-plane": "envoy-gateway"}),
        ("the limiter", names.GATEWAY_NAMESPACE, {"app.kubernetes.io/name": "envoy-ratelimit"}),
        ("the limiter's memory", names.GATEWAY_NAMESPACE, {"app": "redis"}),
        ("the model store", names.PLATFORM_NAMESPACE, {"app": names.MODEL_STORE}),
        ("models", space, {"component": "predictor"}),
    ):
        yield Mutant(name=f"NetworkPolicy: an outsider to {what}", before=None, after=_open(where, selector, outside))


_EDGE = {names.GATEWAY_LABEL: names.EDGE}
_NAME = "verify-mutant"


def _permissive(where: str, selector: Mapping[str, str]) -> Obj:
    """Plain text is taken as well. Mutual TLS goes on for who speaks it."""
    spec = {**({"selector": {"matchLabels": dict(selector)}} if selector else {}), "mtls": {"mode": "PERMISSIVE"}}
    return _object("PeerAuthentication", where, spec)


def _allow(where: str, selector: Mapping[str, str], outside: str) -> Obj:
    rules = [{"from": [{"source": {"namespaces": [outside]}}]}]
    return _object(
        "AuthorizationPolicy", where,
        {"selector": {"matchLabels": dict(selector)}, "action": "ALLOW", "rules": rules},
    )  # fmt: skip


def _open(where: str, selector: Mapping[str, str], outside: str) -> Obj:
    peers = [in_namespace(outside)]
    to = {"matchLabels": dict(selector)}
    return policy(_NAME, where, {"podSelector": to, "policyTypes": ["Ingress"], "ingress": [{"from": peers}]})


def _object(kind: str, where: str, spec: Obj) -> Obj:
    meta = {"name": _NAME, "namespace": where}
    return {"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": meta, "spec": spec}


def of_platform(objects: Sequence[Obj]) -> Iterator[Mutant]:
    """What is taken away for everybody. `objects` are the platform's, as their components apply them."""

    def find(kind: str, name: str) -> Obj:
        return next(each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))

    yield Mutant(
        name="PeerAuthentication of the whole mesh taken away", before=find("PeerAuthentication", "default"),
        after=None, borrowed=True,
    )  # fmt: skip
    yield Mutant(
        name="SecurityPolicy of the gateway taken away", before=find("SecurityPolicy", names.EDGE), after=None,
        borrowed=True,
    )  # fmt: skip
    original = find("ClientTrafficPolicy", names.EDGE)
    changed = copy.deepcopy(original)
    del changed["spec"]["headers"]["earlyRequestHeaders"]
    yield Mutant(name="clients' identity headers are let in", before=original, after=changed, borrowed=True)
