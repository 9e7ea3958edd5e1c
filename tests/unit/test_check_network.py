"""The checks of the network, on a cluster whose network does what its policies say, or does not.

The network is a fake; everything else is the real thing: the pods are made, their logs are read, policies come and go.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tasks.checks import asking, network
from tasks.lib import names, netpolicies, predict, probepods, scratch
from tasks.lib.checks import Check, Result, Verdict
from tasks.lib.errors import BoxError, NotReady, Refused
from tasks.lib.kube import wait
from tasks.lib.kube.api import ApiError, Obj, Ref
from tasks.lib.modelling import Model
from tasks.lib.predict import Reply
from tasks.lib.probepods import Attempt, closed, parse, reaches
from tasks.lib.tenancy import Tenant, tenant_objects
from tests import boxes
from tests.fakes import FakeKube

MODEL = Model(name="iris", tenant="a", format="sklearn", trainer="iris", instances=[[1.0]], predictions=[1])
QUOTA = dict.fromkeys(("requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "pods", "models"), "1")
TENANTS = [Tenant(name=name, quota=QUOTA) for name in ("a", "b", "c")]
MODEL_IP = "10.9.9.9"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "POLL_S", 0.001)
    monkeypatch.setattr(network, "SPREAD_S", 0.15)
    monkeypatch.setattr(probepods, "START_S", 0.15)
    monkeypatch.setattr(scratch, "GONE_S", 1.0)
    monkeypatch.setattr(predict, "ask", lambda *_, **__: Reply(status=200, predictions=[1]))
    monkeypatch.setattr(predict, "mint", lambda *_: "a.b.c")


def of(kind: str, name: str, namespace: str | None = None, labels: Mapping[str, str] | None = None, **body: Any) -> Obj:
    meta: Obj = {"name": name, "labels": dict(labels or {}), **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, **body}


class Network(FakeKube):
    """A cluster with two tenants and a model. Each look at a probe pod's log adds a round, as the policies are then."""

    enforces: tuple[str, ...] = ("Ingress", "Egress")
    word = "timed out"
    dead: tuple[str, ...] = ()
    """Names of ways that lead nowhere, for everyone."""
    answer: Mapping[str, Any] = {"predictions": [1]}
    leaks = 0
    """How many rounds a new pod has before the network knows it."""
    starts = True

    def __init__(self) -> None:
        ready = {"phase": "Running", "podIP": MODEL_IP, "conditions": [{"type": "Ready", "status": "True"}]}
        space = "kubernetes.io/metadata.name"
        given = [of("Namespace", name) for name in (names.PLATFORM_NAMESPACE, names.ISTIO_NAMESPACE)]
        for tenant in TENANTS:
            given += [each for each in tenant_objects(tenant) if each["kind"] in {"Namespace", "NetworkPolicy"}]
        self.logs: dict[str, list[str]] = {}
        self.attempts: list[tuple[str, int, str, str]] = []
        super().__init__(*given, of("Pod", "iris-1", "tenant-a", asking.pod_labels(MODEL), status=ready))
        for key, each in self.store.items():
            if key.kind == "Namespace":
                each["metadata"]["labels"][space] = key.name
        self.made: list[str] = []

    def create(self, obj: Obj) -> Obj:
        made = super().create(obj)
        if obj["kind"] == "Namespace":
            self.store[Ref.of(obj).key]["metadata"]["labels"]["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
        if obj["kind"] == "Pod" and "status" not in obj:
            self.made.append(obj["metadata"]["name"])
            phase = {"phase": "Running"} if self.starts else {"phase": "Pending"}
            self.report(Ref.of(obj), podIP=f"10.0.0.{len(self.made)}", **phase)
        return made

    def raw(self, method: str, path: str, body: Obj | None = None, **_: object) -> Any:
        parts = path.split("/")
        assert (method, parts[5], parts[7].partition("?")[0]) == ("GET", "pods", "log")
        caller = self.store[Ref("v1", "Pod", parts[4], parts[6]).key]
        lines = self.logs.setdefault(parts[6], [])
        order = ordered(self, caller)
        number = int(json.loads(lines[-1])["round"]) + 1 if lines else 1
        for way in order["ways"]:
            lines.append(json.dumps({"round": number, **self._try(caller, way, number)}))
        return "\n".join(lines)

    def _try(self, caller: Obj, way: Mapping[str, Any], number: int) -> Mapping[str, Any]:
        if way["name"] in self.dead:
            return {"way": way["name"], "connect": "timed out"}
        target = self._target(way["host"])
        through = number <= self.leaks or (
            self._lets(caller, target, way["port"], "Egress") and self._lets(target, caller, way["port"], "Ingress")
        )
        if not through:
            return {"way": way["name"], "connect": self.word}
        answered = {"status": 200, "body": json.dumps(self.answer)} if way["path"] else {}
        return {"way": way["name"], "connect": "connected", **answered}

    def _target(self, host: str) -> Obj:
        if host.endswith("cluster.local"):
            return of("Pod", "gateway", names.ISTIO_NAMESPACE)
        pods = [each for key, each in self.store.items() if key.kind == "Pod"]
        return next(each for each in pods if each["status"].get("podIP") == host)

    def _lets(self, pod: Obj, other: Obj, port: int, direction: str) -> bool:
        side, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
        mine = [
            each["spec"] for key, each in self.store.items()
            if key.kind == "NetworkPolicy" and key.namespace == pod["metadata"].get("namespace")
            and direction in each["spec"]["policyTypes"] and selects(each["spec"]["podSelector"], pod)
        ]  # fmt: skip
        if not mine or direction not in self.enforces:
            return True
        return any(
            (not rule.get("ports") or port in [each["port"] for each in rule["ports"]])
            and any(self._is(peer, other, pod) for peer in rule[peers])
            for spec in mine
            for rule in spec.get(side) or []
        )

    def _is(self, peer: Obj, other: Obj, pod: Obj) -> bool:
        where = other["metadata"]["namespace"]
        if "namespaceSelector" in peer:
            space = self.store[Ref("v1", "Namespace", None, where).key]
            if not selects(peer["namespaceSelector"], space):
                return False
        elif where != pod["metadata"]["namespace"]:
            return False
        return selects(peer.get("podSelector") or {}, other)


def ordered(kube: FakeKube, pod: Obj) -> Any:
    """Read the order of a probe pod, as it finds it in its volume."""
    (volume,) = pod["spec"]["volumes"]
    name = volume["secret"]["secretName"]
    secret = kube.store[Ref("v1", "Secret", pod["metadata"]["namespace"], name).key]
    return json.loads(base64.b64decode(secret["data"]["order.json"]))


def selects(selector: Obj, thing: Obj) -> bool:
    labels = thing["metadata"].get("labels") or {}
    wanted = (selector.get("matchLabels") or {}).items()
    return all(labels.get(key) == value for key, value in wanted) and all(
        each["key"] in labels for each in selector.get("matchExpressions") or []
    )


def checks(kube: Network, check_id: str) -> Result:
    """Make a check, and see that it leaves the cluster as it was."""
    before = {key: each["metadata"]["uid"] for key, each in kube.store.items()}
    (check,) = (each for each in network.checks(TENANTS, [MODEL]) if each.id == check_id)
    try:
        return check.probe(boxes.scene(kube, seconds=20))
    finally:
        assert {key: each["metadata"]["uid"] for key, each in kube.store.items()} == before


# network.enforced


@pytest.mark.parametrize("word", ["timed out", "refused", "unreachable"])
def test_a_network_that_enforces_passes(word: str) -> None:
    kube = Network()
    kube.word = word
    found = checks(kube, network.ENFORCED)
    assert (found.verdict, found.says) == (
        Verdict.PASSED, f"blocked ({word}) while the control got through; connected again without the policy",
    )  # fmt: skip


def test_a_network_that_takes_policies_and_does_nothing_fails() -> None:
    kube = Network()
    kube.enforces = ()
    found = checks(kube, network.ENFORCED)
    assert found.verdict is Verdict.FAILED
    assert "after a policy that lets only the control in, it was not so" in found.says
    assert found.evidence.splitlines()[0] == "caller: listener: connected"


def test_pods_that_never_reach_each_other_prove_nothing() -> None:
    kube = Network()
    kube.dead = ("listener",)
    found = checks(kube, network.ENFORCED)
    assert (found.verdict, found.evidence) == (Verdict.FAILED, "caller: listener: timed out")
    assert "proves nothing" in found.says


def test_a_policy_that_cuts_the_control_too_is_not_enforcement() -> None:
    class Cut(Network):
        def _is(self, peer: Obj, other: Obj, pod: Obj) -> bool:
            return False

    found = checks(Cut(), network.ENFORCED)
    assert found.verdict is Verdict.FAILED
    assert found.evidence.splitlines()[0] == "control: listener: timed out"


def test_a_denial_that_outlives_its_policy_fails() -> None:
    class Sticky(Network):
        denied: Obj | None = None

        def delete(self, ref: Ref, propagation: str = "Background", uid: str | None = None) -> bool:
            if ref.name == "verify-deny":
                Sticky.denied = self.store[ref.key]
            return super().delete(ref, propagation, uid)

        def _lets(self, pod: Obj, other: Obj, port: int, direction: str) -> bool:
            if self.denied and direction == "Ingress" and selects(self.denied["spec"]["podSelector"], pod):
                return False
            return super()._lets(pod, other, port, direction)

    found = checks(Sticky(), network.ENFORCED)
    assert found.verdict is Verdict.FAILED
    assert "it still had its effect" in found.says


def test_a_word_that_is_no_block_is_not_taken_for_one() -> None:
    kube = Network()
    kube.word = "no such name: Temporary failure"
    found = checks(kube, network.ENFORCED)
    assert found.verdict is Verdict.FAILED
    assert found.evidence.splitlines()[0] == "caller: listener: no such name: Temporary failure"


def test_pods_that_do_not_start_are_an_error_and_leave_nothing() -> None:
    kube = Network()
    kube.starts = False
    with pytest.raises(NotReady, match="does not run: phase Pending"):
        checks(kube, network.ENFORCED)


# network.tenants-apart


def test_tenants_that_are_kept_apart_pass() -> None:
    found = checks(Network(), network.APART)
    assert (found.verdict, found.says) == (
        Verdict.PASSED, "shut out (timed out) on 4 ways, and by either side alone; connected when both allowed it",
    )  # fmt: skip


def test_what_got_through_before_the_network_knew_the_pod_is_told() -> None:
    kube = Network()
    kube.leaks = 3
    found = checks(kube, network.APART)
    assert found.verdict is Verdict.PASSED
    assert found.measured == {"connected_at_first": 3}
    assert "got through 3 times before the network knew its pod" in found.says


def drop(namespace: str, *policies: str) -> Callable[[Network], None]:
    def change(kube: Network) -> None:
        for name in policies:
            del kube.store[Ref("networking.k8s.io/v1", "NetworkPolicy", namespace, name).key]

    return change


def put(**values: Any) -> Callable[[Network], None]:
    def change(kube: Network) -> None:
        for name, value in values.items():
            setattr(kube, name, value)

    return change


def allow(namespace: str, spec: Obj) -> Callable[[Network], None]:
    return lambda kube: void(kube.create(netpolicies.policy("extra", namespace, spec)))


def void(_: object) -> None:
    """Take what a test does not need."""


@pytest.mark.parametrize(
    ("change", "says", "evidence"),
    [
        (put(enforces=()), "a pod of tenant b was not shut out, for 0 s", "caller: queue-proxy: connected"),
        (
            put(enforces=("Egress",)), "the policies of tenant a alone did not shut it out",
            "caller: queue-proxy: connected",
        ),
        (put(enforces=("Ingress",)), "a pod of tenant b was not shut out", "caller: cluster-local URL: connected"),
        (
            drop("tenant-a", "default-deny", "allow-knative"), "the policies of tenant a alone did not shut it out",
            "caller: queue-proxy: connected",
        ),
        (
            drop("tenant-b", "default-deny", "allow-dns", "allow-mesh", "allow-model-store"),
            "a pod of tenant b was not shut out", "caller: cluster-local URL: connected",
        ),
        (
            allow("tenant-a", {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [
                {"namespaceSelector": {}}]}]}),
            "the policies of tenant a alone did not shut it out", "caller: queue-proxy: connected",
        ),
        (
            put(dead=("queue-proxy",)), "with both sides' policies taken away it did not get through",
            "caller: queue-proxy: timed out",
        ),
        (
            put(dead=("cluster-local URL",)), "a pod of tenant b was not shut out",
            "control: cluster-local URL: timed out",
        ),
        (
            put(answer={"predictions": [0]}), "a pod of tenant b was not shut out",
            "control: cluster-local URL: [0] instead of [1]",
        ),
        (
            put(word="no such name: x"), "a pod of tenant b was not shut out", "caller: queue-proxy: no such name: x",
        ),
    ],
)  # fmt: skip
def test_anything_less_fails(change: Callable[[Network], None], says: str, evidence: str) -> None:
    kube = Network()
    change(kube)
    found = checks(kube, network.APART)
    assert found.verdict is Verdict.FAILED
    assert found.says.startswith(says)
    assert found.evidence.splitlines()[0].startswith(evidence)


