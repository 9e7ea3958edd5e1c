"""Requests that no client means well with, and what has to come of each. Pure."""

from collections.abc import Sequence

from tasks.checks.trust import frames
from tasks.checks.trust.forge import BODY, Case, Forge, Target, Want

PATHS = ("/v1/models/echo:predict", "/v1/models/echo")
"""What a model may be asked for, however it was written."""

_STRANGE = """
//v1/models/echo:predict /v1//models/echo:predict /v1/models/echo%3apredict /v1/models%2fecho:predict
/v1/models%2Fecho:predict /v1%5cmodels/echo:predict /v1/models/echo:predict;x /v1/models/echo;x:predict
/V1/models/echo:predict /v1/models/ECHO:predict /v1/models/echo:predict/ /v1/models/echo:predict%00 * /metrics
/v1/models/echo:predict%0d%0ax-tenant:another /../metrics /%2e%2e/metrics /.%2e/metrics /%252e%252e/metrics
/v1/models/echo:predict/../../../../metrics /v1/models/%C0%AE%C0%AE/echo:predict /v1/models/echo:predict%
/v1/models/echo:predict%zz v1/models/echo:predict /v2/../metrics /v1/models/echo/../../../metrics
/v1/models/echo:predict/..;/metrics
"""
_SAME = r"""
/v1/./models/echo:predict /v1/x/../models/echo:predict /v1/%2e%2e/v1/models/echo:predict /v1/models\echo:predict
/v1/models/echo:predict#x /v1/models/ech%6f:predict /v1/models/echo:predict?x=/../..
"""

MOST_HEAD = 32 * 1024
MOST_BODY = 1024 * 1024


def cases(target: Target, run: str) -> list[Case]:
    """Return every case; `run` is the beginning of each mark."""
    forge = Forge(target=target, run=run)
    families = (_sizes, _lengths, _codings, _chunks, _text, _versions, _paths, _hosts, _rewrites, _bodies, frames.cases)
    return [case for family in families for case in family(forge)]


def _sizes(forge: Forge) -> Sequence[Case]:
    many = [f"x-h{number}: v" for number in range(500)]
    return [
        forge.case("sizes", "many headers", forge.whole(many), statuses=(431,)),
        forge.case("sizes", "huge header", forge.whole([f"x-h: {'a' * 2 * MOST_HEAD}"]), statuses=(431,)),
        forge.case("sizes", "huge name", forge.whole([f"{'a' * 2 * MOST_HEAD}: v"]), statuses=(431,)),
        forge.case("sizes", "huge target", forge.whole(target=f"/{'a' * 2 * MOST_HEAD}"), statuses=(431,)),
        forge.case("sizes", "huge token", forge.whole(token="a" * 2 * MOST_HEAD), statuses=(431,)),
        forge.case("sizes", "header within", forge.whole([f"x-h: {'a' * 8000}"]), want=Want.SERVED),
        forge.case("sizes", "huge body", forge.whole(body=b"a" * 4 * MOST_BODY), statuses=(413,)),
        forge.case(
            "sizes", "huge body and no token", forge.whole(body=b"a" * 4 * MOST_BODY, token=""), statuses=(401,)
        ),
        forge.case("sizes", "huge chunked body", forge.lines(["Transfer-Encoding: chunked"], _huge()), statuses=(413,)),
        forge.case("sizes", "body within", forge.whole(body=b"a" * (MOST_BODY - 1024)), want=Want.SERVED),
    ]


