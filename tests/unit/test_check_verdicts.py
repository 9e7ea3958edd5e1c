"""Each check can fail: its judgement is fed with what a broken platform would answer."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tasks.checks import asking, models, ready, tenants, trust, versions
from tasks.checks.versions import Pin, Running
from tasks.lib import predict
from tasks.lib.checks import Result, Verdict
from tasks.lib.engine import Planned
from tasks.lib.errors import ClusterGone, NotReady, Refused
from tasks.lib.ground import Ground
from tasks.lib.kube import wait
from tasks.lib.kube.api import ApiError, Obj, Ref
from tasks.lib.modelling import Model
from tasks.lib.predict import Reply
from tasks.lib.probepods import Attempt
from tasks.lib.tenancy import Tenant, tenant_objects
from tests import boxes
from tests.fakes import FakeKube

MODEL = Model(
    name="iris", tenant="a", format="sklearn", trainer="iris", instances=[[1.0, 2.0], [3.0, 4.0]], predictions=[1, 0]
)
QUOTA = {
    "requests.cpu": "2", "requests.memory": "4Gi", "limits.cpu": "8", "limits.memory": "8Gi", "pods": "20",
    "models": "5",
}  # fmt: skip
TENANT = Tenant(name="a", quota=QUOTA)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "POLL_S", 0.01)


def said(result: Result) -> tuple[str, str]:
    return result.verdict.value, result.says


def pod(name: str, namespace: str = "tenant-a", labels: dict[str, str] | None = None, **body: Any) -> Obj:
    meta = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, **body}


# models.answers


def right(seconds: float = 0.1) -> Reply:
    return Reply(status=200, predictions=[1, 0], elapsed_s=seconds)


def test_a_right_answer_passes_with_its_times() -> None:
    found = models.answered(MODEL, {"v1": right(0.12), "v2": right(0.34)})
    assert said(found) == ("passed", "[1, 0]: v1 in 0.12 s, v2 in 0.34 s")
    assert found.measured == {"v1_s": 0.12, "v2_s": 0.34}


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(status=200, predictions=[1, 1]), "v2: [1, 1] instead of [1, 0]"),
        (Reply(status=200, predictions=[1]), "v2: [1] instead of [1, 0]"),
        (Reply(status=404, obstacle="iris: HTTP 404"), "v2: iris: HTTP 404"),
        (Reply(status=503, obstacle="iris: HTTP 503 no healthy upstream"), "v2: iris: HTTP 503 no healthy upstream"),
        (Reply(obstacle="iris: no answer"), "v2: iris: no answer"),
        (
            Reply(status=200, obstacle="iris: the answer is not a prediction"),
            "v2: iris: the answer is not a prediction",
        ),
    ],
)
def test_any_other_answer_fails(reply: Reply, why: str) -> None:
    found = models.answered(MODEL, {"v1": right(), "v2": reply})
    assert said(found) == ("failed", "no right answer by v2")
    assert found.evidence == why


def test_no_answer_at_all_fails() -> None:
    assert models.answered(MODEL, {}).verdict is Verdict.FAILED


def test_without_an_example_there_is_nothing_to_ask() -> None:
    bare = Model(name="iris", tenant="a", format="sklearn", trainer="iris")
    for check in models.checks([bare]):
        assert check.probe(boxes.scene()).verdict is Verdict.SKIPPED
    for check in models.checks([]):
        assert said(check.probe(boxes.scene())) == ("skipped", "there is no model")


# models.answers-inside


def answer(body: object, status: int = 200, number: int = 1) -> dict[str, Attempt]:
    text = body if isinstance(body, str) else json.dumps(body)
    return {"way": Attempt(round=number, way="way", connect="connected", status=status, body=text)}


GOOD = answer({"predictions": [1, 0]})


@pytest.mark.parametrize(
    ("rounds", "why"),
    [
        ([GOOD], "a pod: has not asked often enough yet"),
        ([GOOD, answer({"predictions": [0, 0]})], "a pod: way: [0, 0] instead of [1, 0]"),
        ([answer({"predictions": [0, 0]}), GOOD], "a pod: way: [0, 0] instead of [1, 0]"),
        ([GOOD, answer("not found", 404)], "a pod: way: connected, HTTP 404 not found"),
        ([GOOD, answer("<html>")], "a pod: way: not a prediction: <html>"),
        ([GOOD, answer({"outputs": []})], 'a pod: way: not a prediction: {"outputs": []}'),
        ([GOOD, answer("[1]")], "a pod: way: not a prediction: [1]"),
        ([GOOD, {"way": Attempt(round=2, way="way", connect="timed out")}], "a pod: way: timed out"),
        (
            [GOOD, {"way": Attempt(round=2, way="way", connect="connected", error="TimeoutError: timed out")}],
            "a pod: way: connected, TimeoutError: timed out",
        ),
        ([GOOD, {}], "a pod: way: not tried"),
        ([GOOD, GOOD], ""),
    ],
)
def test_only_right_answers_in_a_row_count(rounds: Sequence[dict[str, Attempt]], why: str) -> None:
    assert asking.unanswered(rounds, ["way"], MODEL, "a pod") == why


# models.reaches-zero


class Sleeper:
    """A model that has a pod for so many looks, and answers what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, awake: int, replies: list[Reply], back: bool = True) -> None:
        self.looks, self.awake, self.back, self.replies = 0, awake, back, replies
        self.asked = 0
        monkeypatch.setattr(predict, "ask", self.ask)
        monkeypatch.setattr(asking, "pods", self.pods)

    def ask(self, *_: object, **__: object) -> Reply:
        self.asked += 1
        if self.asked > 1:
            self.awake = self.looks + 1 if self.back else 0
        return self.replies.pop(0)

    def pods(self, *_: object) -> list[Obj]:
        self.looks += 1
        return [pod("iris-1")] if self.looks <= self.awake else []

    def judge(self, model: Model = MODEL, seconds: float = 5) -> Result:
        check = next(each for each in models.checks([model]) if each.id == models.ZERO)
        return check.probe(boxes.scene(seconds=seconds))


