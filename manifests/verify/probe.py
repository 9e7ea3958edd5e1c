"""Runs in a probe pod of `invoke verify`, with nothing but Python's own library.

Its one argument is a file with an order as JSON. `listen` is a port on which connections are accepted. `ways` are tried
again and again, all ways of a round at once, and there is one line of JSON for each attempt: what became of the
connection, and of the request over it where the way has a path. It ends after `seconds`, with exit status 0.
"""

import errno
import http.client
import json
import queue
import signal
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)
MOST_BODY = 4000
WORKERS = 32
TOLD_HEADERS = ("retry-after", "x-ratelimit-limit", "www-authenticate")
MESH_PROTOCOLS = ["istio-http/1.1", "istio", "istio-peer-exchange"]
HERE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhere\n"


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
            connection.sendall(HERE)
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
    """Send the request of a way over an open connection; return status, body, some headers and error."""
    client = http.client.HTTPConnection(way["host"], way["port"], timeout=answer_s)
    client.sock = opened
    opened.settimeout(answer_s)
    headers = {"Content-Type": "application/json", **(way.get("headers") or {})}
    if agent := headers.get("User-Agent"):  # told apart, round by round, in the logs of whoever it meets
        headers["User-Agent"] = f"{agent}/{way['round']}"
    if way.get("host_header"):
        headers["Host"] = way["host_header"]
    if way.get("token"):
        headers["Authorization"] = f"Bearer {way['token']}"
    body = None if way.get("body") is None else json.dumps(way["body"])
    try:
        client.request(way.get("method", "GET"), way["path"], body=body, headers=headers)
        reply = client.getresponse()
        told = {name: reply.headers[name] for name in TOLD_HEADERS if name in reply.headers}
        text = reply.read(MOST_BODY).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"status": reply.status, "body": text, "headers": told}


def greet(opened: socket.socket, answer_s: float) -> str:
    """Begin TLS as a stranger to the mesh, without a certificate, and return how that ended in a word or two.

    With TLS 1.3 a server says that it wants a certificate only after the handshake, so that has to be read; and nothing
    sent, because what it has not read makes it reset the connection, and what it said is lost.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(MESH_PROTOCOLS)
    opened.settimeout(answer_s)
    try:
        with context.wrap_socket(opened) as secured:
            return "answered" if secured.recv(1) else "closed"
    except ssl.SSLError as error:
        return str(error.reason or error).lower().replace("_", " ")
    except OSError as error:
        return f"{type(error).__name__}: {error}"


def attempt(way: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    """Try one way once."""
    begun = time.monotonic()
    opened, word = connect(way, order["connect_s"])
    found: dict[str, Any] = {"way": way["name"], "connect": word}
    if opened is not None:
        with opened:
            if way.get("path"):
                found.update(ask(way, opened, order["answer_s"]))
    if opened is not None and way.get("tls"):
        again, _ = connect(way, order["connect_s"])
        if again is not None:
            with again:
                found["tls"] = greet(again, order["answer_s"])
    found["elapsed_s"] = round(time.monotonic() - begun, 3)
    return found


def one_round(order: dict[str, Any], number: int) -> None:
    """Try all ways at once, as far as there are hands, and print what became of each."""
    lines: list[dict[str, Any]] = []
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    for way in order["ways"]:
        waiting.put(way)

    def body() -> None:
        while True:
            try:
                way = waiting.get_nowait()
            except queue.Empty:
                return
            lines.append({"round": number, **attempt({**way, "round": number}, order)})

    threads = [threading.Thread(target=body, daemon=True) for _ in range(min(WORKERS, len(order["ways"])))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("\n".join(json.dumps(line) for line in lines), flush=True)


def call(order: dict[str, Any], stop: threading.Event) -> None:
    """Go round after round until it is time to end."""
    until = time.monotonic() + order["seconds"]
    number = 0
    while time.monotonic() < until and not stop.is_set():
        number += 1
        begun = time.monotonic()
        one_round(order, number)
        stop.wait(max(0.0, order["interval_s"] - (time.monotonic() - begun)))


def main(path: str) -> None:
    """Do what the order says. The first process of a container ignores SIGTERM unless it handles it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    order = json.loads(Path(path).read_text(encoding="utf-8"))
    listener = threading.Thread(target=listen, args=(order,), daemon=True)
    if "listen" in order:
        listener.start()
    if "ways" in order:
        call(order, threading.Event())
    if "listen" in order:
        listener.join()


if __name__ == "__main__":
    main(sys.argv[1])
