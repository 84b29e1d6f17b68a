# SPDX-License-Identifier: MIT
"""
How far an IP address reaches, and which addresses others may lead this node to.

A record is the word of a member, and a command that of an operator: neither knows what listens on the
loopback of this host, on its link, or at the metadata service of its cloud.  Genesis and options do.
Tests: C{tests/trust/test_address_scope.py}, C{tests/node/test_hostile_addresses.py}.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import IntEnum
from ipaddress import IPv6Address, ip_address
from typing import Final

__all__ = ["METADATA", "Scope", "ShunnedHosts", "parse_scope", "scope_of"]

METADATA: Final = frozenset({"169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"})
"""Where clouds tell a host its secrets: their manuals."""


class Scope(IntEnum):
    """The nearest that an address may be, each with those before it."""

    PUBLIC = 0
    PRIVATE = 1
    """Of a site: RFC 1918, RFC 4193, RFC 6598."""
    ANY = 2
    """Loopback, the link, and what no host has."""


def parse_scope(text: str) -> Scope:
    """@raise ValueError: with the words there are."""
    words = [scope.name.lower() for scope in Scope]
    if text not in words:
        raise ValueError(f"{text!r} is none of {', '.join(words)}")
    return Scope[text.upper()]


def scope_of(host: str) -> Scope:
    """Of an IP address or C{localhost}; any other name is public until it is looked up."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        name = host.removesuffix(".").lower()
        return Scope.ANY if name == "localhost" or name.endswith(".localhost") else Scope.PUBLIC
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    near = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    if near or str(address) in METADATA or str(address) == "255.255.255.255":
        return Scope.ANY
    return Scope.PUBLIC if address.is_global else Scope.PRIVATE


class ShunnedHosts(Collection[str]):
    """
    The addresses of a name that are not dialled: some by number, and all that are nearer than may be.

    @param hosts: by number.
    @param bound: the nearest that may be.
    """

    def __init__(self, hosts: Collection[str], bound: Scope) -> None:
        self._hosts = frozenset(hosts)
        self._bound = bound

    def __contains__(self, host: object) -> bool:
        return host in self._hosts or scope_of(str(host)) > self._bound

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)

    def __bool__(self) -> bool:
        """There may always be some."""
        return True
