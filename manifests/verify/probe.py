"""Runs in a probe pod of `invoke verify`, with nothing but Python's own library.

Its one argument is an order as JSON. {"listen": PORT} accepts connections. {"ways": [...]} tries each way again and
again, all ways of a round at once, and prints one line of JSON for each attempt: what became of the connection, and of
the request over it where the way has a path. Both end after `seconds`, with exit status 0.
"""

import errno
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)
MOST_BODY = 2000


def listen(order: dict[str, Any]) -> None:
    """Accept connections, say something, and close them."""
    server = socket.create_server(("", order["listen"]), backlog=64)
    server.settimeout(0.5)
    until = time.monotonic() + order["seconds"]
    while time.monotonic() < until:
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        with connection:
            connection.sendall(b"here\n")
    server.close()


def connect(way: dict[str, Any], connect_s: float) -> tuple[socket.socket | None, str]:
    """Return the socket, or None, and what became of the connection in one word or two."""
    try:
        return socket.create_connection((way["host"], way["port"]), connect_s), "connected"
    except TimeoutError:
        return None, "timed out"
    except socket.gaierror as error:
        return None, f"no such name: {error.strerror}"
    except ConnectionRefusedError:
        return None, "refused"
    except OSError as error:
        return None, "unreachable" if error.errno in UNREACHABLE else f"error: {error}"


def ask(way: dict[str, Any], opened: socket.socket, answer_s: float) -> dict[str, Any]:
    """Send the request of a way over an open connection; return status, body and error."""
    client = http.client.HTTPConnection(way["host"], way["port"], timeout=answer_s)
    client.sock = opened
    opened.settimeout(answer_s)
    headers = {"Content-Type": "application/json"}
    if way.get("host_header"):
        headers["Host"] = way["host_header"]
    if way.get("bearer") and os.environ.get("TOKEN"):
        headers["Authorization"] = f"Bearer {os.environ['TOKEN']}"
    body = None if way.get("body") is None else json.dumps(way["body"])
    try:
        client.request(way.get("method", "GET"), way["path"], body=body, headers=headers)
        reply = client.getresponse()
        return {"status": reply.status, "body": reply.read(MOST_BODY).decode(errors="replace")}
    except (OSError, http.client.HTTPException) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def attempt(way: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    """Try one way once."""
    begun = time.monotonic()
    opened, word = connect(way, order["connect_s"])
    found: dict[str, Any] = {"way": way["name"], "connect": word}
    if opened is not None:
        with opened:
            if way.get("path"):
                found.update(ask(way, opened, order["answer_s"]))
    found["elapsed_s"] = round(time.monotonic() - begun, 3)
    return found


def one_round(order: dict[str, Any], number: int) -> None:
    """Try all ways at once, and print what became of each."""
    lines: list[dict[str, Any]] = []

    def body(way: dict[str, Any]) -> None:
        lines.append({"round": number, **attempt(way, order)})

    threads = [threading.Thread(target=body, args=(way,), daemon=True) for way in order["ways"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for line in lines:
        print(json.dumps(line), flush=True)


def call(order: dict[str, Any], stop: threading.Event) -> None:
    """Go round after round until it is time to end."""
    until = time.monotonic() + order["seconds"]
    number = 0
    while time.monotonic() < until and not stop.is_set():
        number += 1
        begun = time.monotonic()
        one_round(order, number)
        stop.wait(max(0.0, order["interval_s"] - (time.monotonic() - begun)))


def main(text: str) -> None:
    """Do what the order says. The first process of a container ignores SIGTERM unless it handles it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    order = json.loads(text)
    if "listen" in order:
        listen(order)
    else:
        call(order, threading.Event())


if __name__ == "__main__":
    main(sys.argv[1])
