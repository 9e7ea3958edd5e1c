"""The whole product on a real cluster, in the order in which a user meets it. No fakes.

The tests share one cluster and build on each other; the first that fails makes the rest meaningless, and they say so.
"""

import base64
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self
from xml.etree import ElementTree as ET

import pytest
import requests

from tasks.lib import names
from tasks.lib.kube.api import Ref
from tests.cluster.platform import CLUSTER, HTTP_PORT, Platform, changed

pytestmark = pytest.mark.cluster

POINTS: dict[str, Callable[[Platform], bool]] = {
    "the first node's container is there": lambda each: bool(each.nodes()),
    "cert-manager is being applied": lambda each: each.applying("cert-manager"),
    "istiod is being applied": lambda each: each.applying("istiod"),
    "kserve is being applied": lambda each: each.applying("kserve"),
    "tenant a is being applied": lambda each: each.applying("tenant-a"),
    "the model is being trained": lambda each: each.begun("model-a.sklearn-iris.artefact"),
}
"""Where `up` is killed, in the order in which a run reaches them."""

HOST = "sklearn-iris-predictor.tenant-a.127.0.0.1.sslip.io"
PACE_S = 0.2
"""Seconds between calls that go on and on: below the tenant's limit, which counts for all tests of a minute."""

REVOKED_S = 60.0
"""Seconds within which a token that was taken back has to be refused."""

COLLECTED_S = 60.0
"""Seconds for the cluster to collect what its owner left."""

_broken: list[str] = []


@pytest.fixture(autouse=True)
def in_order(request: pytest.FixtureRequest) -> Iterator[None]:
    """Skip what builds on a test that failed."""
    if _broken:
        pytest.skip(f"builds on {_broken[0]}, which failed")
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        _broken.append(request.node.name)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point(platform: Platform, point: str) -> None:
    result = platform.interrupt(["up"], lambda _: POINTS[point](platform), signal.SIGKILL)

    assert result.code == -signal.SIGKILL


def test_interrupted_it_says_what_was_in_flight(platform: Platform) -> None:
    result = platform.interrupt(["up", "--force"], platform.at_work, signal.SIGINT)

    assert result.code == 130
    assert "interrupted" in result.err
    assert "in flight" in result.err


def test_run_again_it_comes_up_and_a_model_answers(platform: Platform) -> None:
    result = platform.run("up").ok()

    assert "a/sklearn-iris says [1, 1, 0, 2]" in result.out
    assert "left out" in result.err  # gateway and obs: never reported as done
    platform.run("status").ok()


def test_a_second_run_changes_nothing(platform: Platform) -> None:
    before = platform.versions()

    result = platform.run("up").ok()

    assert "\n0 changes in " in result.err
    assert changed(before, platform.versions()) == set()


def test_a_plan_of_what_is_there_is_to_skip_it(platform: Platform) -> None:
    planned = platform.json("plan")

    assert {each["action"] for each in planned["components"]} == {"skip", "left out"}
    assert planned["fetch"] == {}


def test_what_was_changed_by_hand_is_found_and_put_back(platform: Platform) -> None:
    kube = platform.kube
    policy = Ref("networking.k8s.io/v1", "NetworkPolicy", "tenant-a", "default-deny")
    config = Ref("v1", "ConfigMap", names.KNATIVE_NAMESPACE, "config-autoscaler")
    kube.delete(policy)
    path = f"/api/v1/namespaces/{config.namespace}/configmaps/{config.name}"
    kube.raw("PATCH", path, {"data": {"stable-window": "75s"}}, content_type="application/merge-patch+json")

    planned = {each["name"]: each for each in platform.json("plan")["components"]}
    assert any(line.startswith(f"create {policy}") for line in planned["tenant-a"]["changes"])
    assert any(line.startswith(f"change {config}") for line in planned["knative"]["changes"])

    result = platform.run("up").ok()

    assert "\n2 changes in " in result.err
    assert kube.get(policy)
    found = kube.get(config)
    assert found
    assert found["data"]["stable-window"] == "60s"


def test_a_changed_value_touches_just_its_objects(platform: Platform) -> None:
    before = platform.versions()
    platform.edit(
        "config/tenants.yaml",
        lambda text: text.replace("summary: reserved for pytorch-resnet", 'quota: {pods: "7"}\n    summary: other'),
    )

    platform.run("up").ok()

    assert changed(before, platform.versions()) == {"ResourceQuota tenant-c/tenant"}