def test_a_models_pod_that_goes_away_makes_the_look_worthless() -> None:
    kube = Network()
    looks = iter(range(1000))

    def before(verb: str, what: str) -> None:
        if verb == "create" and "verify-allow-in" in what and next(looks) == 0:
            kube.store[Ref("v1", "Pod", "tenant-a", "iris-1").key]["metadata"]["deletionTimestamp"] = "now"

    kube.before = before
    found = checks(kube, network.APART)
    assert found.verdict is Verdict.FAILED
    assert "the model's pod iris-1 went away meanwhile" in found.evidence


def test_a_model_that_does_not_answer_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "ask", lambda *_, **__: Reply(status=503, obstacle="iris: HTTP 503"))
    found = checks(Network(), network.APART)
    assert found.verdict is Verdict.FAILED
    assert "proves nothing: iris: HTTP 503" in found.says


def test_the_allowances_reach_from_the_probe_pod_to_the_model_and_no_further() -> None:
    kube = Network()
    seen: list[Obj] = []
    create = kube.create

    def watch(obj: Obj) -> Obj:
        seen.append(obj)
        return create(obj)

    kube.create = watch  # type: ignore[method-assign]
    checks(kube, network.APART)
    policies = {each["metadata"]["name"]: each["spec"] for each in seen if each["kind"] == "NetworkPolicy"}
    caller = {"podSelector": {"matchLabels": {"verify-role": "caller"}}}
    model = {"podSelector": {"matchLabels": {"serving.kserve.io/inferenceservice": "iris"}}}
    ports = [{"protocol": "TCP", "port": 8012}, {"protocol": "TCP", "port": 8080}]
    space = "kubernetes.io/metadata.name"
    assert policies == {
        "verify-allow-out-a-iris": {
            **caller, "policyTypes": ["Egress"],
            "egress": [{"to": [{"namespaceSelector": {"matchLabels": {space: "tenant-a"}}, **model}], "ports": ports}],
        },
        "verify-allow-in-iris": {
            **model, "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"namespaceSelector": {"matchLabels": {space: "tenant-b"}}, **caller}], "ports": ports}
            ],
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tenants", "models", "why"),
    [(TENANTS, [], "there is no model"), (TENANTS[:1], [MODEL], "there is only one tenant")],
)
def test_without_two_sides_there_is_nothing_to_show(tenants: list[Tenant], models: list[Model], why: str) -> None:
    found: list[Check] = [each for each in network.checks(tenants, models) if each.id == network.APART]
    assert [each.probe(boxes.scene()).says for each in found] == [why]
    assert [each.probe(boxes.scene()).verdict for each in found] == [Verdict.SKIPPED]