def _huge() -> bytes:
    piece = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    return piece * (4 * MOST_BODY // 0x10000) + b"0\r\n\r\n"


def _lengths(forge: Forge) -> Sequence[Case]:
    """Requests that are one to one parser, and two to another."""
    inner = forge.inner()
    chunked = "Transfer-Encoding: chunked"
    two = [f"Content-Length: {len(BODY)}", f"Content-Length: {len(BODY) + len(inner)}"]
    piece = b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
    wrong = {
        "plus": "+2",
        "minus": "-2",
        "hex": "0x2",
        "list": "2, 2",
        "overflow": "9" * 24,
        "word": "two",
        "space": "2 2",
    }
    return [
        forge.case("lengths", "CL before TE", forge.lines(["Content-Length: 5", chunked], b"0\r\n\r\n" + inner)),
        forge.case("lengths", "TE before CL", forge.lines([chunked, "Content-Length: 4"], piece)),
        forge.case("lengths", "two lengths", forge.lines(two, BODY + inner)),
        forge.case("lengths", "two lengths turned", forge.lines(two[::-1], BODY + inner)),
        forge.case("lengths", "one length twice", forge.lines([two[0], two[0]], BODY), want=Want.EITHER),
        *(
            forge.case("lengths", name, forge.lines([f"Content-Length: {each}"], b"{}" + inner))
            for name, each in wrong.items()
        ),
        forge.case("lengths", "pipelined", forge.whole() + forge.whole(), want=Want.TWICE),
        forge.case(
            "lengths",
            "GET with a body",
            forge.lines([f"Content-Length: {len(inner)}"], inner, method="GET", target="/v1/models/echo"),
            want=Want.EITHER,
        ),
    ]


def _codings(forge: Forge) -> Sequence[Case]:
    unknown = (
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "chunked;q=1",
        "gzip, chunked",
        "chunked, chunked",
        "\x0bchunked",
        "chunke",
    )
    known = {"tab": ":\tchunked", "tab after": ": chunked\t", "capitals": ": CHUNKED", "folded": ":\r\n chunked"}
    body, inner = b"2\r\n{}\r\n0\r\n\r\n", forge.inner()
    return [
        *(
            forge.case(
                "codings",
                repr(each).strip("'"),
                forge.lines([f"Transfer-Encoding: {each}"], body + inner),
                statuses=(400, 501),
            )
            for each in unknown
        ),
        *(
            forge.case("codings", name, forge.lines([f"Transfer-Encoding{each}"], body), want=Want.EITHER)
            for name, each in known.items()
        ),
        forge.case("codings", "space before colon", forge.lines(["Transfer-Encoding : chunked"], body + inner)),
        forge.case(
            "codings",
            "twice",
            forge.lines(["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], body + inner),
            statuses=(400, 501),
        ),
        forge.case(
            "codings",
            "underscore",
            forge.lines(["Transfer_Encoding: chunked", "Content-Length: 5"], b"0\r\n\r\n" + inner),
        ),
    ]


def _chunks(forge: Forge) -> Sequence[Case]:
    inner = forge.inner()
    bad = {
        "negative": b"-2\r\n{}\r\n0\r\n\r\n",
        "prefixed": b"0x2\r\n{}\r\n0\r\n\r\n",
        "plus": b"+2\r\n{}\r\n0\r\n\r\n",
        "overflow": b"10000000000000002\r\n{}\r\n0\r\n\r\n",
        "no end": b"2\r\n{}xx0\r\n\r\n",
        "empty size": b"\r\n{}\r\n0\r\n\r\n",
        "LF in extension": b"2;\n{}\r\n0\r\n\r\n",
        "underscore": b"1_0\r\n{}\r\n0\r\n\r\n",
    }
    fair = {
        "extension": b"2;a=b\r\n{}\r\n0\r\n\r\n",
        "space": b"2 \r\n{}\r\n0\r\n\r\n",
        "zeros": b"0000000002\r\n{}\r\n0\r\n\r\n",
        "trailer": b"2\r\n{}\r\n0\r\nx-tenant: another\r\nContent-Length: 9\r\n\r\n",
    }
    line = ["Transfer-Encoding: chunked"]
    return [
        *(forge.case("chunks", name, forge.lines(line, each + inner)) for name, each in bad.items()),
        *(
            forge.case("chunks", name, forge.lines(line, each), want=Want.EITHER, never=("x-tenant",))
            for name, each in fair.items()
        ),
    ]


def _text(forge: Forge) -> Sequence[Case]:
    bad = {
        "NUL": "x-a: a\x00b",
        "no name": ": v",
        "space in name": "x a: v",
        "no colon": "garbage",
        "underscore": "x_tenant: another",
        "bell in name": "x\x07a: v",
    }
    never = ("x-tenant", "knative-serving-namespace")
    fair = {
        "CR": "x-a: a\rx-tenant: another",
        "LF": "x-a: a\nx-tenant: another",
        "CRLF": "x-a: a\r\nx-tenant: another",
        "folded": "x-a: a\r\n x-tenant: another",
        "bytes": "x-a: \xff\xfe",
        "empty": "x-a:",
        "capitals": "X-TENANT: another",
        "Knative": "Knative-Serving-Namespace: another",
    }
    return [
        *(forge.case("text", name, forge.whole([each])) for name, each in bad.items()),
        *(
            forge.case("text", f"value {name}", forge.whole([each]), want=Want.EITHER, never=never)
            for name, each in fair.items()
        ),
        forge.case("text", "bare LF", forge.whole().replace(b"\r\n", b"\n"), want=Want.EITHER),
        forge.case("text", "two tokens", forge.whole(["Authorization: Bearer x"]), statuses=(400, 401)),
        forge.case("text", "token named by Connection", forge.whole(["Connection: authorization"]), want=Want.EITHER),
    ]


def _versions(forge: Forge) -> Sequence[Case]:
    websocket = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    h2c = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]
    odd = ("HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1x", "HTTP/1,1", "XTTP/1.1")
    return [
        *(forge.case("versions", each, forge.whole(version=each)) for each in odd),
        forge.case("versions", "HTTP 0.9", b"GET /\r\n\r\n"),
        forge.case("versions", "HTTP 1.0", forge.whole(version="HTTP/1.0"), want=Want.EITHER),
        forge.case("versions", "HTTP 1.0 without host", forge.whole(version="HTTP/1.0", host="")),
        forge.case(
            "versions",
            "HTTP 1.0 chunked",
            forge.lines(["Transfer-Encoding: chunked"], b"0\r\n\r\n" + forge.inner(), version="HTTP/1.0"),
        ),
        forge.case("versions", "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"A" * 64),
        forge.case("versions", "binary", bytes(range(256)) * 4 + b"\r\n\r\n"),
        forge.case("versions", "space in method", forge.whole(method="P OST")),
        forge.case("versions", "own method", forge.whole(method="PREDICT")),
        forge.case("versions", "TRACE", forge.lines(method="TRACE"), statuses=(404, 405)),
        forge.case("versions", "CONNECT", forge.lines(method="CONNECT", target=f"{forge.target.host}:80")),
        forge.case("versions", "OPTIONS of all", forge.lines(method="OPTIONS", target="*")),
        forge.case("versions", "websocket", forge.lines(websocket, method="GET", target="/v1/models/echo")),
        forge.case("versions", "h2c", forge.whole(h2c), want=Want.EITHER),
    ]


def _paths(forge: Forge) -> Sequence[Case]:
    """Ways to write a path. What a proxy makes into the model's own path may be answered; nothing else is there."""
    strange = [*_STRANGE.split(), "/v1/models/\xff:predict", "/v1/models/echo:predict x"]
    return [
        *(forge.case("paths", f"{number:02}", forge.whole(target=each)) for number, each in enumerate(strange)),
        *(
            forge.case("paths", f"same {number}", forge.whole(target=each), want=Want.EITHER)
            for number, each in enumerate(_SAME.split())
        ),
    ]


def _hosts(forge: Forge) -> Sequence[Case]:
    host, path, other, apart = forge.target.host, forge.target.path, forge.target.other, (forge.target.apart,)
    strange = (f"x@{host}", f"{host}/x", f"{host} x", f"{host}.", "localhost", "127.0.0.1", "[::1]", f"{host}\t{other}")
    return [
        *(forge.case("hosts", f"{number}", forge.whole(host=each)) for number, each in enumerate(strange)),
        forge.case("hosts", "none", forge.whole(host="")),
        forge.case("hosts", "two", forge.whole([f"Host: {other}"])),
        forge.case("hosts", "two turned", forge.whole([f"Host: {host}"], host=other)),
        forge.case("hosts", "other tenant", forge.whole(host=other), statuses=apart),
        forge.case("hosts", "absolute other tenant", forge.whole(target=f"http://{other}{path}"), statuses=apart),
        forge.case("hosts", "absolute stranger", forge.whole(target=f"http://stranger.example{path}")),
        forge.case("hosts", "absolute ftp", forge.whole(target=f"ftp://{host}{path}")),
        forge.case("hosts", "absolute https", forge.whole(target=f"https://{host}{path}"), want=Want.EITHER),
        forge.case("hosts", "absolute", forge.whole(target=f"http://{host}{path}"), want=Want.EITHER),
        forge.case("hosts", "no port", forge.whole(host=f"{host}:x"), want=Want.EITHER),
        forge.case("hosts", "capitals", forge.whole(host=host.upper()), want=Want.EITHER),
    ]


def _rewrites(forge: Forge) -> Sequence[Case]:
    """Headers by which some servers take another path, host or method. Without its own path nothing is found."""
    names = ("x-original-url", "x-rewrite-url", "x-envoy-original-path", "x-forwarded-prefix", "x-original-uri")
    hosts = ("x-forwarded-host", "x-envoy-original-host", "x-host", "forwarded", "x-original-host")
    path, host = forge.target.path, forge.target.host
    return [
        *(
            forge.case("rewrites", each, forge.whole([f"{each}: {path}"], target="/nothing"), statuses=(404,))
            for each in names
        ),
        *(
            forge.case("rewrites", each, forge.whole([f"{each}: {host}"], host="stranger.example"), statuses=(404,))
            for each in hosts
        ),
        forge.case("rewrites", "method", forge.whole(["x-http-method-override: POST"], method="PUT"), statuses=(404,)),
    ]


def _bodies(forge: Forge) -> Sequence[Case]:
    """Bodies that the edge does not read: they reach the model, which has to live with them, and once."""
    deep = b"[" * 100_000 + b"]" * 100_000
    bodies = {
        "deep": deep,
        "wide": b"[" + b"0," * 400_000 + b"0]",
        "UTF-8": b'{"a": "\xff\xfe\xc0\x80"}',
        "NUL": b"\0" * 1000,
        "empty": b"",
    }
    return [forge.case("bodies", name, forge.whole(body=each), want=Want.SERVED) for name, each in bodies.items()]
