"""Waiting: for objects to be Current, for objects to be gone, for a behaviour."""

import threading
import time
from typing import Any

import pytest

from tasks.lib.errors import NotReady
from tasks.lib.kube import wait
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.kube.status import State
from tests.fakes import FakeKube

DEPLOYMENT = Ref("apps/v1", "Deployment", "app", "istiod")
OTHER = Ref("apps/v1", "Deployment", "app", "other")
CONFIG = Ref("v1", "ConfigMap", "app", "config")
SECRET = Ref("v1", "Secret", "app", "secret")
JOB = Ref("batch/v1", "Job", "app", "job")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "POLL_S", 0.01)


def obj(ref: Ref, **body: Any) -> Obj:
    meta: Obj = {"name": ref.name, **({"namespace": ref.namespace} if ref.namespace else {})}
    return {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": meta, **body}


def deployment(ref: Ref) -> Obj:
    return obj(ref, spec={"replicas": 1, "selector": {"matchLabels": {"app": ref.name}}})


def cluster() -> FakeKube:
    kube = FakeKube(
        obj(Ref("v1", "Namespace", None, "app")), deployment(DEPLOYMENT), deployment(OTHER), obj(CONFIG), obj(SECRET)
    )
    available(kube, OTHER)
    return kube


def available(kube: FakeKube, ref: Ref) -> None:
    kube.report(ref, observedGeneration=1, replicas=1, updatedReplicas=1, availableReplicas=1)


def pod(kube: FakeKube, **status: Any) -> None:
    ref = Ref("v1", "Pod", "app", "istiod-7c9f")
    made = obj(ref, status=status)
    made["metadata"]["labels"] = {"app": "istiod"}
    kube.create(made)


def warning(kube: FakeKube, name: str, involved: Ref, message: str, stamp: str, kind: str = "Warning") -> None:
    about = {"kind": involved.kind, "name": involved.name}
    body = {"type": kind, "reason": "Failed", "message": message, "lastTimestamp": stamp, "involvedObject": about}
    kube.create(obj(Ref("v1", "Event", "app", name), **body))


def test_it_says_what_it_waits_for_and_ends_when_all_is_current() -> None:
    kube = cluster()
    said: list[str] = []

    def hear(text: str) -> None:
        said.append(text)
        available(kube, DEPLOYMENT)

    wait.until_current(kube, [CONFIG, SECRET, DEPLOYMENT, OTHER], 60, hear)
    assert said[0] == "istiod: not seen yet by its controller"


def test_objects_of_a_kind_and_namespace_are_one_request_and_secrets_stay_unread() -> None:
    kube = cluster()
    more = [Ref("v1", "Secret", "app", f"secret-{number}") for number in range(20)]
    for ref in more:
        kube.create(obj(ref))
    kube.calls.clear()
    found = wait.states(kube, [SECRET, *more, DEPLOYMENT, OTHER])
    assert kube.count("list") == 2
    assert kube.count("get") == 0
    assert found[SECRET].state is State.CURRENT
    assert found[DEPLOYMENT].state is State.IN_PROGRESS


def test_a_timeout_names_each_object_its_pods_and_the_newest_warning() -> None:
    kube = cluster()
    kube.report(DEPLOYMENT, observedGeneration=1)
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image x"}
    pod(kube, phase="Pending", containerStatuses=[{"name": "discovery", "state": {"waiting": waiting}}])
    warning(kube, "old", DEPLOYMENT, "old news", "2024-01-01T00:00:00Z")
    warning(kube, "new", Ref("v1", "Pod", "app", "istiod-7c9f"), "pull access denied", "2024-01-02T00:00:00Z")
    warning(kube, "fine", DEPLOYMENT, "scaled up", "2024-01-03T00:00:00Z", kind="Normal")
    missing = Ref("v1", "ConfigMap", "app", "missing")

    with pytest.raises(NotReady) as caught:
        wait.until_current(kube, [DEPLOYMENT, missing, OTHER, CONFIG], 0.05, what="mesh")
    error = caught.value
    assert error.what == "mesh did not become ready in 0.05 s"
    assert error.facts == {
        "Deployment app/istiod": "InProgress: 0 of 1 available\n"
        "pod istiod-7c9f: discovery: ImagePullBackOff: Back-off pulling image x\n"
        "event Failed: pull access denied",
        "ConfigMap app/missing": "InProgress: not there",
    }
    assert error.hint == "kubectl -n app describe deployment istiod"


def test_the_pods_trouble_joins_a_lasting_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "_TROUBLE_S", 0.0)
    kube = cluster()
    kube.report(DEPLOYMENT, observedGeneration=1)
    unschedulable = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/2 nodes: memory",
    }
    pod(kube, phase="Pending", conditions=[unschedulable])
    said, cancel = list[str](), threading.Event()

    def hear(text: str) -> None:
        said.append(text)
        cancel.set()

    with pytest.raises(NotReady):
        wait.until_current(kube, [DEPLOYMENT], 60, hear, cancel)
    assert said[-1] == "istiod: 0 of 1 available; Unschedulable: 0/2 nodes: memory"