def test_to_zero_and_back_passes_with_both_times(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Sleeper(monkeypatch, awake=4, replies=[right(), right(6.6)]).judge()
    assert said(found) == ("passed", "zero 0 s after the last request; the first answer then took 6.6 s")
    assert found.measured["cold_answer_s"] == 6.6
    assert found.measured["to_zero_s"] >= 0


def test_a_model_that_stays_up_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Sleeper(monkeypatch, awake=10**6, replies=[right()]).judge(seconds=0.1)
    assert said(found) == ("failed", "0 s after the last request it is not at zero")
    assert found.evidence == "up: iris-1"


def test_a_model_that_does_not_come_back_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Reply(status=503, obstacle="iris: HTTP 503")
    found = Sleeper(monkeypatch, awake=2, replies=[right(), dead]).judge()
    assert said(found) == ("failed", "at zero after 0 s, but it did not come back")
    assert found.evidence == "iris: HTTP 503"
    wrong = Reply(status=200, predictions=[0, 0])
    assert Sleeper(monkeypatch, awake=2, replies=[right(), wrong]).judge().verdict is Verdict.FAILED


def test_an_answer_without_a_pod_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Sleeper(monkeypatch, awake=2, replies=[right(), right()], back=False).judge()
    assert said(found) == ("failed", "it answered at zero pods: something else answers for it")


def test_a_model_that_was_never_seen_awake_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Sleeper(monkeypatch, awake=0, replies=[right()]).judge()
    assert found.verdict is Verdict.FAILED
    assert "has no pod" in found.says
    dead = Reply(obstacle="iris: no answer")
    assert "does not answer" in Sleeper(monkeypatch, awake=1, replies=[dead]).judge().says


def test_a_model_that_is_to_stay_up_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Model(
        name="iris", tenant="a", format="sklearn", trainer="x", min_replicas=1, instances=[[1.0]], predictions=[1]
    )  # fmt: skip
    found = Sleeper(monkeypatch, awake=1, replies=[]).judge(kept)
    assert said(found) == ("skipped", "it is configured to keep at least 1 pods")


def test_whoever_asks_the_model_is_done_before_it_is_left_alone() -> None:
    zero = next(each for each in models.checks([MODEL]) if each.id == models.ZERO)
    assert set(zero.after) == {"models.answers", "models.answers-inside", "network.tenants-apart", *models.LAST}
    tables = trust.checks(Ground(), [], [MODEL], mutate=True)
    scratch = {trust.REVOCATION, "trust.limits", "trust.adversarial"}  # they ask scratch tenants alone
    assert {each.id for each in tables} - scratch <= set(models.LAST)


# tenants.quota


def exceeded(asked: str) -> Refused:
    message = (
        f'pods "verify-quota" is forbidden: exceeded quota: tenant, requested: {asked}, used: requests.cpu=100m, '
        "limited: requests.cpu=2"
    )
    return ApiError("dry run of a pod: ", status=403, reason="Forbidden", message=message)


def all_refused() -> dict[str, Refused | None]:
    return {key: exceeded(f"limits.cpu=9,{key}=9") for key in ("requests.cpu", "requests.memory", "limits.memory")}


def test_a_quota_that_refuses_passes() -> None:
    found = tenants.refused(None, all_refused())
    assert said(found) == (
        "passed", "refused beyond requests.cpu, requests.memory, limits.memory; a small pod is let in",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "error", "says"),
    [
        ("requests.cpu", None, "a pod beyond requests.cpu was let in"),
        ("requests.cpu", exceeded("pods=1"), "something was refused, but not by the quota it exceeds"),
        # only its use is named, not that it was asked for too much of it
        ("requests.cpu", exceeded("limits.cpu=9"), "something was refused, but not by the quota it exceeds"),
        (
            "requests.memory", ApiError("no", status=403, message="forbidden by a webhook: requests.memory"),
            "something was refused, but not by the quota it exceeds",
        ),
        (
            "requests.memory",
            ApiError("no", status=500, message="exceeded quota: x, requested: requests.memory=9, used: "),
            "something was refused, but not by the quota it exceeds",
        ),
    ],
)  # fmt: skip
def test_a_quota_that_lets_through_or_another_refusal_fails(key: str, error: Refused | None, says: str) -> None:
    found = tenants.refused(None, {**all_refused(), key: error})
    assert said(found) == ("failed", says)


