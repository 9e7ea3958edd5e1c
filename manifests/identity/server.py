"""Publishes a JSON Web Key Set: GET /.well-known/jwks.json, /healthz, /metrics, and nothing else.

Standard library only: its image holds Python and no more. It reads one file, and reads it again when it has changed.
It holds nothing secret, and refuses to publish a file that does. A request has no body, a small head, and little time;
what it was is counted and not logged, so that a token that somebody sends along is nowhere.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import re
import signal
import socket
import sys
import time
from collections import Counter
from http import HTTPStatus
from pathlib import Path

JWKS, HEALTH, METRICS = "/.well-known/jwks.json", "/healthz", "/metrics"
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""Members of a JSON Web Key that are not public (RFC 7518, section 6)."""

MOST_FILE = 256 * 1024
METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
VERSION = re.compile(r"HTTP/1\.[01]")
FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)")


def log(event: str, **facts: object) -> None:
    """Write one line of JSON."""
    print(json.dumps({"event": event, **facts}), flush=True)


class KeySet:
    """The file, as it was when it was last good."""

    def __init__(self, path: Path, *, pause_s: float = 1.0) -> None:
        self.path, self.pause_s = path, pause_s
        self.body, self.etag, self.keys = b"", "", 0
        self.loads = self.failures = 0
        self.loaded_at = 0.0
        self._seen: tuple[int, ...] = ()
        self._asked = -pause_s

    @property
    def good(self) -> bool:
        """Whether there is anything to publish."""
        return bool(self.etag)

    def refresh(self) -> None:
        """Read the file if it has changed; look once in `pause_s` at most. A bad one changes nothing and is counted."""
        now = time.monotonic()
        if now - self._asked < self.pause_s:
            return
        self._asked = now
        try:
            found = self.path.stat()
            stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if stamp == self._seen:
                return
            self._seen = stamp
            with self.path.open("rb") as file:
                body = file.read(MOST_FILE + 1)
            ids = check(body)
        except (OSError, ValueError) as error:
            self.failures += 1
            log("not published", reason=error.strerror if isinstance(error, OSError) else str(error))
            return
        if body != self.body:
            self.body, self.keys = body, len(ids)
            self.etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            self.loads += 1
            self.loaded_at = time.time()
            log("published", keys=ids)


def check(body: bytes) -> list[str]:
    """Return the ids of a key set. Raises ValueError for what is none, or must not be public; says nothing of it."""
    if len(body) > MOST_FILE:
        raise ValueError("the file is too large")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the file is not JSON") from None
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or not keys:
        raise ValueError("the file is not a set of keys")
    ids = []
    for key in keys:
        if not (isinstance(key, dict) and isinstance(key.get("kid"), str) and isinstance(key.get("kty"), str)):
            raise ValueError("a key has no id or no type")  # noqa: TRY004 (of a file, not of an argument)
        if PRIVATE & set(key):
            raise ValueError("a key is not public")
        ids.append(key["kid"])
    if len(set(ids)) != len(ids):
        raise ValueError("two keys have the same id")
    return ids