def test_without_an_example_there_is_no_control() -> None:
    bare = Model(name="iris", tenant="a", format="sklearn", trainer="iris")
    (apart,) = (each for each in network.checks(TENANTS, [bare]) if each.id == network.APART)
    assert apart.probe(boxes.scene(Network())).verdict is Verdict.SKIPPED


def test_enforcement_has_to_be_proven_first() -> None:
    (apart,) = (each for each in network.checks(TENANTS, [MODEL]) if each.id == network.APART)
    assert network.ENFORCED in apart.needs


# what is read from the pods


def attempt(number: int, connect: str, way: str = "w") -> dict[str, Attempt]:
    return {way: Attempt(round=number, way=way, connect=connect)}


@pytest.mark.parametrize(
    ("words", "connects", "is_closed"),
    [
        ([], False, False),
        (["connected"], False, False),
        (["timed out"], False, False),
        (["timed out", "connected"], False, False),
        (["connected", "timed out"], False, False),
        (["connected", "connected"], True, False),
        (["connected", "timed out", "timed out"], False, True),
        (["timed out", "refused"], False, True),
        (["timed out", "no such name: x"], False, False),
        (["timed out", "error: too many files"], False, False),
    ],
)
def test_only_the_newest_rounds_in_a_row_count(words: list[str], connects: bool, is_closed: bool) -> None:
    rounds = [attempt(number, word) for number, word in enumerate(words)]
    assert (not reaches(rounds, ["w"], "x"), not closed(rounds, ["w"], "x")) == (connects, is_closed)
    assert reaches(rounds, ["w", "other"], "x")
    assert closed(rounds, ["w", "other"], "x")