def test_what_is_no_longer_wanted_is_pruned(platform: Platform) -> None:
    platform.edit("config/tenants.yaml", lambda text: re.sub(r"  - name: c\n(    .*\n)+", "", text))

    result = platform.run("up").ok()

    assert "tenant-c" in result.err
    assert platform.kube.get(Ref("v1", "Namespace", None, "tenant-c")) is None
    assert not [ref for ref in platform.inventory() if "tenant-c" in str(ref)]


def test_a_tenant_comes_and_goes_and_leaves_nothing(platform: Platform) -> None:
    platform.run("tenants").ok()
    everything, others = platform.inventory(), platform.versions()

    platform.run("tenant.add", "--name", "d", "--quota", "requests.cpu=1,pods=5").ok()
    added = platform.inventory() - everything
    assert Ref("v1", "Namespace", None, "tenant-d") in added
    assert {ref for ref in others if "tenant-a" in str(ref) or "tenant-b" in str(ref)}
    touched = changed(others, platform.versions())
    assert {name for name in touched if "tenant-d" not in name and "-d" not in name} == set()

    again = platform.run("tenant.add", "--name", "d").ok()
    assert "is as it was" in again.out
    listed = {each["name"]: each for each in platform.json("tenant.list")}
    assert listed["d"]["from"] == "command"
    assert listed["d"]["quota"]["pods"] == "5"
    platform.run("up").ok()  # a tenant that was added by command is not pruned
    assert platform.kube.get(Ref("v1", "Namespace", None, "tenant-d"))

    platform.run("tenant.remove", "--name", "d").ok()
    left = platform.inventory() - everything
    until = time.monotonic() + COLLECTED_S
    while left and time.monotonic() < until:  # the key of its certificate is collected when the certificate has gone
        left = platform.inventory() - everything
    assert {str(ref) for ref in left} == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tenant.add", "--name", "Not_A_Label"], "is not a DNS label"),
        (["tenant.add", "--name", "kube"], "is reserved"),
        (["tenant.add", "--name", "x", "--quota", "requests.cpu=many"], "requests.cpu"),
        (["tenant.remove", "--name", "a"], "has models: sklearn-iris"),
        (["tenant.remove", "--name", "nobody"], "no tenant 'nobody'"),
        (["model.predict", "--name", "nothing"], "no model 'nothing'"),
        (["model.predict", "--name", "sklearn-iris", "--data", "[[1,"], "not JSON"),
        (["up", "--source", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_touched(platform: Platform, words: list[str], said: str) -> None:
    before = platform.versions()

    result = platform.run(*words)

    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err
    assert changed(before, platform.versions()) == set()


def test_of_two_runs_the_second_says_who_is_at_work(platform: Platform) -> None:
    first = platform.start("up", "--force")
    while first.poll() is None and (second := platform.run("certs", "--no-wait")).code == 0:
        pass  # the first has not begun yet

    assert second.code == 5
    assert f"pid {first.pid}" in second.err
    assert "since" in second.err
    platform.finish(first).ok()


def test_models_answer_by_both_protocols(platform: Platform) -> None:
    (model,) = platform.json("model.list")
    assert model["state"] == "ready"
    for protocol in ("v1", "v2"):
        found = platform.run(
            "model.predict", "--name", "a/sklearn-iris", "--protocol", protocol, "--data", "[[5.1, 3.5, 1.4, 0.2]]"
        ).ok()
        assert found.out.strip() == "[0]"


def ask(token: str, *, path: str = "/v1/models/sklearn-iris:predict", **headers: str) -> requests.Response:
    """Ask the edge for a prediction of tenant a's model."""
    named = {"Host": HOST, "Content-Type": "application/json", **headers}
    if token:
        named["Authorization"] = f"Bearer {token}"
    body = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
    return requests.post(f"http://127.0.0.1:{HTTP_PORT}{path}", json=body, headers=named, timeout=150)


def test_the_edge_answers_a_tenants_own_tokens_and_no_others(platform: Platform) -> None:
    own, other = (platform.run("tenant.token", "--name", name).ok().out.strip() for name in ("a", "b"))
    head, claims, signature = own.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")

    assert ask(own).json() == {"predictions": [0]}
    refused = {
        "none": ask(""),
        "malformed": ask("not.a.token"),
        "alg none": ask(f"{unsigned}.{claims}."),
        "another signature": ask(f"{head}.{claims}.{signature[:-8]}AAAAAAAA"),
        "another tenant's": ask(other),
        "another tenant's, with a forged header": ask(other, **{"x-tenant": "a"}),
    }
    assert {how: reply.status_code for how, reply in refused.items()} == {
        "none": 401, "malformed": 401, "alg none": 401, "another signature": 401,
        "another tenant's": 403, "another tenant's, with a forged header": 403,
    }  # fmt: skip
    unknown = ask(own, path="/v1/models/nothing:predict")
    assert (unknown.status_code, unknown.json()) == (404, {"error": "not found"})


class Stream:
    """Valid calls of one token at the edge, one after another, until the block is left; what each was answered."""

    def __init__(self, token: str) -> None:
        self.statuses: list[int] = []
        self._token, self._over = token, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.wait(PACE_S):
            self.statuses.append(ask(self._token).status_code)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_a_token_taken_back_is_refused_and_others_do_not_notice(platform: Platform) -> None:
    back, kept = (platform.run("tenant.token", "--name", "a").ok() for _ in range(2))
    assert ask(back.out.strip()).status_code == 200

    with Stream(kept.out.strip()) as stream:
        begun = time.monotonic()
        process = platform.start("tenant.revoke", "--jti", back.err.split()[-1])
        while ask(back.out.strip()).status_code == 200:
            assert time.monotonic() - begun < REVOKED_S
            time.sleep(PACE_S)
        took = time.monotonic() - begun
        platform.finish(process).ok()

    print(f"refused at the edge {took:.1f} s after the command began")  # noqa: T201 (a measurement)
    assert ask(back.out.strip()).status_code == 403
    assert stream.statuses
    assert set(stream.statuses) == {200}


def test_keys_that_are_rotated_are_not_noticed(platform: Platform) -> None:
    before = platform.run("tenant.token", "--name", "a").ok().out.strip()

    with Stream(before) as stream:
        platform.run("tenant.rotate-keys").ok()
        after = platform.run("tenant.token", "--name", "a").ok().out.strip()
        assert ask(after).status_code == 200

    assert len(stream.statuses) > 10
    assert set(stream.statuses) == {200}
    platform.run("tenant.rotate-keys", "--drop-previous").ok()
    assert [ask(token).status_code for token in (before, after)] == [401, 200]


def test_a_mutation_that_is_killed_is_put_back_by_the_next_run(platform: Platform) -> None:
    kube = platform.kube
    borrowed = Ref("v1", "ConfigMap", names.PLATFORM_NAMESPACE, "verify-borrowed")
    mesh = Ref("security.istio.io/v1", "PeerAuthentication", names.ISTIO_NAMESPACE, "default")

    platform.interrupt(
        ["verify", "--mutate", "--only", "trust.mutation"],
        lambda _: bool(kube.get(borrowed)) and kube.get(mesh) is None, signal.SIGKILL,
    )  # fmt: skip
    assert kube.get(mesh) is None

    platform.run("verify", "--only", "versions").ok()
    assert kube.get(mesh)
    assert kube.get(borrowed) is None
    assert [str(ref) for ref in platform.inventory() if "verify" in str(ref)] == []


def test_every_claim_holds_and_every_mutant_is_noticed(platform: Platform) -> None:
    result = platform.run("verify", "--mutate", "--json", "--junit", str(platform.folder / "verify.xml"))

    assert result.code == 0, result.err.rpartition("\n\n")[2]  # what is false, or why there is no report
    found = {each["id"]: each for each in json.loads(result.out)["checks"]}
    assert found["trust.matrix"]["measured"]["cells"] >= 150
    assert found["trust.mutation"]["measured"]["score"] == 100
    assert {each["verdict"] for each in found.values()} == {"passed"}
    cases = ET.parse(platform.folder / "verify.xml").getroot().iter("testcase")  # noqa: S314 (our own text)
    assert len(list(cases)) > len(found["trust.matrix"]["parts"])
    platform.run("status").ok()  # all that was taken away is back


def test_down_removes_what_was_made_and_nothing_else(platform: Platform) -> None:
    assert platform.nodes()

    result = platform.run("down").ok()

    assert platform.nodes() == []
    assert f"{CLUSTER}-control-plane" in result.out
    assert "left over: 0\n  (nothing)" in result.out
    again = platform.run("down").ok()
    assert "removed: 0\n  (nothing)" in again.out


def test_a_cluster_that_is_deleted_while_we_work(platform: Platform) -> None:
    platform.run("cluster").ok()
    process = platform.start("certs")
    while process.poll() is None and not platform.at_work(process.pid):
        pass
    assert process.poll() is None
    platform.remove_nodes()

    result = platform.finish(process)

    assert result.code == 1
    assert "Traceback" not in result.err
    assert "try:" in result.err
    platform.run("down").ok()
    assert platform.nodes() == []
