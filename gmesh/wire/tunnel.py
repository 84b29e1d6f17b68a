# SPDX-License-Identifier: MIT
"""
What is said to a proxy to be connected through it: HTTP CONNECT and SOCKS5.

Each is a generator: it gives bytes to send, is sent bytes that came, and returns what came behind its end.
Tests: C{tests/wire/test_tunnel.py}.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from ipaddress import IPv4Address, ip_address
from typing import Final

from gmesh.errors import CarrierRefused
from gmesh.wire.proxy import ProxyAddress, ProxyKind

__all__ = ["HEAD_LIMIT", "Tunnelling", "tunnel"]

Tunnelling = Generator[bytes, bytes, bytes]

HEAD_LIMIT: Final = 16_384
"""Bytes of the head of an answer: more than any proxy says."""
_INTERIM: Final = 8
"""Answers of 1xx before the one that counts."""
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r?\n")
_BASIC: Final = re.compile(rb"(?im)^proxy-authenticate:.*\bbasic\b")
_SCHEME: Final = re.compile(rb"(?im)^proxy-authenticate:[ \t]*([A-Za-z][A-Za-z0-9-]{0,30})")
_PAGE: Final = re.compile(rb"(?im)^content-type:[ \t]*text/html")
_SOCKS: Final = 5
_SOCKS_REPLIES: Final = {
    1: "it failed",
    2: "it does not let this through",
    3: "it does not reach the network",
    4: "it does not reach the host",
    5: "the connection was refused",
    6: "the connection took too long",
    7: "it does not do that",
    8: "it does not know that kind of address",
}
"""RFC 1928, section 6."""


def tunnel(proxy: ProxyAddress, host: str, port: int) -> Tunnelling:
    """
    Ask a proxy for a connection to C{host} and C{port}, which it looks up itself.

    @raise CarrierRefused: from the generator, when it gives none: one line that says why.
    """
    return (_socks5 if proxy.kind is ProxyKind.SOCKS5 else _connect)(proxy, host, port)


def _connect(proxy: ProxyAddress, host: str, port: int) -> Tunnelling:
    """RFC 9110, section 9.3.6."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    authorization = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    data = yield f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{authorization}\r\n".encode()
    for _ in range(_INTERIM):
        while b"\r\n\r\n" not in data:
            if len(data) > HEAD_LIMIT or not b"HTTP/1.".startswith(data[:7]):
                raise CarrierRefused("proxy-failed", f"what answers at {proxy} is no HTTP proxy")
            data += yield b""
        head, _, data = data.partition(b"\r\n\r\n")
        status = _STATUS.match(head + b"\r\n")
        if status is None:
            break
        if not status[1].startswith(b"1"):
            _judge(proxy, place, int(status[1]), head)
            return data
    raise CarrierRefused("proxy-failed", f"what answers at {proxy} is no HTTP proxy")


def _judge(proxy: ProxyAddress, place: str, status: int, head: bytes) -> None:
    """@raise CarrierRefused: unless there is a connection."""
    if status == 407:
        raise CarrierRefused("proxy-credentials", _credentials_wanted(proxy, head))
    if status == 403:
        raise CarrierRefused("proxy-refused", f"the proxy {proxy} does not let through to {place} (403)")
    if status in (502, 503, 504):
        raise CarrierRefused("proxy-failed", f"the proxy {proxy} does not reach {place} ({status})")
    if _PAGE.search(head):
        raise CarrierRefused(
            "proxy-failed",
            f"{proxy} answers {status} with a web page: it is no proxy, or wants a log-in there",
        )
    if not 200 <= status < 300:
        raise CarrierRefused("proxy-failed", f"the proxy {proxy} answers {status} for {place}")


def _credentials_wanted(proxy: ProxyAddress, head: bytes) -> str:
    scheme = _SCHEME.search(head)
    if scheme is not None and not _BASIC.search(head):
        return (
            f"the proxy {proxy} wants {scheme[1].decode()} credentials (407), and there are only Basic ones"
        )
    if proxy.credentials is not None:
        return f"the proxy {proxy} does not take the user and password it is given (407)"
    return f"the proxy {proxy} wants a user and a password (407): give --proxy-credentials"


def _socks5(proxy: ProxyAddress, host: str, port: int) -> Tunnelling:
    """RFC 1928, and RFC 1929 for user and password."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    methods = b"\x00\x02" if proxy.credentials is not None else b"\x00"
    data = yield bytes((_SOCKS, len(methods))) + methods
    data = yield from _at_least(proxy, data, 2)
    method, data = data[1], data[2:]
    if method == 2 and proxy.credentials is not None:
        user, password = (each.encode() for each in proxy.credentials)
        data += yield bytes((1, len(user))) + user + bytes((len(password),)) + password
        data = yield from _at_least(proxy, data, 2, 1)
        if data[1]:
            raise CarrierRefused(
                "proxy-credentials", f"the proxy {proxy} does not take the user and password it is given"
            )
        data = data[2:]
    elif method:
        raise CarrierRefused(
            "proxy-credentials", f"the proxy {proxy} wants a user and a password: give --proxy-credentials"
        )
    data += yield bytes((_SOCKS, 1, 0)) + _socks_address(host) + port.to_bytes(2, "big")
    data = yield from _at_least(proxy, data, 5)
    if data[1]:
        why = _SOCKS_REPLIES.get(data[1], f"it answers {data[1]}")
        slug = "proxy-refused" if data[1] == 2 else "proxy-failed"
        raise CarrierRefused(slug, f"the proxy {proxy} gives no connection to {place}: {why}")
    size = {1: 4, 3: data[4] + 1, 4: 16}.get(data[3])
    if size is None:
        raise CarrierRefused("proxy-failed", f"what answers at {proxy} is no SOCKS5 proxy")
    end = 4 + size + 2
    data = yield from _at_least(proxy, data, end)
    return data[end:]


def _at_least(
    proxy: ProxyAddress, data: bytes, size: int, version: int = _SOCKS
) -> Generator[bytes, bytes, bytes]:
    while len(data) < size:
        if data and data[0] != version:
            break
        data += yield b""
    if data[0] != version:
        raise CarrierRefused("proxy-failed", f"what answers at {proxy} is no SOCKS5 proxy")
    return data


def _socks_address(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        return bytes((3, len(name))) + name
    return bytes((1 if isinstance(address, IPv4Address) else 4,)) + address.packed
