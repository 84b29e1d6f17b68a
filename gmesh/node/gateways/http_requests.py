# SPDX-License-Identifier: MIT
"""
What is asked of an HTTP proxy: CONNECT, a request in absolute form (RFC 9112, section 3.2), C{/proxy.pac}.

No input, no output: bytes go in and come out.  A request in absolute form leaves in origin form, with
C{Connection: close}, for what follows it on its connection is no longer looked at.
Tests: C{tests/node/gateways/test_http_requests.py}.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gmesh.errors import RequestRefused
from gmesh.node.http_head import END, RequestHead, read_head

__all__ = [
    "CONNECTED",
    "MAX_HEAD",
    "PAC_TYPE",
    "ProxyRequest",
    "answer",
    "pac",
    "read_request",
    "status_of",
]

MAX_HEAD: Final = 16 * 1024
"""Bytes of a head, as servers commonly take."""
CONNECTED: Final = b"HTTP/1.1 200 Connected" + END
PAC_TYPE: Final = "application/x-ns-proxy-autoconfig"
_PAC: Final = "/proxy.pac"
_AUTHORITY: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@/?#]+):([0-9]{1,5})")
_OF_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "upgrade",
    }
)
"""Fields for this proxy alone: RFC 9110, section 7.6.1."""
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "trailer", "expect", "host"})
"""Fields that no C{Connection} may take away: they say what belongs to the request."""
_STATUSES: Final = {
    "bad-request": 400,
    "outside": 403,
    "forbidden": 403,
    "denied": 403,
    "not-found": 404,
    "unknown-node": 404,
    "no-such-service": 404,
    "no-route": 503,
    "too-far": 503,
    "busy": 503,
    "stale": 503,
    "timed-out": 504,
}
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """
    What is asked.

    @ivar host: a name; empty if the C{/proxy.pac} is asked for.
    @ivar head: what to send there first; empty for CONNECT.
    """

    host: str
    port: int
    head: bytes = b""


def read_request(head: bytes) -> ProxyRequest:
    """
    What is asked.

    @param head: all before L{END<gmesh.node.http_head.END>}.
    @raise RequestRefused: C{bad-request}, C{not-found}.
    """
    asked = read_head(head)
    if asked.method == "CONNECT":
        return ProxyRequest(*_authority(asked.target))
    if asked.target.startswith("/"):
        if asked.target == _PAC and asked.method == "GET":
            return ProxyRequest("", 0)
        raise RequestRefused("not-found", f"this is a proxy: there is {_PAC} here and nothing else")
    return _rewritten(asked, head.partition(b"\r\n")[0].endswith(b"0"))


def _authority(text: str) -> tuple[str, int]:
    found = _AUTHORITY.fullmatch(text)
    if found is None or not 0 < int(found[2]) < 65536:
        raise _refused("CONNECT takes HOST:PORT")
    return found[1], int(found[2])


def _rewritten(asked: RequestHead, old: bool) -> ProxyRequest:
    """@param old: it is of HTTP/1.0."""
    try:
        url = urlsplit(asked.target)
        host, port = url.hostname or "", 80 if url.port is None else url.port
    except ValueError as error:
        raise _refused("that is no URL") from error
    if url.scheme != "http" or not host or "@" in url.netloc or not 0 < port < 65536:
        raise _refused("a request in absolute form is for http://HOST/: use CONNECT for anything else")
    if {"content-length", "transfer-encoding"} <= asked.fields.keys():
        raise _refused("Content-Length and Transfer-Encoding contradict each other")
    dropped = (_OF_HOP | set(asked.listed("connection"))) - _FRAMING | {"host"}
    path = (url.path or ("*" if asked.method == "OPTIONS" else "/")) + (f"?{url.query}" if url.query else "")
    kept = [
        f"{name}: {value}" for name, values in asked.fields.items() if name not in dropped for value in values
    ]
    version = "1.0" if old else "1.1"
    lines = [f"{asked.method} {path} HTTP/{version}", f"host: {url.netloc}", *kept, f"via: {version} gmesh"]
    return ProxyRequest(host, port, "\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1"))


def status_of(reason: str) -> int:
    """The status that stands for a slug of L{gmesh.stream_errors.DialRefused}, or of what is refused here."""
    return _STATUSES.get(reason, 502)


def answer(status: int, text: str, kind: str = "text/plain; charset=utf-8") -> bytes:
    """An answer of the proxy itself, after which it closes."""
    body = text.encode("utf-8")
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(head).encode("ascii") + body


def pac(host: str, port: int) -> str:
    """What browsers ask for each name: those of the mesh go through the proxy at that address."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return (
        "function FindProxyForURL(url, host) {\n"
        f'  return dnsDomainIs(host, ".gmesh") ? "PROXY {place}" : "DIRECT";\n'
        "}\n"
    )


def _refused(why: str) -> RequestRefused:
    return RequestRefused("bad-request", why)