def test_a_small_pod_that_is_refused_shows_nothing() -> None:
    assert tenants.refused(exceeded("pods=1"), all_refused()).verdict is Verdict.SKIPPED
    other = ApiError("no", status=403, message="violates PodSecurity")
    assert said(tenants.refused(other, all_refused())) == ("failed", "a small pod was refused")
    assert tenants.refused(None, {}).verdict is Verdict.FAILED


class QuotaKube(FakeKube):
    """Admits pods as a quota does, in a dry run."""

    hard: ClassVar = {
        "requests.cpu": 2.0,
        "requests.memory": 4.0 * 2**30,
        "limits.cpu": 8.0,
        "limits.memory": 8.0 * 2**30,
    }
    blind: tuple[str, ...] = ()

    def raw(self, method: str, path: str, body: Obj | None = None, **_: object) -> Any:
        assert (method, path) == ("POST", "/api/v1/namespaces/tenant-a/pods?dryRun=All")
        assert body
        resources = body["spec"]["containers"][0]["resources"]
        sizes = {"1m": 0.001, "1Mi": float(2**20)}
        asked = {
            f"{side}.{name}": sizes.get(value) or float(value)
            for side, amounts in resources.items()
            for name, value in amounts.items()
        }
        assert all(asked[f"requests.{name}"] <= asked[f"limits.{name}"] for name in ("cpu", "memory")), "not a pod"
        over = [key for key, value in asked.items() if value > self.hard[key] and key not in self.blind]
        if over:
            raise exceeded(",".join(f"{key}={asked[key]:g}" for key in over))
        return body


def quota_check(kube: FakeKube) -> Result:
    (check,) = (each for each in tenants.checks([TENANT]) if each.id == tenants.QUOTA)
    return check.probe(boxes.scene(kube))


def test_the_quota_is_asked_in_a_dry_run_once_for_each_resource() -> None:
    assert said(quota_check(QuotaKube())) == (
        "passed",
        "refused beyond requests.cpu, requests.memory, limits.cpu, limits.memory; a small pod is let in",
    )


@pytest.mark.parametrize("key", sorted(QuotaKube.hard))
def test_a_quota_without_one_of_its_resources_is_seen(key: str) -> None:
    kube = QuotaKube()
    kube.blind = (key,)
    assert quota_check(kube).verdict is Verdict.FAILED


def test_a_cluster_that_does_not_answer_is_not_a_refusal() -> None:
    class Dead(QuotaKube):
        def raw(self, method: str, path: str, body: Obj | None = None, **_: object) -> Any:
            raise ClusterGone("gone")

    with pytest.raises(ClusterGone):
        quota_check(Dead())


# tenants.default-deny


def policies(**more: Obj) -> list[Obj]:
    own = [each for each in tenant_objects(TENANT) if each["kind"] == "NetworkPolicy"]
    return [*own, *({"metadata": {"name": name}, "spec": spec} for name, spec in more.items())]