def test_a_log_is_read_in_whole_rounds() -> None:
    def line(number: int, way: str) -> str:
        return json.dumps({"round": number, "way": way, "connect": "connected", "elapsed_s": 0.1})

    lines = [line(3, "b"), "Traceback: no", line(4, "a"), line(4, "b"), '{"x": 1}', "5", line(5, "b"), line(5, "a")]
    found = parse("\n".join([*lines, line(6, "a")]))
    assert [sorted(each) for each in found] == [["a", "b"], ["a", "b"]]
    assert [next(iter(each.values())).round for each in found] == [4, 5]
    assert [next(iter(each.values())).round for each in parse("\n".join(lines), 4)] == [5]
    assert parse("") == []


def test_rounds_that_may_have_begun_before_do_not_count() -> None:
    kube = Network()
    space = of("Namespace", "verify-network")
    kube.create(space)
    scene = boxes.scene(kube)
    with scratch.Scratch(kube, "x", scene.box.cancel) as made:
        order = probepods.call([probepods.Way(name="w", host=MODEL_IP, port=1)])
        pod = probepods.start(scene, made, "verify-network", "caller", order)
        assert pod.mark() == 3
        assert pod.mark() == 4
        assert [next(iter(each.values())).round for each in pod.rounds(2)] == [3]


