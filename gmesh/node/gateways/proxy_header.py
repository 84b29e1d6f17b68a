# SPDX-License-Identifier: MIT
"""
What tells a server behind an exposure who is talking to it: the PROXY protocol, version 2.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.2.  A node has no IP address, so it
gets one that is nobody else's: of the prefix C{fd} and the first five bytes of the network's id (RFC 4193,
section 3.2), subnet 0, and the node's handle.  It is the same on every host and after every restart, so a
server may log it and allow by it.  Tests: C{tests/node/gateways/test_proxy_header.py}.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Final

from gmesh.addresses import MeshAddress
from gmesh.trust.keys import handle_of_id

__all__ = ["NAME", "NODE_ID", "ROLES", "SERVICE", "node_address", "proxy_header"]

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_PROXY: Final = 0x21
"""Version 2, command PROXY."""
_TCP6: Final = 0x21
"""AF_INET6, SOCK_STREAM."""
_HEAD: Final = struct.Struct(">12sBBH")
_ADDRESSES: Final = struct.Struct(">16s16sHH")
_TLV: Final = struct.Struct(">BH")
_PREFIX: Final = 5
"""Bytes of the network's id: the global id of RFC 4193 has 40 bits."""

# Types that section 2.2.7 leaves to applications.
NAME: Final = 0xE0
NODE_ID: Final = 0xE1
ROLES: Final = 0xE2
SERVICE: Final = 0xE3


def node_address(network_id: str, node_id: str) -> IPv6Address:
    """The address that stands for a node; both ids are hex."""
    return IPv6Address(b"\xfd" + bytes.fromhex(network_id)[:_PREFIX] + bytes(2) + handle_of_id(node_id))


def proxy_header(network_id: str, peer: MeshAddress, own_id: str) -> bytes:
    """
    What goes before the first byte of a stream that C{peer} has opened.

    Its ports are 0: a stream has none.

    @param own_id: the node id of this node, hex.
    """
    addresses = _ADDRESSES.pack(
        node_address(network_id, peer.node_id).packed, node_address(network_id, own_id).packed, 0, 0
    )
    said = {NAME: peer.name, NODE_ID: peer.node_id, ROLES: ",".join(peer.roles), SERVICE: peer.service}
    values = b"".join(_TLV.pack(kind, len(text)) + text.encode("ascii") for kind, text in said.items())
    return _HEAD.pack(_SIGNATURE, _PROXY, _TCP6, len(addresses) + len(values)) + addresses + values
