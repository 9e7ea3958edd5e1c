"""The model of a scratch tenant of `invoke verify`: says what reached it, with nothing but Python's own library.

Every request is answered with 200 and what it was: method, path, headers, and how long its body is. The same goes to
the log, one numbered line of JSON for each, so that what came in can be told from what was answered, and one line that
is read twice from two that are alike. A token is never repeated.
In a query, `hold=SECONDS` makes it take its time, and `drop` makes it close the connection without an answer.
"""

import itertools
import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PORT = 8080
MOST_HOLD_S = 200.0
MOST_BODY = 64 * 1024 * 1024

_written = threading.Lock()
_numbers = itertools.count(1)


class Echo(BaseHTTPRequestHandler):
    """Answers any method."""

    protocol_version = "HTTP/1.1"
    timeout = 120

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Answer every method alike: the base class looks for do_METHOD."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        """Say what came."""
        length = self.read_body()
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() != "authorization"}
        seen = {
            "method": self.command, "path": self.path, "headers": headers, "body_bytes": length,
            "authorized": "authorization" in self.headers,
        }  # fmt: skip
        with _written:
            print(json.dumps({"number": next(_numbers), "cell": headers.get("user-agent", ""), **seen}), flush=True)
        asked = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "hold" in asked:
            time.sleep(min(float(asked["hold"][0]), MOST_HOLD_S))
        if "drop" in asked:
            self.close_connection = True
            return
        reply = json.dumps({"echo": seen}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def read_body(self) -> int:
        """Read the body, by its length or by its chunks, and return how long it is."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunks()
        left = whole = min(int(self.headers.get("Content-Length") or 0), MOST_BODY)
        while left > 0 and (found := self.rfile.read(min(left, 65536))):
            left -= len(found)
        return whole - left

    def _read_chunks(self) -> int:
        whole = 0
        while (size := int(self.rfile.readline(64).split(b";")[0] or b"0", 16)) and whole < MOST_BODY:
            self.rfile.read(size + 2)
            whole += size
        self.rfile.readline(64)
        return whole

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Leave the log to what was answered."""


class Server(ThreadingHTTPServer):
    """Takes a crowd at once."""

    daemon_threads = True
    request_queue_size = 1024


if __name__ == "__main__":
    server = Server(("", PORT), Echo)
    # The first process of a container ignores SIGTERM unless it handles it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.serve_forever()
