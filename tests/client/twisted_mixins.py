# SPDX-License-Identifier: MIT
"""
Twisted's own tests of what transports promise, over the endpoints.

For trial: they bring reactors of their own.  C{SOCKETS} is the directory of L{client.two_nodes}.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Any

from twisted.internet import interfaces
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.internet.test import connectionmixins, test_tcp
from twisted.internet.test.connectionmixins import EndpointCreator
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.python import log
from twisted.python.failure import Failure

from gmesh.addresses import MeshAddress
from gmesh.client import MeshClientEndpoint, MeshServerEndpoint

SOCKETS = os.environ["SOCKETS"]
SERVICES = map("s{}".format, count())
"""Each test has its own."""


class MeshCreator(EndpointCreator):
    """A service of node b, and the way from node a to it."""

    def server(self, reactor: Any) -> MeshServerEndpoint:
        return MeshServerEndpoint(reactor, next(SERVICES), f"{SOCKETS}/b.sock")

    def client(self, reactor: Any, serverAddress: Any) -> MeshClientEndpoint:
        return MeshClientEndpoint(reactor, "b", serverAddress.service, f"{SOCKETS}/a.sock")


class OverMesh(ReactorBuilder):
    """On each reactor that there is on a unix."""

    requiredInterfaces = (interfaces.IReactorUNIX,)
    endpoints = MeshCreator()


class ConnectionTests(OverMesh, connectionmixins.ConnectionTestsMixin):
    """Log prefixes, writes after the end, nothing left of a protocol."""


class AbortTests(OverMesh, test_tcp.AbortConnectionMixin):
    """C{abortConnection} at any moment, twice, and from within a producer."""


class HalfCloseTests(OverMesh):
    """What Twisted tests of TCP connections alone."""

    test_doubleHalfClose = test_tcp.TCPConnectionTestsBuilder.test_doubleHalfClose
    test_connectionLostAfterPausedTransport = (
        test_tcp.TCPConnectionTestsBuilder.test_connectionLostAfterPausedTransport
    )

    def setUp(self) -> None:
        super().setUp()
        self.patch(test_tcp, "TCPCreator", MeshCreator)


class Connected(Protocol):
    """Says so, and when it is not any more."""

    def __init__(self) -> None:
        self.made: Deferred[Any] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        # what Twisted's transports have beyond their interfaces, and one of these tests calls
        transport.stopConsuming = lambda: (transport.unregisterProducer(), transport.loseConnection())
        self.made.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class ProducerTests(OverMesh, test_tcp.WriteSequenceTestsMixin):
    """Producers of both kinds, over C{writeSequence}."""

    requiredInterfaces = OverMesh.requiredInterfaces

    def setWriteBufferSize(self, transport: Any, value: int) -> None:
        """That of the socket, which is what is full or not."""
        transport._socket.bufferSize = value

    def getConnectedClientAndServer(self, reactor: Any, interface: str, addressFamily: int) -> Deferred[Any]:
        """Both protocols, and nothing: the endpoint stops by itself. The reactor stops when both are lost."""
        client, server = Connected(), Connected()
        gatherResults([client.lost, server.lost]).addCallback(lambda _: reactor.stop())
        listening = self.endpoints.server(reactor).listen(Factory.forProtocol(lambda: server))
        listening.addCallback(
            lambda port: connectProtocol(self.endpoints.client(reactor, port.getHost()), client)
        ).addErrback(log.err)
        return gatherResults([client.made, server.made]).addCallback(lambda both: (*both, None))


class ClientTests(OverMesh):
    """What Twisted tests of clients, but for their connectors, which endpoints do not give."""

    test_clientConnectionFailedStopsReactor = (
        connectionmixins.StreamClientTestsMixin.test_clientConnectionFailedStopsReactor
    )
    test_connectEvent = connectionmixins.StreamClientTestsMixin.test_connectEvent
    test_disconnectWhileProducing = connectionmixins.StreamClientTestsMixin.test_disconnectWhileProducing

    def setUp(self) -> None:
        super().setUp()
        self.service: Deferred[str] = succeed("nobody")

    def listen(self, reactor: Any, factory: Factory) -> None:
        """Offer a service that is dialled from now on."""
        listening = self.endpoints.server(reactor).listen(factory)
        self.service = listening.addCallback(lambda port: port.getHost().service)

    def connect(self, reactor: Any, factory: ClientFactory) -> None:
        """Dial, and tell the factory of a failure, as the reactor's own methods do."""

        def dial(service: str) -> Deferred[Any]:
            return self.endpoints.client(reactor, MeshAddress("b", "", (), 0, service)).connect(factory)

        self.service.addCallback(dial).addErrback(
            lambda failure: factory.clientConnectionFailed(None, failure)
        )


for each in (ConnectionTests, AbortTests, HalfCloseTests, ProducerTests, ClientTests):
    globals().update(each.makeTestCaseClasses())
