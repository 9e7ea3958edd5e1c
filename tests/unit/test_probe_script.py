"""The script of the probe pods: each way a connection can come out is told apart. It runs as it does in a pod."""

import errno
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tasks.lib import probepods
from tests import programs

SCRIPT = Path(__file__).parents[2] / "manifests" / probepods.SCRIPT
ORDER = {"connect_s": 1.0, "answer_s": 1.0}


@pytest.fixture(name="probe", scope="module")
def _probe() -> ModuleType:
    return programs.load(SCRIPT)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def raises(error: Exception) -> Callable[..., socket.socket]:
    def connect(*_: object) -> socket.socket:
        raise error

    return connect


def way(port: int, **more: Any) -> dict[str, Any]:
    return {"name": "way", "host": "127.0.0.1", "port": port, **more}


def test_an_open_port_is_connected_and_a_closed_one_refused(probe: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = probe.attempt(way(server.getsockname()[1]), ORDER)
    assert (found["way"], found["connect"]) == ("way", "connected")
    assert probe.attempt(way(closed_port()), ORDER)["connect"] == "refused"


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (TimeoutError("timed out"), "timed out"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "refused"),
        (OSError(errno.EHOSTUNREACH, "no route"), "unreachable"),
        (OSError(errno.EPERM, "not permitted"), "unreachable"),
        (socket.gaierror(-2, "Name or service not known"), "no such name: Name or service not known"),
        (OSError(errno.EMFILE, "too many files"), f"error: [Errno {errno.EMFILE}] too many files"),
    ],
)
def test_every_other_end_has_its_own_word(
    probe: ModuleType, monkeypatch: pytest.MonkeyPatch, error: Exception, word: str
) -> None:
    monkeypatch.setattr(socket, "create_connection", raises(error))
    assert probe.attempt(way(1, path="/"), ORDER)["connect"] == word


class Answer(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        said = {
            "host": self.headers["Host"],
            "type": self.headers["Content-Type"],
            "body": self.rfile.read(length).decode(),
        }
        self.send_response(404 if self.path == "/missing" else 200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


def test_a_request_goes_out_as_it_was_ordered(probe: ModuleType) -> None:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        more = {"method": "POST", "path": "/v1", "host_header": "iris.example", "body": {"instances": [[1]]}}
        found = probe.attempt(way(server.server_port, **more), ORDER)
        missing = probe.attempt(way(server.server_port, method="POST", path="/missing"), ORDER)
    finally:
        server.shutdown()
        server.server_close()
    assert (found["connect"], found["status"]) == ("connected", 200)
    assert json.loads(found["body"]) == {
        "host": "iris.example", "type": "application/json", "body": '{"instances": [[1]]}',
    }  # fmt: skip
    assert missing["status"] == 404


def test_an_answer_that_does_not_come_is_not_a_closed_way(probe: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = probe.attempt(way(server.getsockname()[1], path="/"), {"connect_s": 1.0, "answer_s": 0.1})
    assert found["connect"] == "connected"
    assert "status" not in found
    assert "imed out" in found["error"]


def start(order: dict[str, Any], folder: Path) -> "subprocess.Popen[str]":
    file = folder / "order.json"
    file.write_text(json.dumps(order), encoding="utf-8")
    command = [sys.executable, "-c", SCRIPT.read_text(encoding="utf-8"), str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_pod_prints_rounds_that_are_read_as_attempts_and_ends_well(tmp_path: Path) -> None:
    ways = [
        probepods.Way(name="closed", host="127.0.0.1", port=closed_port()),
        probepods.Way(name="other", host="127.0.0.1", port=closed_port(), path="/"),
    ]
    out, _ = start({**probepods.call(ways), "seconds": 0.3, "interval_s": 0.05}, tmp_path).communicate(timeout=20)
    rounds = probepods.parse(out)
    assert len(rounds) >= 2
    assert [{name: str(each) for name, each in found.items()} for found in rounds[:2]] == [
        {"closed": "closed: refused", "other": "other: refused"}
    ] * 2
    assert probepods.closed(rounds, ["closed", "other"], "a pod") == ""


def test_a_listener_lets_in_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    port = closed_port()
    process = start(probepods.listen(port), tmp_path)
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as connection:
                    assert connection.recv(200).endswith(b"here\n")
                    break
            except ConnectionRefusedError:
                time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.communicate()
