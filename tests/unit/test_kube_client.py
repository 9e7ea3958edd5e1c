"""The client against a real HTTP server on this machine: what is sent, and what becomes of every kind of failure."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tasks.lib.errors import BadInput, ClusterGone, Refused
from tasks.lib.kube import client as client_module
from tasks.lib.kube.api import ApiError, NotServed, Ref, not_yet
from tasks.lib.kube.client import Kube

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]

CONFIG = Ref("v1", "ConfigMap", "app", "config")
PATH = "/api/v1/namespaces/app/configmaps/config"
CORE = {
    "resources": [
        {"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": ["get", "list", "delete"]},
        {"name": "namespaces", "kind": "Namespace", "namespaced": False, "verbs": ["get", "list", "delete"]},
        {"name": "pods/log", "kind": "Pod", "namespaced": True, "verbs": ["get"]},
        {"name": "events", "kind": "Event", "namespaced": True, "verbs": ["get", "list", "delete"]},
    ]
}


class Server(ThreadingHTTPServer):
    """Answers from `routes`; keeps what it was asked in `requests` as (method, path, query, headers, body)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.routes: dict[str, Answer | Callable[[], Answer]] = {"GET /api/v1": (200, CORE)}
        self.requests: list[tuple[str, str, dict[str, list[str]], dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def asked(self, line: str) -> int:
        return sum(1 for method, path, *_ in self.requests if f"{method} {path}" == line)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.requests.append((self.command, url.path, parse_qs(url.query), headers, body))
        found = self.server.routes.get(f"{self.command} {url.path}", (404, status(404, "NotFound", "not found")))
        code, content, *more = found() if callable(found) else found
        if code == 0:  # hang up without a word
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        text = isinstance(content, str)
        data = content.encode() if text else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if text else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for key, value in (more[0] if more else {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def status(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}


def in_turn(*answers: Answer) -> Callable[[], Answer]:
    left = list(answers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def write(path: Path, url: str, user: dict[str, Any] | None = None) -> Path:
    """Write a kubeconfig (JSON is YAML)."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": user or {"token": "first"}}],
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def kube(server: Server, tmp_path: Path) -> Kube:
    return Kube(write(tmp_path / "config", server.url))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_S", 2.0)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


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
    threads = [
        threading.Thread(target=lambda: seen.extend(kube.get(CONFIG) for _ in range(20))) for _ in range(8)
    ]
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


def test_the_repetition_ends_with_the_patience(server: Server, kube: Kube) -> None:
    server.routes[f"GET {PATH}"] = (503, status(503, "ServiceUnavailable", "starting"))
    begun = time.monotonic()
    with pytest.raises(Refused, match="starting"):
        kube.raw("GET", PATH, patience_s=0.5)
    assert time.monotonic() - begun < 2
    assert server.asked(f"GET {PATH}") > 1


def test_a_run_that_is_to_stop_repeats_nothing(server: Server, tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    kube = Kube(write(tmp_path / "config", server.url), cancel=cancel)
    server.routes[f"GET {PATH}"] = (503, status(503, "ServiceUnavailable", "starting"))
    with pytest.raises(Refused):
        kube.get(CONFIG)
    assert server.asked(f"GET {PATH}") == 1


# no answer


def test_nothing_listens_there(tmp_path: Path) -> None:
    path = write(tmp_path / "config", f"http://127.0.0.1:{free_port()}")
    begun = time.monotonic()
    with pytest.raises(ClusterGone) as caught:
        Kube(path).version()
    assert time.monotonic() - begun < 2
    facts = caught.value.facts
    assert (facts["context"], facts["kubeconfig"]) == ("here", path)
    assert "Connection refused" in str(facts["cause"])
    assert "invoke cluster" in caught.value.hint


def test_no_such_host(tmp_path: Path) -> None:
    with pytest.raises(ClusterGone) as caught:
        Kube(write(tmp_path / "config", "https://no-such-host.invalid:6443")).version()
    assert "no such host" in str(caught.value.facts["cause"])


def test_an_api_server_that_hangs(server: Server, kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_S", 0.3)
    over = threading.Event()
    server.routes["GET /version"] = lambda: (200, {"gitVersion": str(over.wait(5))})
    with pytest.raises(ClusterGone) as caught:
        kube.raw("GET", "/version", timeout_s=0.3, patience_s=60)
    over.set()
    assert caught.value.facts["cause"] == "no answer within 0.3 s"


def test_a_pod_behind_the_proxy_that_hangs_is_not_the_cluster(server: Server, kube: Kube) -> None:
    path = "/api/v1/namespaces/app/services/http:x:80/proxy/"
    over = threading.Event()
    server.routes[f"GET {path}"] = lambda: (200, str(over.wait(5)))
    with pytest.raises(Refused) as caught:
        kube.raw("GET", path, timeout_s=0.2)
    over.set()
    assert caught.value.status == 504
    server.routes[f"GET {path}"] = (401, "log in to the pod")
    with pytest.raises(Refused) as caught:
        kube.raw("GET", path)
    assert caught.value.status == 401


def test_tls_that_is_none(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ClusterGone) as caught:
        Kube(write(tmp_path / "config", server.url.replace("http:", "https:"))).version()
    assert str(caught.value.facts["cause"]).startswith("TLS: ")


def test_credentials_that_are_refused(server: Server, kube: Kube) -> None:
    server.routes["GET /version"] = (401, status(401, "Unauthorized", "Unauthorized"))
    with pytest.raises(ClusterGone, match="does not accept our credentials") as caught:
        kube.version()
    assert "expired" in str(caught.value.facts["cause"])
    assert server.asked("GET /version") == 2


def test_nobody_is_not_somebody_who_may_not(server: Server, kube: Kube) -> None:
    message = 'configmaps "config" is forbidden: User "{}" cannot get resource'
    server.routes[f"GET {PATH}"] = (403, status(403, "Forbidden", message.format("system:anonymous")))
    with pytest.raises(ClusterGone):
        kube.get(CONFIG)
    server.routes[f"GET {PATH}"] = (403, status(403, "Forbidden", message.format("jane")))
    with pytest.raises(Refused, match='User "jane"'):
        kube.get(CONFIG)


def plugin(path: Path, script: str) -> dict[str, Any]:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), "interactiveMode": "Never"}}


def test_an_exec_plugin_is_asked_again_when_its_token_is_refused(server: Server, tmp_path: Path) -> None:
    count = tmp_path / "count"
    credential = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t%s"}}'
    user = plugin(tmp_path / "plugin", f"echo x >> {count}\nprintf '{credential}' $(wc -l < {count})")

    def version() -> Answer:
        good = server.requests[-1][3]["authorization"] == "Bearer t2"
        return (200, {"gitVersion": "v1"}) if good else (401, status(401, "Unauthorized", "Unauthorized"))

    server.routes["GET /version"] = version
    assert Kube(write(tmp_path / "config", server.url, user)).version() == "v1"
    assert count.read_text() == "x\nx\n"


def test_an_exec_plugin_that_fails_says_why(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    user = plugin(tmp_path / "plugin", "echo 'token has expired, run: aws sso login' >&2; exit 1")
    with pytest.raises(ClusterGone, match="no credentials for") as caught:
        Kube(write(tmp_path / "config", server.url, user))
    assert "run: aws sso login" in str(caught.value.facts["cause"])
    assert capfd.readouterr().err == ""


# bad kubeconfigs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1,\nb: 2", r"config:2: not YAML"),
        ("", "empty, or not a kubeconfig"),
        ("- 1", "empty, or not a kubeconfig"),
        ("{contexts: [], clusters: []}", "no current context"),
        ("{current-context: x, contexts: [{name: y}]}", "no context 'x'"),
        ("{current-context: x, contexts: {}}", "no context 'x'"),
        ("{current-context: x, contexts: nonsense}", "contexts is not a list"),
        ("{current-context: x, contexts: [{name: x, context: {cluster: c}}]}", "names the cluster 'c'"),
        (
            "{current-context: x, contexts: [{name: x, context: {cluster: c}}], clusters: [{name: c, cluster: {}}]}",
            "no server",
        ),
        (
            "{current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}],"
            " clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', certificate-authority: gone.crt}}],"
            " users: [{name: u, user: {token: t}}]}",
            r"File does not exist: .*gone\.crt",
        ),
    ],
)
def test_a_bad_kubeconfig_is_bad_input_with_the_place(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(BadInput, match=message) as caught:
        Kube(path)
    assert str(path) in caught.value.what


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        Kube(tmp_path / "none")
    with pytest.raises(BadInput, match="cannot be read"):
        Kube(tmp_path)


def test_a_context_that_is_not_there_lists_those_that_are(server: Server, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no context 'other'") as caught:
        Kube(write(tmp_path / "config", server.url), "other")
    assert caught.value.facts == {"known": "here"}
