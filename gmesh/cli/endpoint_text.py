# SPDX-License-Identifier: MIT
"""
Where a client connects, as the node reads it, and where a server listens, as Twisted does.

Tests: C{tests/cli/test_doctor_reach.py}.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from gmesh.trust.transport_address import read_address

__all__ = ["HostPort", "client_place", "server_place", "split"]

#: Where to knock at a port that is open on every interface.
_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host and a port of it."""

    host: str
    port: int

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host, unless it is a name."""
        try:
            return ipaddress.ip_address(self.host.partition("%")[0])
        except ValueError:
            return None


def split(text: str) -> tuple[str, list[str], dict[str, str]]:
    """The kind of an endpoint, its arguments by position, and those by name."""
    kind, *parts = (part.replace("\0", ":") for part in text.replace("\\:", "\0").split(":"))
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    return kind, [part for part in parts if "=" not in part], named


def client_place(text: str, local: bool = False) -> HostPort | None:
    """
    The place of an address that a node dials, or of a URL; None for anything else.

    @param local: it comes from an option of this host.
    """
    if text.startswith(("http://", "https://")):
        try:
            url = urlsplit(text)
            return HostPort(url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
        except ValueError:
            return None
    address = read_address(text, local)
    return None if address is None else HostPort(address.host, address.port)


def server_place(text: str) -> HostPort | None:
    """Where a server with this string can be reached on its own host; None unless it has a port of TCP."""
    for before in ("ws:", "haproxy:"):
        text = text.removeprefix(before)
    kind, plain, named = split(text)
    if kind not in ("tcp", "tcp6", "tls", "ssl"):
        return None
    interface = named.get("interface", "::" if kind == "tcp6" else "")
    return _place(_WILDCARDS.get(interface, interface), named.get("port") or (plain[0] if plain else ""))


def _place(host: str, port: str) -> HostPort | None:
    return HostPort(host, int(port)) if host and port.isdecimal() and 0 < int(port) < 65536 else None
