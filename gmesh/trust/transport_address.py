# SPDX-License-Identifier: MIT
"""
Where a node is reached, as documents, node records and commands spell it: a closed set of forms.

C{HOST:PORT} and C{[IPV6]:PORT}; the URLs C{tcp://HOST:PORT}, C{tls://HOST} and C{wss://HOST/PATH},
whose port is 443 unless it is named; and C{tcp:HOST:PORT} or C{tls:HOST:PORT}, where an IPv6 address
may also stand without brackets and each of its colons behind a backslash.  These texts come from
others: they are read here and never by L{twisted.internet.endpoints.clientFromString}, whose strings
open files and sockets.  What has another form is nobody's fault, a later version may know it: it is
not dialled.

An IPv6 address may name an interface, C{fe80::1%eth0} (RFC 4007, section 11), only in what is said on this
host for this host, for the interface is one of its own.

Tests: C{tests/trust/test_transport_address.py}.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

__all__ = [
    "FORMS",
    "HTTPS_PORT",
    "Transport",
    "TransportAddress",
    "advice",
    "interface_fault",
    "read_address",
]

FORMS: Final = "HOST:PORT, tcp://HOST:PORT, tls://HOST or wss://HOST/PATH"
"""For people; a genesis has C{tcp:HOST:PORT} too."""
HTTPS_PORT: Final = 443
"""Of C{tls://} and C{wss://} without a port (RFC 6455, section 3, and RFC 9110, section 4.2.2)."""

_LONGEST: Final = 300
"""Characters; beyond what the C{Endpoint} of a document or an address of a node record may have."""
_MAX_NAME: Final = 253
"""Characters of a DNS name without the dot at its end: RFC 1035, section 2.3.4."""
_PORT: Final = "([1-9][0-9]{0,4})"
_ADDRESS: Final = re.compile(rf"(?:(tcp|tls):)?(?:\[([^\]]+)\]|((?:\\:|[0-9A-Za-z.%_-])+)):{_PORT}")
_URL: Final = re.compile(
    rf"(tcp|tls|wss)://(?:\[([^\]]+)\]|([0-9A-Za-z.-]+))(?::{_PORT})?((?<=[^/])/[0-9A-Za-z._~/-]{{0,100}})?"
)
_ENDPOINT_STRING: Final = re.compile(
    r"(?:tls|ssl):(?:host=)?((?:\\:|[^:=])+):(?:port=)?([0-9]+):.*=.*", re.DOTALL
)
_LABEL: Final = re.compile(r"(?!-)[0-9A-Za-z-]{1,63}(?<!-)")
_ZONE: Final = re.compile(r"[0-9A-Za-z._-]{1,15}")
"""The name of an interface of Linux: IFNAMSIZ of net/if.h less its NUL."""
_NUMERIC: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


class Transport(StrEnum):
    """What a connection is made of."""

    TCP = "tcp"
    TLS = "tls"
    WSS = "wss"
    """WebSocket inside TLS: RFC 6455."""


@dataclass(frozen=True, slots=True)
class TransportAddress:
    """
    Where to connect.

    @ivar host: a DNS name (letters, digits and dashes: RFC 1123, section 2.1) or an IP address, no brackets.
    @ivar port: 1 to 65535.
    @ivar path: of a WebSocket, from its slash on; empty for others.
    """

    kind: Transport
    host: str
    port: int
    path: str = ""

    @property
    def endpoint(self) -> str:
        """As a genesis spells it: C{tcp:HOST:PORT}, colons of IPv6 behind backslashes; or a URL."""
        if self.kind is Transport.TCP:
            host = self.host.replace(":", "\\:")
            return f"tcp:{host}:{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == HTTPS_PORT else f":{self.port}"
        return f"{self.kind}://{host}{port}{self.path}"


def read_address(text: str, local: bool = False) -> TransportAddress | None:
    """
    The address that C{text} spells; None if it has no form that is dialled.  Looks nothing up.

    @param local: it comes from an option of this host, and may name an interface.
    """
    if len(text) > _LONGEST:
        return None
    url = _URL.fullmatch(text)
    if url is not None:
        return _read_url(url, local)
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    kind, bracketed, host, port = match.groups()
    if bracketed is None and "\\:" in host:
        if kind is None:
            return None
        bracketed = host.replace("\\:", ":")
    return _address(Transport(kind or "tcp"), bracketed, host, int(port), "", local)


def _read_url(match: re.Match[str], local: bool) -> TransportAddress | None:
    scheme, bracketed, host, port, path = match.groups()
    kind = Transport(scheme)
    if (kind is Transport.TCP and port is None) or (kind is not Transport.WSS and path is not None):
        return None
    path = (path or "/") if kind is Transport.WSS else ""
    return _address(kind, bracketed, host, int(port or HTTPS_PORT), path, local)


def _address(
    kind: Transport, bracketed: str | None, host: str, port: int, path: str, local: bool
) -> TransportAddress | None:
    good = _is_ipv6(bracketed, local) if bracketed is not None else _is_host(host)
    return TransportAddress(kind, bracketed or host, port, path) if good and 0 < port <= 65535 else None


def advice(text: str) -> str:
    """What to write instead of an endpoint string of Twisted with parameters; empty for other texts."""
    match = _ENDPOINT_STRING.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return ""
    host = match[1].replace("\\:", ":").strip("[]")
    address = _address(Transport.TLS, host if ":" in host else None, host, int(match[2]), "", False)
    if address is None:
        return ""
    return f"write {address.endpoint}, and give certificates to trust to each node with --tls-ca"


def interface_fault(text: str, local: bool = False) -> str:
    """
    What is wrong with an address for lack of an interface, or for naming one; empty if nothing is.

    @param local: only this host dials it; else others do.
    """
    address = read_address(text, local=True)
    if address is None or ":" not in address.host:
        return ""
    host, mark, _ = address.host.partition("%")
    if mark:
        return "" if local else "an interface of this host means nothing to others"
    if not IPv6Address(host).is_link_local:
        return ""
    if local:
        return f"a link-local address takes the interface: [{host}%eth0]:{address.port}"
    return "others cannot dial a link-local address"


def _is_ipv6(text: str, local: bool) -> bool:
    address, mark, zone = text.partition("%")
    return _is_literal(IPv6Address, address) and (not mark or (local and _ZONE.fullmatch(zone) is not None))


def _is_host(text: str) -> bool:
    labels = text.removesuffix(".").split(".")
    if _NUMERIC.fullmatch(labels[-1]):  # no name ends so, though resolvers take 127.1 for an address
        return _is_literal(IPv4Address, text)
    return len(text.removesuffix(".")) <= _MAX_NAME and all(map(_LABEL.fullmatch, labels))


def _is_literal(version: type[IPv4Address | IPv6Address], text: str) -> bool:
    try:
        version(text)
    except AddressValueError:
        return False
    return True
