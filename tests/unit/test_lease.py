"""The lock between machines, on an API that keeps resourceVersions as the real one does."""

import copy
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.lib import lease
from tasks.lib.errors import Busy, ClusterGone, Refused
from tasks.lib.lease import Lease
from tasks.lib.runlock import Holder

LEASES = "/apis/coordination.k8s.io/v1/namespaces/inference-in-a-box/leases"
RUN = f"{LEASES}/run"


class Cluster:
    """One namespace and one Lease, with optimistic concurrency."""

    def __init__(self) -> None:
        self.namespaces: list[str] = []
        self.stored: dict[str, Any] | None = None
        self.version = 0
        self.gone = False
        self.before_put: Callable[[], None] | None = None
        self.puts = 0
        self.lock = threading.RLock()

    def raw(self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout_s: float) -> Any:
        assert timeout_s < lease.LEASE_S / 2 or lease.LEASE_S < 1
        if self.gone:
            raise ClusterGone("nothing answers")
        if method == "PUT" and self.before_put:
            hook, self.before_put = self.before_put, None
            hook()
        with self.lock:
            return getattr(self, method.lower())(path, copy.deepcopy(body))

    def get(self, path: str, _: object) -> Any:
        assert path == RUN
        if self.stored is None:
            raise Refused("not found", status=404)
        return copy.deepcopy(self.stored)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/api/v1/namespaces":
            self.namespaces.append(body["metadata"]["name"])
            return body
        assert path == LEASES
        if "inference-in-a-box" not in self.namespaces:
            raise Refused("no such namespace", status=404)
        if self.stored is not None:
            raise Refused("already exists", status=409)
        return self.store(body)

    def put(self, path: str, body: dict[str, Any]) -> Any:
        assert path == RUN
        self.puts += 1
        if self.stored is None:
            raise Refused("not found", status=404)
        if body["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
            raise Refused("the object has been modified", status=409)
        return self.store(body)

    def delete(self, path: str, body: dict[str, Any]) -> Any:
        assert path == RUN
        found = self.get(path, None)
        if body["preconditions"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            raise Refused("the object has been modified", status=409)
        self.stored = None

    def store(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.stored = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return copy.deepcopy(self.stored)

    @property
    def holder(self) -> str:
        return "" if self.stored is None else str(self.stored["spec"]["holderIdentity"])

    def held_by(self, holder: Holder, *, renewed_s_ago: float = 0) -> None:
        """Put a lease there as another run would have left it."""
        self.namespaces.append("inference-in-a-box")
        at = (datetime.now(UTC) - timedelta(seconds=renewed_s_ago)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.store(
            {
                "metadata": {"name": "run", "annotations": {"inference-in-a-box/holder": holder.json()}},
                "spec": {"holderIdentity": "other", "renewTime": at, "acquireTime": at, "leaseTransitions": 3},
            }
        )


class Renewed(Cluster):
    """A lease that its holder renews between any two looks of ours, its clock standing still."""

    def get(self, path: str, _: object) -> Any:
        if self.stored is not None:
            self.store(self.stored)
        return super().get(path, None)


ELSEWHERE = Holder(host="far", pid=7, since="2026-01-01T00:00:00+00:00", command="invoke up", place="another machine")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_RENEW_S", 0.02)
    monkeypatch.setattr(lease, "_RETRY_S", 0.02)
    monkeypatch.setattr(lease, "_POLL_S", 0.02)
    monkeypatch.setattr(lease, "_RACE_S", 0.01)


def one(cluster: Cluster, cancel: threading.Event | None = None) -> Lease:
    return Lease(cluster, command="invoke up", cancel=cancel or threading.Event())


def until(true: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def test_it_is_taken_renewed_and_leaves_nothing_behind() -> None:
    cluster = Cluster()
    with one(cluster) as mine:
        mine.acquire(say=pytest.fail)
        assert cluster.namespaces == ["inference-in-a-box"]
        assert cluster.stored is not None
        first = cluster.stored["spec"]
        assert first["leaseDurationSeconds"] == 30
        until(lambda: cluster.puts > 2)
        assert cluster.stored["spec"]["renewTime"] > first["renewTime"]
        assert cluster.stored["spec"]["acquireTime"] == first["acquireTime"]
        assert cluster.stored["spec"]["leaseTransitions"] == 0
    assert cluster.stored is None
    assert mine.lost is None


def test_the_second_says_who_holds_it_and_leaves() -> None:
    cluster = Cluster()
    cluster.held_by(ELSEWHERE)
    with pytest.raises(Busy) as caught:
        one(cluster).acquire(say=pytest.fail, wait=False)
    assert caught.value.facts == {
        "holder": "pid 7 on far", "since": "2026-01-01T00:00:00+00:00", "command": "invoke up",
    }  # fmt: skip
    assert cluster.holder == "other"


def test_the_second_waits_says_so_once_and_gets_it_when_it_is_given_back() -> None:
    cluster = Cluster()
    first, second = one(cluster), one(cluster)
    first.acquire(say=pytest.fail)
    said: list[str] = []

    def hear(text: str) -> None:
        said.append(text)
        first.release()

    second.acquire(say=hear, timeout_s=60)
    assert len(said) == 1
    assert "invoke up" in said[0]
    second.release()
    assert cluster.stored is None


def test_waiting_ends_in_time_and_when_told_to_stop() -> None:
    cluster, cancel = Cluster(), threading.Event()
    cluster.held_by(ELSEWHERE)
    with pytest.raises(Busy):
        one(cluster).acquire(say=lambda _: None, timeout_s=0.1)
    with pytest.raises(Busy):
        one(cluster, cancel).acquire(say=lambda _: cancel.set())


def test_a_lease_that_nobody_renews_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 0.3)
    cluster = Cluster()
    cluster.held_by(ELSEWHERE)
    begun = time.monotonic()
    with one(cluster) as mine:
        mine.acquire(say=lambda _: None, timeout_s=60)
        assert time.monotonic() - begun >= 0.3
        assert cluster.holder != "other"
        assert cluster.stored is not None
        assert cluster.stored["spec"]["leaseTransitions"] == 4


def test_a_lease_that_is_renewed_is_never_taken_over_however_its_clock_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 0.2)
    cluster = Renewed()
    cluster.held_by(ELSEWHERE, renewed_s_ago=100)
    with pytest.raises(Busy):
        one(cluster).acquire(say=lambda _: None, timeout_s=0.5)
    assert cluster.holder == "other"


def test_a_lease_of_long_ago_needs_no_watching() -> None:
    cluster = Cluster()
    cluster.held_by(ELSEWHERE, renewed_s_ago=600)
    with one(cluster) as mine:
        mine.acquire(say=pytest.fail, wait=False)
        assert cluster.holder != "other"


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_at_once() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    cluster = Cluster()
    cluster.held_by(replace(Holder.me("invoke up"), pid=dead.pid))
    with one(cluster) as mine:
        mine.acquire(say=pytest.fail, wait=False)
        assert cluster.holder != "other"


def test_of_two_that_find_it_free_one_gets_it() -> None:
    cluster = Cluster()
    cluster.held_by(ELSEWHERE, renewed_s_ago=600)
    faster = one(cluster)
    cluster.before_put = lambda: faster.acquire(say=pytest.fail, wait=False)
    with faster, pytest.raises(Busy) as caught:
        one(cluster).acquire(say=pytest.fail, wait=False)
    assert "far" not in str(caught.value.facts["holder"])  # it names the one who was faster
    assert faster.lost is None


def test_a_lost_lease_cancels_the_run_and_says_who_has_it() -> None:
    cluster, cancel = Cluster(), threading.Event()
    with pytest.raises(Busy, match="another run took over this cluster") as caught, one(cluster, cancel) as mine:
        mine.acquire(say=pytest.fail)
        cluster.held_by(ELSEWHERE)
        assert cancel.wait(60)
        raise RuntimeError("the work, cut short")
    assert caught.value.facts["holder"] == "pid 7 on far"
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert cluster.holder == "other"


def test_a_cluster_that_does_not_answer_for_a_while_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 0.1)
    cluster, cancel = Cluster(), threading.Event()
    with one(cluster, cancel) as mine:
        mine.acquire(say=pytest.fail)
        cluster.gone = True
        time.sleep(0.3)
        cluster.gone = False
        puts = cluster.puts
        until(lambda: cluster.puts > puts)
        assert not cancel.is_set()
    assert mine.lost is None


def test_after_a_silence_a_lease_that_is_no_more_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 0.1)
    cluster, cancel = Cluster(), threading.Event()
    with pytest.raises(Busy, match="took over"), one(cluster, cancel) as mine:
        mine.acquire(say=pytest.fail)
        cluster.gone = True
        time.sleep(0.3)
        cluster.stored = None  # somebody took it, worked, and gave it back
        cluster.gone = False
        assert cancel.wait(60)


def test_removing_the_namespace_ourselves_is_no_loss_and_does_not_bring_it_back() -> None:
    cluster, cancel = Cluster(), threading.Event()
    with one(cluster, cancel) as mine:
        mine.acquire(say=pytest.fail)
        with cluster.lock:
            cluster.namespaces.clear()
            cluster.stored = None
        time.sleep(0.2)
    assert cluster.namespaces == []
    assert cluster.stored is None
    assert mine.lost is None
    assert not cancel.is_set()


def test_a_fault_in_renewing_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, cancel = Cluster(), threading.Event()
    with pytest.raises(Busy, match="unexpected ValueError"), one(cluster, cancel) as mine:
        mine.acquire(say=pytest.fail)
        monkeypatch.setattr(cluster, "get", lambda *_: (_ for _ in ()).throw(ValueError("a bug")))
        assert cancel.wait(60)


def test_a_cluster_that_is_gone_at_the_end_does_not_hide_the_result() -> None:
    cluster = Cluster()
    with one(cluster) as mine:
        mine.acquire(say=pytest.fail)
        cluster.gone = True
    assert mine.lost is None


def test_taking_it_twice_and_again_after_release() -> None:
    cluster = Cluster()
    with one(cluster) as mine:
        mine.acquire(say=pytest.fail)
        mine.acquire(say=pytest.fail)
        mine.release()
        assert cluster.stored is None
        mine.acquire(say=pytest.fail)
        puts = cluster.puts
        until(lambda: cluster.puts > puts + 1)
    assert cluster.stored is None
