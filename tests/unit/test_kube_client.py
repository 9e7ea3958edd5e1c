"""The client against a real HTTP server on this machine: what is sent, what is refused, what is repeated."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.lib.errors import ClusterGone, Refused
from tasks.lib.kube import client
from tasks.lib.kube.api import ApiError, NotServed, Ref, not_yet
from tasks.lib.kube.client import Kube
from tests.api_server import CORE, Answer, Server, in_turn, running, status, write

CONFIG = Ref("v1", "ConfigMap", "app", "config")
PATH = "/api/v1/namespaces/app/configmaps/config"


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as made:
        yield made


@pytest.fixture
def kube(server: Server, tmp_path: Path) -> Kube:
    return Kube(write(tmp_path / "config", server.url))


# what is sent


def test_get_returns_the_object_or_none(server: Server, kube: Kube) -> None:
    server.routes[f"GET {PATH}"] = (200, {"metadata": {"name": "config"}})
    assert kube.get(CONFIG) == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}}
    assert kube.get(Ref("v1", "ConfigMap", "app", "none")) is None
    assert kube.get(Ref("example.com/v1", "Widget", "app", "none")) is None
    assert server.requests[-1][3].get("authorization") == "Bearer first"


def test_apply_is_server_side_with_our_name_and_force(server: Server, kube: Kube) -> None:
    server.routes[f"PATCH {PATH}"] = (200, {"metadata": {"name": "config", "resourceVersion": "7"}})
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": "app"}}
    assert kube.apply(obj)["metadata"]["resourceVersion"] == "7"
    kube.apply(obj, dry_run=True, force=False)

    (_, _, first, headers, body), (_, _, second, _, _) = server.requests[-2:]
    assert first == {"fieldManager": ["inference-in-a-box"], "force": ["true"]}
    assert second == {"fieldManager": ["inference-in-a-box"], "force": ["false"], "dryRun": ["All"]}
    assert headers["content-type"] == "application/apply-patch+yaml"
    assert body == obj


def test_list_pages_and_names_the_kind_of_each_item(server: Server, kube: Kube) -> None:
    page = {"items": [{"metadata": {"name": "one"}}], "metadata": {"continue": "more"}}
    server.routes["GET /api/v1/namespaces/app/configmaps"] = in_turn(
        (200, page), (200, {"items": [{"metadata": {"name": "two"}}], "metadata": {}})
    )
    found = kube.list("v1", "ConfigMap", "app", "a=b", fields="type=Warning", heads=True)
    assert [(each["kind"], each["metadata"]["name"]) for each in found] == [("ConfigMap", "one"), ("ConfigMap", "two")]
    _, _, query, headers, _ = server.requests[-1]
    assert (query["labelSelector"], query["fieldSelector"], query["continue"]) == (["a=b"], ["type=Warning"], ["more"])
    assert headers["accept"] == "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


def test_list_of_an_unknown_kind_is_empty(kube: Kube) -> None:
    assert kube.list("example.com/v1", "Widget") == []


def test_delete_names_the_very_object(server: Server, kube: Kube) -> None:
    server.routes[f"DELETE {PATH}"] = in_turn((200, {}), (404, status(404, "NotFound", "no")))
    assert kube.delete(CONFIG, "Foreground", uid="u1") is True
    assert server.requests[-1][4] == {"propagationPolicy": "Foreground", "preconditions": {"uid": "u1"}}
    assert kube.delete(CONFIG) is False


def test_a_kind_is_asked_for_once_when_known_and_again_when_not(server: Server, kube: Kube) -> None:
    server.routes[f"GET {PATH}"] = (200, {"metadata": {"name": "config"}})
    for _ in range(3):
        kube.get(CONFIG)
    assert server.asked("GET /api/v1") == 1

    assert not kube.served("example.com/v1", "Widget")
    with pytest.raises(NotServed) as caught:
        kube.apply({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "x", "namespace": "a"}})
    assert not_yet(caught.value)
    widget = {"name": "widgets", "kind": "Widget", "namespaced": True, "verbs": []}
    server.routes["GET /apis/example.com/v1"] = (200, {"resources": [widget]})
    assert kube.served("example.com/v1", "Widget")


def test_every_kind_in_one_version_and_the_groups_that_fail(server: Server, kube: Kube) -> None:
    def group(name: str, *versions: str) -> dict[str, Any]:
        listed = [{"groupVersion": f"{name}/{version}"} for version in versions]
        return {"name": name, "versions": listed, "preferredVersion": listed[-1]}

    def kinds(*names: str) -> Answer:
        return (200, {"resources": [{"name": f"{each.lower()}s", "kind": each, "namespaced": True} for each in names]})

    server.routes |= {
        "GET /api": (200, {"versions": ["v1"]}),
        "GET /apis": (200, {"groups": [group("g.io", "v1alpha1", "v1"), group("metrics.k8s.io", "v1")]}),
        "GET /apis/g.io/v1alpha1": kinds("Route", "Old"),
        "GET /apis/g.io/v1": kinds("Route"),
        "GET /apis/metrics.k8s.io/v1": (500, status(500, "", "no backend")),
    }
    found, failed = kube.resources()
    assert {(each.api_version, each.kind) for each in found if "g.io" in each.api_version} == {
        ("g.io/v1", "Route"),
        ("g.io/v1alpha1", "Old"),
    }
    assert list(failed) == ["metrics.k8s.io/v1"]
    assert "no backend" in failed["metrics.k8s.io/v1"]


def test_raw_returns_json_or_text(server: Server, kube: Kube) -> None:
    server.routes["GET /api/v1/namespaces/app/pods/p/log"] = (200, "line\n")
    assert kube.raw("GET", "/api/v1/namespaces/app/pods/p/log") == "line\n"
    assert kube.raw("GET", "/api/v1") == CORE


def test_eight_threads_share_it(server: Server, kube: Kube) -> None:
    server.routes[f"GET {PATH}"] = (200, {"metadata": {"name": "config"}})
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.extend(kube.get(CONFIG) for _ in range(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 160
    assert None not in seen


# what becomes of refusals


def test_a_webhooks_own_words_are_kept(server: Server, kube: Kube) -> None:
    message = 'admission webhook "validation.istio.io" denied the request: configuration is invalid: total weight = 0'
    server.routes[f"PATCH {PATH}"] = (400, status(400, "BadRequest", message))
    with pytest.raises(Refused) as caught:
        kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": "app"}})
    assert caught.value.status == 400
    assert caught.value.what == f"ConfigMap app/config: {message}"
    assert not not_yet(caught.value)
    assert server.asked(f"PATCH {PATH}") == 1


@pytest.mark.parametrize(
    ("code", "message", "causes", "later"),
    [
        (500, 'Internal error occurred: failed calling webhook "x": connect: connection refused', [], True),
        (500, 'failed calling webhook "x": no endpoints available for service "x"', [], True),
        (500, 'failed calling webhook "x": x509: certificate signed by unknown authority', [], True),
        (404, 'namespaces "app" not found', [], True),
        (403, "unable to create new content", [{"reason": "NamespaceTerminating"}], True),
        (403, "failed quota: tenant: must specify limits.cpu", [], False),
        (403, "status unknown for quota: tenant, resources: pods", [], True),
        (422, "spec.replicas: Invalid value", [], False),
        (409, "AlreadyExists", [], False),
    ],
)
def test_what_can_be_taken_later(code: int, message: str, causes: list[dict[str, str]], later: bool) -> None:
    names = [each["reason"] for each in causes]
    assert not_yet(ApiError(message, status=code, message=message, causes=names)) is later


def test_create_of_what_is_there_is_refused_with_409(server: Server, kube: Kube) -> None:
    server.routes["POST /api/v1/namespaces/app/configmaps"] = (409, status(409, "AlreadyExists", "already exists"))
    with pytest.raises(Refused) as caught:
        kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": "app"}})
    assert caught.value.status == 409


# what is repeated, and what is not


@pytest.mark.parametrize(
    "first",
    [
        (429, status(429, "TooManyRequests", "slow down"), {"Retry-After": "0"}),
        (503, status(503, "ServiceUnavailable", "starting")),
        (500, status(500, "InternalError", "etcdserver: leader changed")),
        (409, status(409, "Conflict", "the object has been modified")),
        (0, ""),
    ],
)
def test_an_apply_is_repeated_when_the_server_is_busy(first: Answer, server: Server, kube: Kube) -> None:
    server.routes[f"PATCH {PATH}"] = in_turn(first, (200, {"metadata": {"name": "config"}}))
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": "app"}})
    assert server.asked(f"PATCH {PATH}") == 2


def test_a_conflict_of_owners_is_not_repeated(server: Server, kube: Kube) -> None:
    refusal = status(409, "Conflict", "conflict with kubectl", causes=[{"reason": "FieldManagerConflict"}])
    server.routes[f"PATCH {PATH}"] = (409, refusal)
    with pytest.raises(Refused):
        kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": "app"}})
    assert server.asked(f"PATCH {PATH}") == 1


def test_a_create_whose_answer_was_lost_is_not_repeated(server: Server, kube: Kube) -> None:
    server.routes["POST /api/v1/namespaces/app/configmaps"] = (0, "")
    with pytest.raises(ClusterGone):
        kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": "app"}})
    assert server.asked("POST /api/v1/namespaces/app/configmaps") == 1


class Clock(threading.Event):
    """A clock, and the event on which the client waits: waiting moves the clock and takes no time."""

    now = 0.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        """Let the time pass."""
        self.now += timeout or 0.0
        return False


def test_the_repetition_ends_with_the_patience(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    kube = Kube(write(tmp_path / "config", server.url), cancel=clock)
    server.routes[f"GET {PATH}"] = (503, status(503, "ServiceUnavailable", "starting"))
    with pytest.raises(Refused, match="starting"):
        kube.raw("GET", PATH, patience_s=5)
    assert 0 < clock.now <= 5
    assert server.asked(f"GET {PATH}") > 2


def test_a_run_that_is_to_stop_repeats_nothing(server: Server, tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    kube = Kube(write(tmp_path / "config", server.url), cancel=cancel)
    server.routes[f"GET {PATH}"] = (503, status(503, "ServiceUnavailable", "starting"))
    with pytest.raises(Refused):
        kube.get(CONFIG)
    assert server.asked(f"GET {PATH}") == 1
