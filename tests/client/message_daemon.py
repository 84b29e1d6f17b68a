# SPDX-License-Identifier: MIT
"""A daemon's end of the frames of messages on a real socket, over one node that knows itself alone."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from gmesh.endtoend.local_delivery import LocalDelivery
from gmesh.endtoend.services import Message, Services
from gmesh.endtoend.turn_end import TurnEnd
from gmesh.errors import SendRefused
from gmesh.node.api.message_leg import LegNode, MessageLeg

NODE_ID = "ab" * 16


class OneNode:
    """What of L{gmesh.endtoend.datagrams.Datagrams} a leg uses, with the services of this node."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.services = Services(reactor)
        self.register = self.services.register
        self.turn = TurnEnd()

    def begin(self, *asked: object) -> None:
        """It is not known whether it is allowed: it is asked by L{send}."""

    def send(self, node: str, service: str, data: bytes, *, timeout: float, key: str) -> Deferred[Any]:
        if node != "here":
            return fail(SendRefused("unknown-node", f"no node called {node} is known here"))
        message = Message("here", NODE_ID, ("client", "pump"), service, data, key)
        return LocalDelivery(self.services, message, timeout, self.reactor).result


class Upgrade(Protocol):
    """Says 101, and is a leg from then on."""

    transport: Any

    def __init__(self, daemon: MessageDaemon) -> None:
        self.daemon = daemon
        self.head = b""

    def dataReceived(self, data: bytes) -> None:
        self.head += data
        head, end, rest = self.head.partition(b"\r\n\r\n")
        if not end:
            return
        assert head.startswith(b"GET /v1/messages HTTP/1.1") and b"Upgrade: gmesh-messages" in head
        self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: gmesh-messages\r\n\r\n")
        leg = MessageLeg(self.daemon.node, 1000, lambda service: None)
        self.daemon.legs.append(leg)
        self.transport.protocol = leg
        leg.makeConnection(self.transport)
        if rest:
            leg.dataReceived(rest)


class MessageDaemon:
    """
    Listens at a path.

    @ivar counted: what the legs counted.
    """

    def __init__(self, reactor: Any, path: str) -> None:
        self.reactor = reactor
        self.path = path
        self.legs: list[MessageLeg] = []
        self.counted: list[str] = []
        self.port: Any = None

    async def start(self) -> None:
        """With nothing remembered."""
        self.datagrams = OneNode(self.reactor)
        rows: list[dict[str, Any]] = [
            {"name": "here", "roles": ["pump"], "reachable": True, "services": ["log"]},
            {"name": "there", "roles": ["pump"], "reachable": True, "services": []},
            {"name": "gone", "roles": ["pump"], "reachable": False, "services": ["log"]},
        ]
        tables = {"nodes": lambda: rows, "services": lambda: [{"service": "log", "nodes": ["here"]}]}
        datagrams: Any = self.datagrams
        self.node = LegNode(
            datagrams,
            lambda: {"name": "here"},
            tables,
            self.counted.append,
            lambda tell: lambda: None,
            self.reactor,
        )
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        factory.buildProtocol = lambda address: Upgrade(self)  # type: ignore[method-assign]  # a factory in a line
        self.port = await UNIXServerEndpoint(self.reactor, self.path).listen(factory)

    async def stop(self) -> None:
        """As when it is killed."""
        port, self.port = self.port, None
        if port is not None:
            await port.stopListening()
        legs, self.legs = self.legs, []
        for leg in legs:
            leg.transport.abortConnection()
        self.datagrams.services.stop()
