"""HTTP by the byte: what comes back is read strictly, and how a connection ended is told."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tasks.lib import rawhttp
from tasks.lib.rawhttp import Address, Response

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("data", "closed", "responses", "rest"),
    [
        (OK, False, [(200, b"ok")], b""),
        (OK + OK, False, [(200, b"ok"), (200, b"ok")], b""),
        (OK + b"x", False, [(200, b"ok")], b"x"),
        (OK[:-1], False, [], OK[:-1]),
        (OK[:20], True, [], OK[:20]),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, False, [(200, b"ok")], b""),
        (b"HTTP/1.1 204 No\r\n\r\n" + OK, False, [(204, b""), (200, b"ok")], b""),
        (b"HTTP/1.1 200 OK\r\n\r\nrest", True, [(200, b"rest")], b""),
        (b"HTTP/1.1 200 OK\r\n\r\nrest", False, [], b"HTTP/1.1 200 OK\r\n\r\nrest"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\n\r\n", False, [(200, b"ok")], b""),
        (b"HTTP/1.1 400\r\nContent-Length: 0\r\n\r\n", False, [(400, b"")], b""),
        (b"<html>\r\n\r\n", True, [], b"<html>\r\n\r\n"),
    ],
)
def test_responses_are_told_from_what_is_none(
    data: bytes, closed: bool, responses: list[tuple[int, bytes]], rest: bytes
) -> None:
    found, left = rawhttp.parse(data, closed=closed)
    assert [(each.status, each.body) for each in found] == responses
    assert left == rest


def test_names_of_headers_are_small() -> None:
    (found,) = rawhttp.parse(b"HTTP/1.1 404 No\r\nX-A:  b \r\nContent-Length: 0\r\n\r\n", closed=False)[0]
    assert found == Response(status=404, headers={"x-a": "b", "content-length": "0"})


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[Address]:
    """Answer one connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def body() -> None:
            with server.accept()[0] as opened:
                answer(opened)

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        yield Address.of(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join(5)


def echo(opened: socket.socket) -> None:
    opened.sendall(OK + OK)
    while opened.recv(100):
        pass


def test_one_answer_too_many_is_heard() -> None:
    with serving(echo) as address:
        found = rawhttp.exchange(address, [b"GET"], wait_s=5, linger_s=0.05)
    assert found.statuses == (200, 200)
    assert str(found) == "HTTP 200 ok, HTTP 200 ok, silent"


def hang_up(opened: socket.socket) -> None:
    opened.recv(100)


def listen_on(opened: socket.socket) -> None:
    while opened.recv(100):
        pass


def test_how_it_ended_is_told() -> None:
    with serving(hang_up) as address:
        assert rawhttp.exchange(address, [b"GET"], wait_s=5).ended == "closed"
    assert rawhttp.exchange(address, [b"GET"], wait_s=5).ended.startswith("refused")
    with serving(listen_on) as address:
        silent = rawhttp.exchange(address, [b"GET"], wait_s=0.05)
    assert (silent.ended, silent.responses) == ("silent", ())


def certificate(folder: Path, name: str) -> Path:
    """Write a key and a certificate for a name that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "both.pem"
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


def test_over_tls_the_certificate_has_to_be_right(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "one.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    trusted = ssl.create_default_context(cafile=pem)

    def answer(opened: socket.socket) -> None:
        with suppress(OSError), server.wrap_socket(opened, server_side=True) as encrypted:
            encrypted.recv(100)
            encrypted.sendall(OK)

    for name, came in (("one.example", (200,)), ("another.example", ())):
        with serving(answer) as address:
            found = rawhttp.exchange(replace(address, trusted=trusted, name=name), [b"GET"], wait_s=5)
        assert found.statuses == came, str(found)
    assert found.ended.startswith("refused")
    assert "certificate is not valid for 'another.example'" in found.ended
