# SPDX-License-Identifier: MIT
"""L{gmesh.client.upgrade}: what the daemon says of the far end is what a program is told of it."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from client.fake_daemon import PEER, FakeDaemon, fields
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Protocol
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python import context
from twisted.python.log import ILogContext

from gmesh.addresses import MeshAddress
from gmesh.client import MeshClientEndpoint
from gmesh.client.upgrade import StreamRequest, mesh_address


@pytest.mark.parametrize(
    ("described", "address"),
    [
        (PEER, MeshAddress("pump-07", "07" * 16, ("client", "service:web"), 7, "web")),
        (PEER | {"stream": 42, "service": "other", "future": [1]}, mesh_address(PEER, "web")),
        ({}, MeshAddress("", "", (), 0, "web")),
        ({"name": 1, "roles": "all", "serial": "x"}, MeshAddress("1", "", (), 0, "web")),
    ],
)
def test_a_node_is_what_is_said_of_it(described: dict[str, Any], address: MeshAddress) -> None:
    """What is not said is empty; what a later version adds is passed over."""
    assert mesh_address(described, "web") == address


@pytest_twisted.ensureDeferred
async def test_the_log_names_the_programs_protocol(daemon: FakeDaemon) -> None:
    """As it does for TCP."""
    seen: list[str] = []

    class Chatty(Protocol):
        def dataReceived(self, data: bytes) -> None:
            seen.append(context.get(ILogContext)["system"])
            self.transport.abortConnection()

    protocol = Chatty()
    connecting = connectProtocol(MeshClientEndpoint(reactor, "pump-07", "web", daemon.path), protocol)
    seat = await daemon.asked()
    seat.say(f"HTTP/1.1 101 Yes\r\n{fields(peer=PEER)}\r\n".encode())
    await connecting
    seat.say(b"\0\0\0\1x")
    await daemon.until(lambda: seat.closed)
    assert seen == ["Chatty"]


@pytest_twisted.ensureDeferred
async def test_a_connection_costs_no_line_in_the_log_of_the_program(daemon: FakeDaemon) -> None:
    """Neither when it is made nor when it ends."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        request = StreamRequest(reactor, b"GET / HTTP/1.1\r\n\r\n", "web", lambda peer: Protocol())
        asking = Deferred.fromCoroutine(request.ask(daemon.path))
        asking.addErrback(lambda _: None)
        seat = await daemon.asked()
        seat.close()
        await asking
        await request.closed
    finally:
        globalLogPublisher.removeObserver(observe)
    assert [line for line in lines if "Factory" in line or "OneShot" in line] == []
