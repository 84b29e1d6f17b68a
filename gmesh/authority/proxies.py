# SPDX-License-Identifier: MIT
"""
Proxies in front of the authority: whose C{X-Forwarded-For} is believed, and what it says.

Without it all clients of a proxy are one address, and each pays for what the others do.
Tests: C{tests/authority/test_proxies.py}.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

__all__ = ["UNIX", "Network", "TrustedProxies", "is_local", "is_local_endpoint", "parse_proxy"]

UNIX = "unix"
"""What stands for the peer of a unix socket, which has no address."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_LOCAL_ENDPOINT = re.compile(
    r"(?:^|:)unix:|:interface=(?:127\.|localhost|\\:\\:1(?:$|:))|:domain=UNIX", re.ASCII
)
_WITH_PORT = re.compile(r"\[([^]]+)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+")


def parse_proxy(text: str) -> str | Network:
    """
    A proxy as people name it: an IP address, a network, or C{unix} for whoever uses a unix socket.

    @raise ValueError: for anything else.
    """
    if text == UNIX:
        return UNIX
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("must be an IP address, a network (10.0.0.0/8), or unix") from None


class TrustedProxies:
    """Those that were named; may be none."""

    def __init__(self, named: Iterable[str | Network] = ()) -> None:
        named = list(named)
        self._unix = UNIX in named
        self._networks = [network for network in named if not isinstance(network, str)]

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def __contains__(self, host: object) -> bool:
        if host == UNIX:
            return self._unix
        address = _parsed(str(host)) if self._networks else None
        return address is not None and any(address in network for network in self._networks)

    def client(self, host: str, forwarded: Sequence[str]) -> str:
        """
        Who asks: the last address in C{X-Forwarded-For} that is no proxy.

        @param host: the peer of the connection.
        @param forwarded: every value of the header.
        """
        if not self or host not in self:
            return host
        for entry in reversed(",".join(forwarded).split(",")):
            named = _WITH_PORT.fullmatch(entry.strip())
            said = (named[1] or named[2]) if named is not None else entry.strip()
            if not said:
                break
            host = said
            if host not in self:
                break
        return host


@lru_cache(maxsize=1024)
def is_local(host: str) -> bool:
    """Whether this peer is on the host of the authority: no stranger, and perhaps a proxy."""
    address = _parsed(host)
    return host == UNIX or (address is not None and address.is_loopback)


def is_local_endpoint(text: str) -> bool:
    """Whether only this host reaches the port of an endpoint string."""
    return _LOCAL_ENDPOINT.search(text) is not None


@lru_cache(maxsize=1024)
def _parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # as a tcp6 endpoint names it
    return address