class Refusal(Exception):  # noqa: N818 (named like an answer)
    """A request that is answered with an error, and ends the connection."""

    def __init__(self, status: int, *, head: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.head = status, head or {}


class Server:
    """One event loop; what a client can take of it is bounded in bytes, seconds and number."""

    def __init__(
        self,
        keys: KeySet,
        *,
        most_head: int = 8192,
        head_s: float = 5.0,
        idle_s: float = 30.0,
        write_s: float = 5.0,
        most: int = 256,
        drain_s: float = 5.0,
    ) -> None:
        self.keys = keys
        self.most_head, self.head_s, self.idle_s, self.write_s = most_head, head_s, idle_s, write_s
        self.most, self.drain_s = most, drain_s
        self.requests: Counter[tuple[str, int]] = Counter()
        self.refused = self.open = 0
        self.draining = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, listening: socket.socket, stop: asyncio.Event) -> None:
        """Answer until told to stop; then say unhealthy for a while, so that no new request comes, and end."""
        server = await asyncio.start_server(self._connected, sock=listening, limit=self.most_head)
        log("listening", port=listening.getsockname()[1])
        await stop.wait()
        self.draining = True
        log("draining", seconds=self.drain_s)
        await asyncio.sleep(self.drain_s)
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        log("ended")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.open >= self.most:
            self.refused += 1
            writer.transport.abort()
            return
        self.open += 1
        if task := asyncio.current_task():
            self._tasks.add(task)
        try:
            await self._talk(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client went away, or took too long to read
        finally:
            self.open -= 1
            self._tasks = {each for each in self._tasks if each is not task}
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wait_s, more = self.head_s, True
        while more:
            first = await asyncio.wait_for(reader.read(1), wait_s)
            if not first:
                return
            try:
                path, fields, more = self._parsed(first + await self._head(reader))
                status, head, body = self._answer(path, fields)
            except Refusal as error:
                path, more, status, head = "other", False, error.status, error.head
                body = _json({"error": HTTPStatus(status).phrase})
                head = {"Content-Type": "application/json", **head}
            self.requests[path if path in (JWKS, HEALTH, METRICS) else "other", status] += 1
            more = more and not self.draining
            writer.write(_reply(status, head, body, more=more))
            await asyncio.wait_for(writer.drain(), self.write_s)
            wait_s = self.idle_s
        await self._close(reader, writer)

    async def _close(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """End in a way that lets the client read the answer: what it still sends is taken for a moment, not kept."""
        with contextlib.suppress(OSError, TimeoutError):
            writer.write_eof()
            async with asyncio.timeout(1.0):
                while await reader.read(4096):
                    pass

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.head_s)
        except TimeoutError:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT) from None
        except asyncio.LimitOverrunError:
            raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None

    @staticmethod
    def _parsed(data: bytes) -> tuple[str, dict[str, str], bool]:
        """Return path, fields, and whether the connection may go on. Whatever is not plain is refused."""
        lines = data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not METHOD.fullmatch(words[0]) or not VERSION.fullmatch(words[2]):  # noqa: PLR2004
            raise Refusal(HTTPStatus.BAD_REQUEST)
        fields: dict[str, str] = {}
        for line in lines[1:]:
            match = FIELD.fullmatch(line)
            if not match:
                raise Refusal(HTTPStatus.BAD_REQUEST)
            name = match[1].lower()
            fields[name] = f"{fields[name]}, {match[2]}" if name in fields else match[2].rstrip()
        path = words[1].partition("?")[0]
        if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if path in (JWKS, HEALTH, METRICS) and words[0] != "GET":
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, head={"Allow": "GET"})
        keep = "keep-alive" if words[2] == "HTTP/1.0" else "close"
        asked = fields.get("connection", "").lower()
        return path, fields, (asked == keep) == (words[2] == "HTTP/1.0")

    def _answer(self, path: str, fields: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        self.keys.refresh()
        if path == JWKS and self.keys.good:
            head = {"ETag": self.keys.etag, "Cache-Control": "public, max-age=60"}
            if _matches(fields.get("if-none-match", ""), self.keys.etag):
                return HTTPStatus.NOT_MODIFIED, head, b""
            return HTTPStatus.OK, {**head, "Content-Type": "application/jwk-set+json"}, self.keys.body
        if path == JWKS:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"Content-Type": "application/json"}, _json({"error": "No keys yet"})
        if path == HEALTH:
            fine = self.keys.good and not self.draining
            status = HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE
            return status, {"Content-Type": "application/json"}, _json({"healthy": fine, "keys": self.keys.keys})
        if path == METRICS:
            return HTTPStatus.OK, {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}, self._metrics()
        return HTTPStatus.NOT_FOUND, {"Content-Type": "application/json"}, _json({"error": "Not Found"})

    def _metrics(self) -> bytes:
        keys = self.keys
        lines = ["# HELP jwt_server_requests_total Requests by path and status.",
                 "# TYPE jwt_server_requests_total counter"]  # fmt: skip
        lines += [
            f'jwt_server_requests_total{{path="{path}",code="{int(status)}"}} {count}'
            for (path, status), count in sorted(self.requests.items())
        ]
        for name, kind, text, value in (
            ("connections", "gauge", "Connections that are open.", self.open),
            ("connections_refused_total", "counter", "Connections that were one too many.", self.refused),
            ("keys", "gauge", "Keys that are published.", keys.keys),
            ("loads_total", "counter", "Key sets that were read and published.", keys.loads),
            ("load_failures_total", "counter", "Files that were no key set to publish.", keys.failures),
            ("loaded_timestamp_seconds", "gauge", "When the key set was read.", keys.loaded_at),
        ):
            full = f"jwt_server_{name}"
            lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}", f"{full} {value}"]
        return ("\n".join(lines) + "\n").encode()


def _matches(given: str, etag: str) -> bool:
    return given.strip() == "*" or etag in [each.strip().removeprefix("W/") for each in given.split(",")]


def _json(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _reply(status: int, head: dict[str, str], body: bytes, *, more: bool) -> bytes:
    lines = [f"HTTP/1.1 {int(status)} {HTTPStatus(status).phrase}"]
    if status != HTTPStatus.NOT_MODIFIED:
        head = {**head, "Content-Length": str(len(body))}
    head = {**head, "X-Content-Type-Options": "nosniff", "Connection": "keep-alive" if more else "close"}
    lines += [f"{name}: {value}" for name, value in head.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def listen(port: int) -> socket.socket:
    """Listen on every address, of both families where there are two."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


async def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="Publishes a JSON Web Key Set.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", type=Path, required=True)
    given = parser.parse_args(arguments)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Server(KeySet(given.file)).serve(listen(given.port), stop)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
