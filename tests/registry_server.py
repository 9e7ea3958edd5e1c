"""A container registry in this process, on loopback: just enough of its API for our client to push to."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit


class RegistryServer:
    """Keeps what is pushed. `writes` lists what was sent; `refuse` makes it answer 403 to every write."""

    def __init__(self) -> None:
        self.blobs: set[tuple[str, str]] = set()
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.writes: list[str] = []
        self.refuse = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        state = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._answer(200)

            def do_HEAD(self) -> None:
                if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", self.path):
                    body = state.manifests.get((found[1], found[2]))
                    digest = f"sha256:{hashlib.sha256(body).hexdigest()}" if body else ""
                    self._answer(200 if body else 404, {"Docker-Content-Digest": digest})
                elif found := re.fullmatch(r"/v2/(.+)/blobs/(.+)", self.path):
                    self._answer(200 if (found[1], found[2]) in state.blobs else 404)

            def do_POST(self) -> None:
                where = urlsplit(self.path)
                query = parse_qs(where.query)
                repository = where.path.removeprefix("/v2/").removesuffix("/blobs/uploads/")
                if state.refuse:
                    self._answer(403)
                elif "mount" in query and (query["from"][0], query["mount"][0]) in state.blobs:
                    state.blobs.add((repository, query["mount"][0]))
                    self._answer(201)
                else:
                    self._answer(202, {"Location": f"/v2/{repository}/blobs/uploads/1?state=x"})

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                where = urlsplit(self.path)
                if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", where.path):
                    state.manifests[(found[1], found[2])] = body
                    state.writes.append(f"PUT {found[2]}")
                    self._answer(201)
                    return
                digest = parse_qs(where.query)["digest"][0]
                right = digest == f"sha256:{hashlib.sha256(body).hexdigest()}"
                state.blobs.add((where.path.removeprefix("/v2/").partition("/blobs/")[0], digest))
                state.writes.append(f"PUT {digest}")
                self._answer(201 if right else 400)

            def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

        return Handler