def test_the_policies_that_tenants_get_pass() -> None:
    assert said(tenants.denies(policies())) == ("passed", "5 policies")


@pytest.mark.parametrize(
    ("name", "spec", "why"),
    [
        ("all", {"podSelector": {}, "ingress": [{}]}, "all lets everyone in"),
        ("all", {"podSelector": {}, "egress": [{"to": []}]}, "all lets everywhere out"),
        ("port", {"podSelector": {}, "ingress": [{"ports": [{"port": 8080}]}]}, "port lets everyone in"),
        (
            "net",
            {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]},
            "net lets everyone in",
        ),
        ("six", {"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "::/0"}}]}]}, "six lets everywhere out"),
        ("ns", {"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}, "ns lets everyone in"),
    ],
)
def test_a_policy_that_undoes_the_denial_fails(name: str, spec: Obj, why: str) -> None:
    found = tenants.denies(policies(**{name: spec}))
    assert said(found) == ("failed", "a policy allows what default-deny is for")
    assert found.evidence == why


@pytest.mark.parametrize(
    "spec",
    [
        {"podSelector": {}, "policyTypes": ["Ingress"]},
        {"podSelector": {}, "policyTypes": ["Egress"]},
        {"podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Ingress", "Egress"]},
        {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [{"podSelector": {}}]}]},
    ],
)
def test_a_tenant_without_a_whole_denial_fails(spec: Obj) -> None:
    found = tenants.denies([{"metadata": {"name": "default-deny"}, "spec": spec}])
    assert said(found) == ("failed", "no policy denies all traffic of all its pods, in and out")
    assert tenants.denies([]).evidence == "policies: none"