def test_a_job_that_failed_ends_the_wait_at_once() -> None:
    kube = cluster()
    kube.create(obj(JOB, spec={"selector": {"matchLabels": {"job": "job"}}}))
    kube.report(JOB, conditions=[{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}])
    begun = time.monotonic()
    with pytest.raises(NotReady, match="Job app/job failed"):
        wait.until_current(kube, [JOB, DEPLOYMENT], 60)
    assert time.monotonic() - begun < 30


def test_one_that_is_being_deleted_is_not_current() -> None:
    kube = cluster()
    kube.store[CONFIG.key]["metadata"]["finalizers"] = ["hold"]
    kube.delete(CONFIG)
    with pytest.raises(NotReady) as caught:
        wait.until_current(kube, [CONFIG], 0.02)
    assert caught.value.facts == {str(CONFIG): "Terminating: is being deleted (held by hold)"}


def test_a_wait_is_cancelled_within_a_moment() -> None:
    kube, cancel = cluster(), threading.Event()
    timer = threading.Timer(0.05, cancel.set)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(NotReady, match="mesh: stopped"):
        wait.until_current(kube, [DEPLOYMENT], 60, cancel=cancel, what="mesh")
    with pytest.raises(NotReady, match="stopped"):
        wait.until(lambda: "no answer", 60, cancel=cancel)
    with pytest.raises(NotReady, match="stopped"):
        wait.until_gone(kube, {CONFIG: kube.store[CONFIG.key]["metadata"]["uid"]}, 60, cancel=cancel)
    timer.join()
    assert time.monotonic() - begun < 30


def test_a_kind_that_is_not_there_yet_and_one_that_belongs_to_no_namespace() -> None:
    kube = cluster()
    widget = Ref("example.com/v1", "Widget", "app", "one")
    roles = [Ref("rbac.authorization.k8s.io/v1", "ClusterRole", "app", name) for name in ("one", "two")]
    for role in roles:
        kube.create(obj(Ref(role.api_version, role.kind, None, role.name)))
    found = wait.states(kube, [widget, *roles])
    assert found[widget].message == "not there, and the cluster does not know its kind"
    assert {found[role].state for role in roles} == {State.CURRENT}


def test_gone_means_that_very_object() -> None:
    kube = cluster()
    wait.until_gone(kube, {CONFIG: "uid-of-another", Ref("v1", "ConfigMap", "app", "none"): "uid"}, 1)
    with pytest.raises(NotReady, match="ConfigMap app/config: not gone after"):
        wait.until_gone(kube, {CONFIG: kube.store[CONFIG.key]["metadata"]["uid"]}, 0.02)


def test_what_holds_a_namespace_is_told_in_the_clusters_words() -> None:
    ref = Ref("v1", "Namespace", None, "app")
    kube = cluster()
    kube.store[CONFIG.key]["metadata"]["finalizers"] = ["hold"]
    uid = kube.store[ref.key]["metadata"]["uid"]
    kube.delete(ref)
    message = "Some content in the namespace has finalizers remaining: hold in 1 resource instances"
    kube.report(ref, conditions=[{"type": "NamespaceFinalizersRemaining", "status": "True", "message": message}])
    with pytest.raises(NotReady) as caught:
        wait.until_gone(kube, {ref: uid}, 0.02)
    assert message in str(caught.value)


def test_until_asks_again_and_tells_the_obstacle() -> None:
    answers = ["connection refused", "connection refused", None]
    said: list[str] = []
    wait.until(lambda: answers.pop(0), 60, said.append)
    assert said == ["connection refused", "connection refused"]

    with pytest.raises(NotReady, match=r"not so after 0\.02 s: the webhook admits an Issuer") as caught:
        wait.until(lambda: "x509: unknown authority", 0.02, what="the webhook admits an Issuer")
    assert caught.value.facts == {"obstacle": "x509: unknown authority"}
