"""An API server of a few canned answers, over real HTTP on this machine, and a kubeconfig that points at it."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]

CORE = {
    "resources": [
        {"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": ["get", "list", "delete"]},
        {"name": "namespaces", "kind": "Namespace", "namespaced": False, "verbs": ["get", "list", "delete"]},
        {"name": "pods/log", "kind": "Pod", "namespaced": True, "verbs": ["get"]},
        {"name": "events", "kind": "Event", "namespaced": True, "verbs": ["get", "list", "delete"]},
    ]
}
"""What the core group serves here."""

_NOWHERE = (404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": "not found", "details": {}})


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
        found: Answer | Callable[[], Answer] = self.server.routes.get(f"{self.command} {url.path}", _NOWHERE)
        code, content, *more = found if isinstance(found, tuple) else found()
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
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a client that no longer waits
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


@contextmanager
def running() -> Iterator[Server]:
    """Serve until the block ends."""
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
