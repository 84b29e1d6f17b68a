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

__all__ = [
    "CONNECTED",
    "END",
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
END: Final = b"\r\n\r\n"
CONNECTED: Final = b"HTTP/1.1 200 Connected" + END
PAC_TYPE: Final = "application/x-ns-proxy-autoconfig"
_PAC: Final = "/proxy.pac"
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE: Final = re.compile(rf"({_TOKEN}) ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD: Final = re.compile(rf"({_TOKEN}):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
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
    "invalid-request": 400,
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
    What C{head} asks, with the empty line at its end.

    @raise RequestRefused: C{invalid-request}, C{not-found}.
    """
    line, *fields = head.removesuffix(END).decode("latin-1").split("\r\n")
    found = _LINE.fullmatch(line)
    if found is None:
        raise _invalid("this is a proxy of HTTP/1.1 and SOCKS 5")
    method, target, minor = found.groups()
    if method == "CONNECT":
        return ProxyRequest(*_authority(target))
    if target.startswith("/"):
        if target == _PAC and method == "GET":
            return ProxyRequest("", 0)
        raise RequestRefused("not-found", f"this is a proxy: there is {_PAC} here and nothing else")
    return _rewritten(method, target, minor, fields)


def _authority(text: str) -> tuple[str, int]:
    found = _AUTHORITY.fullmatch(text)
    if found is None or not 0 < int(found[2]) < 65536:
        raise _invalid("CONNECT takes HOST:PORT")
    return found[1], int(found[2])


def _rewritten(method: str, target: str, minor: str, lines: list[str]) -> ProxyRequest:
    try:
        url = urlsplit(target)
        host, port = url.hostname or "", 80 if url.port is None else url.port
    except ValueError as error:
        raise _invalid("that is no URL") from error
    if url.scheme != "http" or not host or "@" in url.netloc or not 0 < port < 65536:
        raise _invalid("a request in absolute form is for http://HOST/: use CONNECT for anything else")
    fields = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise _invalid("a field of the head is malformed")
        fields.append((field[1], field[2]))
    names = {name.lower() for name, _ in fields}
    if {"content-length", "transfer-encoding"} <= names:
        raise _invalid("Content-Length and Transfer-Encoding contradict each other")
    named = ",".join(value for name, value in fields if name.lower() == "connection").lower().split(",")
    dropped = (_OF_HOP | {name.strip() for name in named}) - _FRAMING | {"host"}
    path = (url.path or ("*" if method == "OPTIONS" else "/")) + (f"?{url.query}" if url.query else "")
    kept = [f"{name}: {value}" for name, value in fields if name.lower() not in dropped]
    head = [f"{method} {path} HTTP/1.{minor}", f"Host: {url.netloc}", *kept, f"Via: 1.{minor} gmesh"]
    return ProxyRequest(host, port, "\r\n".join([*head, "Connection: close", "", ""]).encode("latin-1"))


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


def _invalid(why: str) -> RequestRefused:
    return RequestRefused("invalid-request", why)
