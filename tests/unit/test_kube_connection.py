"""Failures to reach a cluster, or to be let in, and kubeconfigs that are wrong: what is said, and how soon."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.lib.errors import BadInput, ClusterGone, Refused
from tasks.lib.kube.api import Ref
from tasks.lib.kube.client import Kube
from tests.api_server import Answer, Server, running, status, write

CONFIG = Ref("v1", "ConfigMap", "app", "config")
PATH = "/api/v1/namespaces/app/configmaps/config"


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as made:
        yield made


@pytest.fixture
def kube(server: Server, tmp_path: Path) -> Kube:
    return Kube(write(tmp_path / "config", server.url))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class NeverWaited(threading.Event):
    """Fails a test in which something waits."""

    def wait(self, timeout: float | None = None) -> bool:
        """Fail."""
        pytest.fail(f"waited {timeout} s")


# no answer


def test_nothing_listens_there(tmp_path: Path) -> None:
    path = write(tmp_path / "config", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ClusterGone) as caught:
        Kube(path, cancel=NeverWaited()).version()
    facts = caught.value.facts
    assert (facts["context"], facts["kubeconfig"]) == ("here", path)
    assert "Connection refused" in str(facts["cause"])
    assert "invoke cluster" in caught.value.hint


def test_no_such_host(tmp_path: Path) -> None:
    with pytest.raises(ClusterGone) as caught:
        Kube(write(tmp_path / "config", "https://no-such-host.invalid:6443")).version()
    assert "no such host" in str(caught.value.facts["cause"])


def test_an_api_server_that_hangs(server: Server, kube: Kube) -> None:
    over = threading.Event()
    server.routes["GET /version"] = lambda: (200, {"gitVersion": str(over.wait(60))})
    with pytest.raises(ClusterGone) as caught:
        kube.raw("GET", "/version", timeout_s=0.3, patience_s=60)
    over.set()
    assert caught.value.facts["cause"] == "no answer within 0.3 s"


def test_a_pod_behind_the_proxy_that_hangs_is_not_the_cluster(server: Server, kube: Kube) -> None:
    path = "/api/v1/namespaces/app/services/http:x:80/proxy/"
    over = threading.Event()
    server.routes[f"GET {path}"] = lambda: (200, str(over.wait(60)))
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


def test_an_exec_plugin_that_fails_says_why(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