def test_a_probe_pod_meets_the_restricted_standard_and_fits_a_quota() -> None:
    made = probepods.pod(boxes.scene(), "tenant-b", "caller")
    spec = made["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert spec["automountServiceAccountToken"] is False
    assert container["command"][:2] == ["python", "-c"]
    assert set(container["resources"]) == {"requests", "limits"}


def test_a_pod_waits_for_the_service_account_of_a_new_namespace() -> None:
    kube = Network()
    kube.create(of("Namespace", "verify-network"))
    refusals = [
        ApiError("no", status=403, message='error looking up service account: serviceaccount "default" not found')
    ]

    def before(verb: str, what: str) -> None:
        if verb == "create" and what.startswith("Pod") and refusals:
            raise refusals.pop()

    kube.before = before
    scene = boxes.scene(kube)
    with scratch.Scratch(kube, "x", scene.box.cancel) as made:
        pod = probepods.start(scene, made, "verify-network", "caller", probepods.listen(1))
        assert pod.address == "10.0.0.1"

    refusals.append(ApiError("exceeded quota: tenant", status=403, message="exceeded quota: tenant"))
    with pytest.raises(Refused, match="exceeded quota"), scratch.Scratch(kube, "y", scene.box.cancel) as made:
        probepods.start(scene, made, "verify-network", "caller", probepods.listen(1))


def test_an_interrupt_leaves_no_allowance() -> None:
    kube = Network()
    scene = boxes.scene(kube, seconds=60)
    (check,) = (each for each in network.checks(TENANTS, [MODEL]) if each.id == network.APART)

    def before(verb: str, what: str) -> None:
        if verb == "delete" and "verify-allow" in what:
            scene.box.cancel.set()

    kube.before = before
    with pytest.raises(BoxError):
        check.probe(scene)
    left = [key.name for key in kube.store if key.kind == "NetworkPolicy" and key.name.startswith("verify")]
    assert left == []
