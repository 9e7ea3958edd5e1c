"""A small web server for tests: what is asked for, and how it goes wrong, are decided by the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(kw_only=True)
class Answer:
    """What is sent. `missing` bytes are promised and not sent."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    missing: int = 0


class Site:
    """Answers by path; everything else is 404. `asked` holds what came: (method, path, headers)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    def put(self, path: str, body: bytes, *, missing: int = 0, status: int = 200, **headers: str) -> str:
        """Serve an answer under a path; return its address. Underscores in header names stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = Answer(body=body, status=status, headers=named, missing=missing)
        return self.url + path

    def count(self, path: str) -> int:
        """Return how often a path was asked for."""
        return sum(asked == path for _, asked, _ in self.asked)


@contextmanager
def serve() -> Iterator[Site]:
    """Run a server on a free port while the body runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.site = site = Site(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        site.asked.append((self.command, self.path, dict(self.headers.items())))
        answer = site.answers.get(f"{self.command} {self.path}") or site.answers.get(self.path) or Answer(status=404)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) + answer.missing))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 (called by its name)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
