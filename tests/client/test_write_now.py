# SPDX-License-Identifier: MIT
"""What is written now has left before the reactor is asked for anything."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gmesh.client.write_now import write_now


class End(Protocol):
    """Gathers; says when it is there, and when it has ended."""

    def __init__(self) -> None:
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.read = b""

    def connectionMade(self) -> None:
        self.made.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.read += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


async def pair(path: str) -> tuple[Any, End, End]:
    """A port and both ends of a connection to it."""
    there = End()
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda address: there  # type: ignore[method-assign]  # a factory in a line
    port = await UNIXServerEndpoint(reactor, path).listen(factory)
    here = await connectProtocol(UNIXClientEndpoint(reactor, path), End())
    await there.made
    return port, here, there


@pytest_twisted.ensureDeferred
async def test_it_is_in_the_socket_before_the_turn_ends_and_all_of_it_arrives(tmp_path: Path) -> None:
    """Also what the socket has no room for: the reactor writes that."""
    port, here, there = await pair(str(tmp_path / "socket"))
    write_now(here.transport, b"at once")
    far = socket.socket(fileno=socket.dup(there.transport.fileno()))
    try:
        assert far.recv(100, socket.MSG_PEEK) == b"at once"
    finally:
        far.close()
    write_now(here.transport, bytes(4 * 1024 * 1024))
    here.transport.loseConnection()
    await there.lost
    await here.lost
    assert there.read == b"at once" + bytes(4 * 1024 * 1024)
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_far_end_that_is_gone_is_found_by_the_reactor(tmp_path: Path) -> None:
    """It raises nothing, and the connection ends as it always does."""
    port, here, there = await pair(str(tmp_path / "socket"))
    there.transport.abortConnection()
    await there.lost
    write_now(here.transport, b"too late")
    await here.lost
    write_now(here.transport, b"later still")
    await port.stopListening()


def test_another_transport_is_only_written_to() -> None:
    """One of a test, or TLS."""
    transport = StringTransport()
    write_now(transport, b"x")
    assert transport.value() == b"x"
