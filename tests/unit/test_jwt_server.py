"""The program that publishes the key set, over real connections: what it answers, refuses, bounds, and picks up."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from tasks.lib import identity, keys
from tests import programs

PROGRAM = Path(__file__).parents[2] / "manifests/identity/server.py"
JWKS = "/.well-known/jwks.json"


program = programs.load(PROGRAM)


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    head: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def key_set() -> str:
    return str(identity.jwks_map(keys.jwks(keys.new_ring()))["data"]["jwks"])


class Running:
    """The server in a thread of its own."""

    def __init__(self, path: Path, **limits: Any) -> None:
        self.path = path
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.server = program.Server(program.KeySet(path, pause_s=0.0), **{"drain_s": 0.0, **limits})
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    async def _main(self) -> None:
        self.stop, self.loop = asyncio.Event(), asyncio.get_running_loop()
        self._up.set()
        await self.server.serve(self.socket, self.stop)

    def tell_to_stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.tell_to_stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send(self, data: bytes) -> Answer:
        with self.connect() as client:
            client.sendall(data)
            return read(client)

    def get(self, path: str, method: str = "GET", **fields: str) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{k.replace('_', '-')}: {v}" for k, v in fields.items())]
        return self.send("\r\n".join([*lines, "", ""]).encode())


def read(client: socket.socket) -> Answer:
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(65536)
        assert more, f"closed after {data!r}"
        data += more
    first, _, body = data.partition(b"\r\n\r\n")
    status, *lines = first.decode().split("\r\n")
    head = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(head.get("content-length", "0")):
        body += client.recv(65536)
    return Answer(status=int(status.split()[1]), head=head, body=body)


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks"
    path.write_text(key_set())
    return path


@pytest.fixture(name="running")
def _running(file: Path) -> Iterator[Running]:
    with Running(file, head_s=0.4, idle_s=1.0) as running:
        yield running


def test_the_key_set_is_published_as_it_is(running: Running) -> None:
    found = running.get(JWKS)
    assert (found.status, found.body) == (200, running.path.read_bytes())
    assert found.head["content-type"] == "application/jwk-set+json"
    assert found.head["cache-control"] == "public, max-age=60"
    assert running.get(f"{JWKS}?now").body == found.body


def test_an_etag_saves_the_body(running: Running) -> None:
    etag = running.get(JWKS).head["etag"]
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        found = running.get(JWKS, If_None_Match=given)
        assert (found.status, found.body, found.head["etag"]) == (304, b"", etag)
    assert running.get(JWKS, If_None_Match='"other"').status == 200


@pytest.mark.parametrize(
    "path", ["/", "/token", f"{JWKS}/", "//.well-known/jwks.json", "/.WELL-KNOWN/jwks.json", "*", "/%00"]
)
def test_nothing_else_is_there(running: Running, path: str) -> None:
    found = running.get(path)
    assert (found.status, found.json) == (404, {"error": "Not Found"})
    assert found.head["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get"])
@pytest.mark.parametrize("path", [JWKS, "/healthz", "/metrics"])
def test_nothing_but_get(running: Running, method: str, path: str) -> None:
    found = running.get(path, method)
    assert (found.status, found.json, found.head["allow"]) == (405, {"error": "Method Not Allowed"}, "GET")
    assert found.head["connection"] == "close"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET " + b"/x" * 5000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n", 431),
        (b"x" * 20000, 431),
        (f"GET {JWKS} HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".encode(), 413),
        (f"GET {JWKS} HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\n".encode(), 413),
        (f"GET {JWKS} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(), 413),
        (f"POST {JWKS} HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n".encode() + b"x" * 300_000, 413),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbroken\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    ],
)
def test_what_is_not_plain_is_refused_in_json(running: Running, data: bytes, status: int) -> None:
    found = running.send(data)
    assert (found.status, found.head["connection"]) == (status, "close")
    assert set(found.json) == {"error"}
    assert running.get("/healthz").status == 200


def test_a_slow_client_is_told_in_time_however_it_drips(running: Running) -> None:
    begun = time.monotonic()
    with running.connect() as client:
        found = None
        for byte in b"GET / HTTP/1.1\r\nX: " + b"y" * 50:
            try:
                client.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.05)
            if time.monotonic() - begun > 1.0:
                break
        found = read(client)
    assert found.status == 408
    assert time.monotonic() - begun < 3


def test_a_client_that_says_nothing_is_let_go(running: Running) -> None:
    with running.connect() as client:
        begun = time.monotonic()
        with pytest.raises(ConnectionResetError):
            assert client.recv(1) == b"", "a reset or an end"
            raise ConnectionResetError
        assert time.monotonic() - begun < 3
    assert running.get("/healthz").status == 200


def test_a_connection_is_used_again_unless_told_otherwise(running: Running) -> None:
    with running.connect() as client:
        for _ in range(3):
            client.sendall(f"GET {JWKS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert read(client).head["connection"] == "keep-alive"
        client.sendall(f"GET {JWKS} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        assert read(client).head["connection"] == "close"
        assert client.recv(1) == b""
    assert running.send(f"GET {JWKS} HTTP/1.0\r\n\r\n".encode()).head["connection"] == "close"


def test_connections_are_bounded_and_come_back(file: Path) -> None:
    with Running(file, most=2, head_s=0.5) as running:
        held = [running.connect() for _ in range(2)]
        for each in held:
            each.sendall(b"G")
        until(lambda: running.server.open == 2)
        with running.connect() as third, pytest.raises(OSError):  # noqa: PT011 (reset, or broken, as it comes)
            third.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert third.recv(1) == b"", "refused"
            raise ConnectionResetError
        for each in held:
            each.close()
        until(lambda: running.server.open == 0)
        assert running.get("/healthz").status == 200
        assert b"jwt_server_connections_refused_total 1\n" in running.get("/metrics").body


def test_a_file_that_changes_as_a_mount_does_is_picked_up(tmp_path: Path) -> None:
    """The kubelet writes a new folder, and moves a link to it over the old one."""
    first, second = key_set(), key_set()
    for name, text in (("1", first), ("2", second)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "jwks").write_text(text)
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "jwks").symlink_to("..data/jwks")
    with Running(tmp_path / "jwks") as running:
        before = running.get(JWKS)
        (tmp_path / "new").symlink_to("2")
        (tmp_path / "new").rename(tmp_path / "..data")
        after = running.get(JWKS, If_None_Match=before.head["etag"])
    assert (before.body.decode(), after.body.decode(), after.status) == (first, second, 200)


@pytest.mark.parametrize(
    "text",
    [
        "", "no JSON", "[]", "{}", '{"keys": []}', '{"keys": [{"kty": "EC"}]}', '{"keys": [1]}', "[" * 100_000,
        '{"keys": [{"kty": "EC", "kid": "a", "d": "secret"}]}', '{"keys": [{"kty": "oct", "kid": "a", "k": "secret"}]}',
        '{"keys": [{"kty": "EC", "kid": "a"}, {"kty": "EC", "kid": "a"}]}', " " * 300_000,
    ],
)  # fmt: skip
def test_a_bad_file_changes_nothing_and_is_not_shown(
    running: Running, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = running.get(JWKS).body
    replacement = running.path.with_name("new")
    replacement.write_text(text)
    replacement.rename(running.path)
    for _ in range(2):
        assert running.get(JWKS).body == before
    assert running.get("/healthz").status == 200
    assert b"jwt_server_load_failures_total 1\n" in running.get("/metrics").body
    said = capsys.readouterr().out
    assert said.count("not published") == 1
    assert "secret" not in said


def test_without_a_key_set_it_is_not_healthy_until_there_is_one(tmp_path: Path) -> None:
    with Running(tmp_path / "jwks") as running:
        assert running.get(JWKS).status == running.get("/healthz").status == 503
        (tmp_path / "jwks").write_text(key_set())
        assert running.get("/healthz").json == {"healthy": True, "keys": 3}


def test_metrics_count_by_path_and_status_and_their_names_are_bounded(running: Running) -> None:
    for path in (JWKS, JWKS, "/a", "/b", "/healthz"):
        running.get(path)
    running.get(JWKS, "POST")
    text = running.get("/metrics").body.decode()
    assert f'jwt_server_requests_total{{path="{JWKS}",code="200"}} 2\n' in text
    assert 'jwt_server_requests_total{path="other",code="404"} 2\n' in text
    assert 'jwt_server_requests_total{path="other",code="405"} 1\n' in text
    assert "jwt_server_keys 3\n" in text
    for line in text.splitlines():
        assert line.startswith("# ") or len(line.rsplit(" ", 1)) == 2


def test_what_a_client_sends_is_not_logged(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    running.get("/tell-nobody", Authorization="Bearer tell-nobody")
    running.send(b"tell-nobody\r\n\r\n")
    assert "tell-nobody" not in capsys.readouterr().out


def test_when_told_to_stop_it_answers_on_and_says_that_it_goes(file: Path) -> None:
    with Running(file, drain_s=1.0) as running:
        running.get(JWKS)
        running.tell_to_stop()
        until(lambda: running.server.draining)
        assert running.get("/healthz").status == 503
        found = running.get(JWKS)
        assert (found.status, found.head["connection"]) == (200, "close")


def test_it_runs_alone_and_ends_by_sigterm(file: Path) -> None:
    import signal
    import subprocess
    import sys

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-I", "-B", str(PROGRAM), "--port", str(port), "--file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["event"] == "listening"
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(f"GET {JWKS} HTTP/1.1\r\n\r\n".encode())
            assert read(client).body == file.read_bytes()
        process.send_signal(signal.SIGTERM)
        events = [json.loads(line)["event"] for line in process.stdout]
        assert process.wait(20) == 0
    assert events == ["published", "draining", "ended"]


def until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.01)
