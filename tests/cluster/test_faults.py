"""What is wrong with a machine or with what was typed: said in seconds, and nothing is begun."""

import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.cluster.platform import HTTP_PORT, Platform

pytestmark = pytest.mark.cluster

SECONDS = 60.0
"""A bound for a command that should answer at once; one that waits for something runs into it."""

NOWHERE = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def nothing_begun(platform: Platform) -> Iterator[None]:
    """No test of this file may leave a node."""
    if platform.nodes():
        pytest.skip("a cluster of an earlier run is there; these tests are about the time before")
    yield
    assert platform.nodes() == []


def test_a_port_that_is_taken_is_named_with_its_holder(platform: Platform) -> None:
    with socket.create_server(("127.0.0.1", HTTP_PORT)):
        result = platform.run("up", timeout_s=SECONDS)

    assert result.code == 3
    assert f"{HTTP_PORT}" in result.err
    assert f"pid {os.getpid()}" in result.err
    assert "try:" in result.err


def test_no_engine_is_said_and_none_is_installed_when_that_is_forbidden(platform: Platform, tmp_path: Path) -> None:
    result = platform.run("up", "--no-install", timeout_s=SECONDS, DOCKER_HOST=f"unix://{tmp_path}/docker.sock")

    assert result.code == 3
    assert "no daemon answers" in result.err or "there is no container engine" in result.err
    assert str(tmp_path) in result.err


def test_a_mirror_that_is_away_is_found_before_anything_is_fetched(platform: Platform) -> None:
    result = platform.run("up", "--source", "mirror", "--mirror", f"http://{NOWHERE}", timeout_s=SECONDS)

    assert result.code == 3
    assert NOWHERE in result.err


@pytest.fixture
def some_mirror() -> Iterator[str]:
    """An address that answers everything: a source that seems to work, for a cluster that is elsewhere."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Agreeable) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Agreeable(BaseHTTPRequestHandler):
    """Says yes."""

    def do_GET(self) -> None:
        """Answer 200 with nothing."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 (the base class's name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Say nothing."""


@pytest.mark.parametrize("command", ["up", "status", "verify", "tenant.list"])
def test_a_kubeconfig_that_leads_nowhere(platform: Platform, tmp_path: Path, some_mirror: str, command: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: gone\nusers: [{name: me, user: {token: x}}]\n"
        f'clusters: [{{name: away, cluster: {{server: "https://{NOWHERE}"}}}}]\n'
        "contexts: [{name: gone, context: {cluster: away, user: me}}]\n"
    )

    result = platform.run(
        command, "--provider", "existing", "--source", "mirror", "--mirror", some_mirror, timeout_s=SECONDS,
        INVOKE_BOX_KUBECONFIG=str(path),
    )  # fmt: skip

    assert result.code not in (0, 70)
    assert "Traceback" not in result.err
    assert NOWHERE in result.err + result.out


def test_malformed_yaml_is_named_with_its_line(platform: Platform) -> None:
    path = platform.folder / "config/tenants.yaml"
    before = path.read_text()
    path.write_text(f"{before}  - name: d\n    name: e\n")
    try:
        result = platform.run("up", timeout_s=SECONDS)
    finally:
        path.write_text(before)

    assert result.code == 2
    assert f"config/tenants.yaml:{len(before.splitlines()) + 2}" in result.err
