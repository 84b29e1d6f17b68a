# SPDX-License-Identifier: MIT
"""
How the socket under a link is set, where it is a TCP socket, and how its peer is called.

Tests: C{tests/mesh/test_link_sockets.py}.
"""

from __future__ import annotations

import contextlib
import socket

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

from gmesh.mesh.limits import READ_SIZE, SEND_LIMIT, TCP_UNSENT_LOW_WATER, TCP_USER_TIMEOUT_MS

__all__ = ["carried_by", "display_address", "keep_unsent", "lowest", "read_much", "tune_socket"]

_OPTIONS = (("TCP_NOTSENT_LOWAT", TCP_UNSENT_LOW_WATER), ("TCP_USER_TIMEOUT", TCP_USER_TIMEOUT_MS))


def lowest(transport: object) -> object:
    """The transport below TLS and whatever else a connection is wrapped in."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def carried_by(transport: object) -> str:
    """What a connection runs over: C{tcp}, C{tls}, C{wss} or C{ws}, and C{ via PROXY} where there is one."""
    layers, via = set(), ""
    while isinstance(transport, ProtocolWrapper) and not via:
        layers.add(
            "tls" if isinstance(transport, TLSMemoryBIOProtocol) else getattr(type(transport), "layer", "")
        )
        via = transport.__dict__.get("via", "")
        transport = transport.transport
    secure = "tls" in layers
    kind = ("wss" if secure else "ws") if "websocket" in layers else "tls" if secure else "tcp"
    return f"{kind} via {via}" if via else kind


def tune_socket(transport: object) -> None:
    """
    Send small writes at once, large ones whole; keep unsent data out of the kernel; give up on a dead host.

    What the platform or the kind of transport lacks is left out.
    """
    transport = lowest(transport)
    if not ITCPTransport.providedBy(transport):
        return
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    if isinstance(transport, FileDescriptor):
        transport.SEND_LIMIT = SEND_LIMIT
    for name, value in _OPTIONS:
        _set_option(transport, name, value)


def read_much(transport: object) -> None:
    """Read as much at once as a judged neighbour may send."""
    transport = lowest(transport)
    if isinstance(transport, FileDescriptor):
        transport.bufferSize = READ_SIZE


def keep_unsent(transport: object, size: int) -> None:
    """Let the kernel hold C{size} bytes that are not sent yet."""
    transport = lowest(transport)
    if ITCPTransport.providedBy(transport):
        _set_option(transport, "TCP_NOTSENT_LOWAT", size)


def _set_option(transport: object, name: str, value: int) -> None:
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    option = getattr(socket, name, None)
    if isinstance(handle, socket.socket) and option is not None:
        with contextlib.suppress(OSError):
            handle.setsockopt(socket.IPPROTO_TCP, option, value)


def display_address(address: IAddress | None) -> str:
    """C{HOST:PORT}, brackets around IPv6; another kind of address as its text."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if host is None:
        return str(getattr(address, "name", None) or address)
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