def test_the_live_policies_are_judged() -> None:
    kube = FakeKube({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant-a"}}, *policies())
    (check,) = (each for each in tenants.checks([TENANT]) if each.id == tenants.DENY)
    assert check.probe(boxes.scene(kube)).verdict is Verdict.PASSED
    kube.delete(Ref("networking.k8s.io/v1", "NetworkPolicy", "tenant-a", "default-deny"))
    assert check.probe(boxes.scene(kube)).verdict is Verdict.FAILED


def test_without_tenants_there_is_nothing_to_ask() -> None:
    assert [said(each.probe(boxes.scene())) for each in tenants.checks([])] == [("skipped", "there is no tenant")] * 2


# *.ready


@pytest.mark.parametrize(
    ("look", "verdict", "says"),
    [
        (Planned(name="x", action="skip"), "passed", ""),
        (Planned(name="x", action="repair", reason="0 of 1 available"), "failed", "0 of 1 available"),
        (Planned(name="x", action="apply", reason="changed", changes=["change Secret y"]), "failed", "changed"),
        (Planned(name="x", action="blocked", reason="needs mesh"), "failed", "needs mesh"),
        (None, "failed", "nothing looked at it"),
    ],
)
def test_a_component_is_ready_when_its_look_says_so(look: Planned | None, verdict: str, says: str) -> None:
    found = ready._ready("x", boxes.scene(looks={"x": look} if look else {}))
    assert said(found) == (verdict, says)
    assert found.evidence == ("change Secret y" if look and look.changes else "")


# versions.locked

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
PINS = {
    "docker.io/istio/pilot": Pin(name="istio-pilot", version="1.26.2", digest=ONE),
    "quay.io/jetstack/webhook": Pin(name="webhook", version="v1"),
}


def container(image: str, digest: str = ONE) -> Running:
    return Running(place="istio-system/istiod/discovery", image=image, digest=digest)


def test_locked_containers_pass_and_what_is_not_locked_is_counted() -> None:
    given = ["istio/pilot:1.26.2", f"docker.io/istio/pilot@{ONE}", "quay.io/jetstack/webhook:v1"]
    found = versions.judge([container(each) for each in given], PINS, elsewhere=7)
    assert said(found) == ("passed", "2 containers run what is locked, 1 cannot be held against it")
    assert found.evidence == "1 not locked: webhook\n7 in other namespaces are the cluster's own"
    assert found.measured == {"same": 2, "not_comparable": 1, "elsewhere": 7}
    assert said(versions.judge([container("istio/pilot:1.26.2")], PINS, word="built here")) == (
        "passed", "1 containers run what is built here",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("running", "why"),
    [
        (container("istio/pilot:1.26.2", TWO), f"istio-pilot runs {TWO} instead of {ONE}"),
        (container("istio/pilot:1.26.3"), "istio-pilot runs 1.26.3 instead of 1.26.2"),
        (container("istio/pilot:1.26.3", ""), "istio-pilot runs 1.26.3 instead of 1.26.2"),
        (container("quay.io/jetstack/webhook:v2", TWO), "webhook runs v2 instead of v1"),
        (container("docker.io/evil/miner:1"), "docker.io/evil/miner:1 is not in config/versions.yaml"),
        (
            container("other.example/istio/pilot:1.26.2"),
            "other.example/istio/pilot:1.26.2 is not in config/versions.yaml",
        ),
    ],
)
def test_another_image_tag_or_digest_fails(running: Running, why: str) -> None:
    found = versions.judge([container("istio/pilot:1.26.2"), running], PINS)
    assert said(found) == ("failed", "1 of 2 containers run something else")
    assert found.evidence == f"{running.place}: {why}"


def test_nothing_locked_is_skipped_and_never_passed() -> None:
    found = versions.judge([container("quay.io/jetstack/webhook:v1"), container("istio/pilot:1.26.2", "")], PINS)
    assert said(found) == ("skipped", "none of 2 containers can be held against what is locked")
    assert found.evidence == "1 not locked: webhook\n1 of which the node says no digest: istio-pilot"
    assert versions.judge([], PINS).verdict is Verdict.SKIPPED


def test_every_container_that_runs_is_read_from_the_status() -> None:
    spec = {
        "initContainers": [{"name": "init", "image": "a/init:1"}],
        "containers": [{"name": "app", "image": "a/app:1"}, {"name": "new", "image": "a/new:1"}],
    }
    status = {
        "phase": "Running",
        "initContainerStatuses": [{"name": "init", "image": "sha256:x", "imageID": f"docker.io/a/init@{ONE}"}],
        "containerStatuses": [
            {"name": "app", "image": "docker.io/a/app:1", "imageID": "sha256:4444"},
            {"name": "new", "image": "docker.io/a/new:1", "imageID": ""},
        ],
    }
    over = {"phase": "Succeeded", "containerStatuses": status["containerStatuses"]}
    found = list(versions.running([pod("p", spec=spec, status=status), pod("job", spec=spec, status=over)]))
    assert found == [
        Running(place="tenant-a/p/init", image="a/init:1", digest=ONE),
        Running(place="tenant-a/p/app", image="a/app:1", digest=""),
    ]


def test_pins_are_of_the_lock_or_of_what_was_built_here(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    lock = f"schema: 1\nentries:\n  images.istio-pilot: {{of: x, digest: '{ONE}'}}\n"
    (tmp_path / "config/versions.lock.yaml").write_text(lock)
    box = boxes.box(root=tmp_path)
    locked = versions.pins(box)
    assert locked["docker.io/istio/pilot"].digest == ONE
    assert locked["docker.io/istio/proxyv2"].digest == ""
    assert locked["gcr.io/knative-releases/knative.dev/serving/cmd/queue"].digest.startswith("sha256:55e7")

    class Builds:
        def digests(self) -> dict[str, str]:
            return {"istio-proxy": TWO}

    built = versions.pins(boxes.box(root=tmp_path, source=Builds()))
    assert built["docker.io/istio/pilot"].digest == ""
    assert built["docker.io/istio/proxyv2"].digest == TWO
    assert built["gcr.io/knative-releases/knative.dev/serving/cmd/queue"].digest == ""


def test_a_stranger_in_a_tenants_namespace_is_found_and_one_elsewhere_is_not_ours() -> None:
    def running(namespace: str) -> Obj:
        status = {"phase": "Running", "containerStatuses": [{"name": "c", "imageID": f"docker.io/evil/miner@{ONE}"}]}
        return pod("miner", namespace, spec={"containers": [{"name": "c", "image": "evil/miner:1"}]}, status=status)

    def judge(namespace: str) -> Result:
        kube = FakeKube({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, running(namespace))
        (check,) = versions.checks([TENANT])
        return check.probe(boxes.scene(kube))

    assert judge("tenant-a").evidence == "tenant-a/miner/c: evil/miner:1 is not in config/versions.yaml"
    assert judge("kube-system").verdict is Verdict.SKIPPED


def test_an_error_while_asking_is_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> Reply:
        raise NotReady("the gateway has no address")

    monkeypatch.setattr(predict, "ask", gone)
    begun = time.monotonic()
    with pytest.raises(NotReady):
        models.checks([MODEL])[0].probe(boxes.scene())
    assert time.monotonic() - begun < 1
