"""Runs in a probe pod of `invoke verify` and prints what the limiter has counted, with Python's own library alone.

Its one argument is a file with an order as JSON. Again and again the keys that begin with one of `prefixes` are read
from Redis, over mutual TLS; there is one line of JSON for each reading. It ends after `seconds`, with exit status 0.
"""

import json
import signal
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

ANSWER_S = 5.0


def command(stream: BinaryIO, *words: str) -> Any:  # noqa: ANN401 (any value)
    """Send a command of Redis and return the answer."""
    parts = [word.encode() for word in words]
    sent = b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)])
    stream.write(sent)
    stream.flush()
    return answer(stream)


def answer(stream: BinaryIO) -> Any:  # noqa: ANN401 (any value)
    """Read one value of Redis's protocol: text, a number, nothing, or a list of them."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError("Redis closed the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise OSError(rest.decode())
    if kind == b"+":
        return rest.decode()
    size = int(rest)
    if kind == b":" or size < 0:
        return size if kind == b":" else None
    if kind == b"*":
        return [answer(stream) for _ in range(size)]
    return stream.read(size + 2)[:-2].decode()


def counted(stream: BinaryIO, prefix: str) -> dict[str, int]:
    """Return each key that begins with `prefix`, and its number."""
    found: dict[str, int] = {}
    cursor = "0"
    while True:
        cursor, keys = command(stream, "SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", "1000")
        for key in keys:
            if (value := command(stream, "GET", key)) is not None:
                found[key] = int(value)
        if cursor == "0":
            return found


def dial(order: dict[str, Any]) -> BinaryIO:
    """Connect as the limiter does: both sides show a certificate."""
    folder = Path(order["certificates"])
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    opened = socket.create_connection((order["host"], order["port"]), ANSWER_S)
    return context.wrap_socket(opened, server_hostname=order["host"]).makefile("rwb")


def main(path: str) -> None:
    """Read until it is time to end. The first process of a container ignores SIGTERM unless it handles it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    order = json.loads(Path(path).read_text(encoding="utf-8"))
    until, number = time.monotonic() + order["seconds"], 0
    while time.monotonic() < until:
        number += 1
        line: dict[str, Any] = {"reading": number}
        try:
            with dial(order) as stream:
                line["counted"] = {prefix: counted(stream, prefix) for prefix in order["prefixes"]}
        except (OSError, EOFError) as error:
            line["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(line), flush=True)
        time.sleep(order["interval_s"])


if __name__ == "__main__":
    main(sys.argv[1])
