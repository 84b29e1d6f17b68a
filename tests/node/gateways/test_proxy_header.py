# SPDX-License-Identifier: MIT
"""The PROXY header before a stream, as others read it: Twisted's parser is the oracle."""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import Any

from twisted.internet.address import IPv6Address
from twisted.protocols.haproxy._v2parser import V2Parser

from gmesh.addresses import MeshAddress
from gmesh.node.gateways.proxy_header import NAME, NODE_ID, ROLES, SERVICE, node_address, proxy_header

NETWORK, PEER, OWN = "0123456789" + "ab" * 11, "11" * 8 + "22" * 8, "33" * 16
ADDRESS = MeshAddress("pump-07", PEER, ("client", "service:web"), 7, "web")


def test_twisted_reads_it_and_what_follows() -> None:
    """Source and destination, the two nodes; the payload is untouched, though it came in one piece."""
    parser: Any = V2Parser()
    info, rest = parser.feed(proxy_header(NETWORK, ADDRESS, OWN) + b"GET / HTTP/1.0")
    assert info.source == IPv6Address("TCP", "fd01:2345:6789:0:1111:1111:1111:1111", 0)
    assert info.destination == IPv6Address("TCP", "fd01:2345:6789:0:3333:3333:3333:3333", 0)
    assert rest == b"GET / HTTP/1.0"


def test_it_names_the_peer() -> None:
    """The four values that applications may use, in the types that are theirs."""
    header = proxy_header(NETWORK, ADDRESS, OWN)
    assert int.from_bytes(header[14:16]) == len(header) - 16
    found, rest = {}, header[16 + 36 :]
    while rest:
        size = int.from_bytes(rest[1:3])
        found[rest[0]] = rest[3 : 3 + size]
        rest = rest[3 + size :]
    assert found == {
        0xE0: b"pump-07",
        0xE1: PEER.encode(),
        0xE2: b"client,service:web",
        0xE3: b"web",
    }
    assert (NAME, NODE_ID, ROLES, SERVICE) == (0xE0, 0xE1, 0xE2, 0xE3)


def test_the_address_of_a_node_is_local_to_its_network() -> None:
    """Of fd00::/8, which no router of the Internet carries, and of another prefix in another network."""
    address = node_address(NETWORK, PEER)
    assert address in IPv6Network("fd01:2345:6789::/48")
    assert address.is_private
    assert node_address("ff" + NETWORK[2:], PEER) != address
