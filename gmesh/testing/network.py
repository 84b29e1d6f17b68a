# SPDX-License-Identifier: MIT
"""
An address space of in-memory endpoints: who listens where, and every connection made.

C{network.server("10.0.0.1:7443").listen(factory)} and C{network.client("10.0.0.1:7443").connect(factory)}
are what C{TCP4ServerEndpoint} and C{TCP4ClientEndpoint} are to the kernel.
Tests: C{tests/testing/test_transport.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from gmesh.testing.transport import MemoryConnection, Wire

__all__ = ["MemoryNetwork"]

FIRST_EPHEMERAL = 40_000


class MemoryNetwork:
    """
    All endpoints and connections of one simulated world.

    @param random: where chunks are cut; seeded, so that a run repeats.
    @ivar wire: what connections made from now on are like.
    @ivar connections: every connection made, closed ones included until L{forget_closed}.
    @ivar unreachable: hosts that never answer.
    @ivar blocked: pairs of hosts between which no connection is made.
    """

    def __init__(self, clock: IReactorTime, random: Random, wire: Wire | None = None) -> None:
        self.clock = clock
        self.random = random
        self.wire = wire or Wire()
        self.connections: list[MemoryConnection] = []
        self.unreachable: set[str] = set()
        self.blocked: set[frozenset[str]] = set()
        self.wire_between: Callable[[str, str], Wire] = lambda source, target: self.wire
        self._listening: dict[str, IProtocolFactory] = {}
        self._port = FIRST_EPHEMERAL

    def server(self, address: str) -> IStreamServerEndpoint:
        """Listens on C{HOST:PORT}."""
        return _Server(self, address)

    def client(self, address: str, source: str = "127.0.0.1") -> IStreamClientEndpoint:
        """Connects to C{HOST:PORT} or C{tcp:HOST:PORT} from the host C{source}."""
        return _Client(self, address.removeprefix("tcp:"), source)

    def open_connections(self) -> list[MemoryConnection]:
        """Those of which either end is still connected."""
        return [connection for connection in self.connections if connection.open]

    def forget_closed(self) -> None:
        """Let what is closed be collected: a long life makes many connections."""
        self.connections[:] = self.open_connections()

    def of_host(self, host: str) -> list[MemoryConnection]:
        """The open connections of a host."""
        return [
            each
            for each in self.open_connections()
            if host in (each.client.getHost().host, each.server.getHost().host)
        ]

    def between(self, one: str, other: str) -> list[MemoryConnection]:
        """The open connections between two hosts, whoever made them."""
        hosts = {one, other}
        return [
            each
            for each in self.open_connections()
            if {each.client.getHost().host, each.server.getHost().host} == hosts
        ]

    def listen(self, address: str, factory: IProtocolFactory) -> None:
        """@raise CannotListenError: if somebody listens there."""
        if address in self._listening:
            host, _, port = address.rpartition(":")
            raise CannotListenError(host, int(port), OSError("address in use"))
        self._listening[address] = factory
        factory.doStart()

    def unlisten(self, address: str) -> None:
        """Accept no more."""
        self._listening.pop(address).doStop()

    def accept(self, address: str, source: str) -> MemoryConnection | None:
        """The server's half of a new connection, or None if nobody listens."""
        factory = self._listening.get(address)
        protocol = factory.buildProtocol(self._next_client(source)) if factory is not None else None
        if protocol is None:
            return None
        wire = self.wire_between(source, _address(address).host)
        client = IPv4Address("TCP", source, self._port)
        connection = MemoryConnection(self.clock, self.random, wire, client, _address(address))
        self.connections.append(connection)
        connection.server.attach(protocol)
        return connection

    def _next_client(self, source: str) -> IPv4Address:
        self._port += 1
        return IPv4Address("TCP", source, self._port)


def _address(text: str) -> IPv4Address:
    host, _, port = text.rpartition(":")
    return IPv4Address("TCP", host, int(port))


@implementer(IListeningPort)
class _Port:
    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self._address = address

    def startListening(self) -> None:
        """It listens already."""

    def stopListening(self) -> Deferred[None]:
        self._network.unlisten(self._address)
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return _address(self._address)


@implementer(IStreamServerEndpoint)
class _Server:
    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self._address = address

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        try:
            self._network.listen(self._address, protocolFactory)
        except CannotListenError as error:
            return fail(error)
        return succeed(_Port(self._network, self._address))


@implementer(IStreamClientEndpoint)
class _Client:
    def __init__(self, network: MemoryNetwork, address: str, source: str) -> None:
        self._network = network
        self._address = address
        self._source = source

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        network = self._network
        calls: list[IDelayedCall] = []

        accepted: list[MemoryConnection] = []

        def cancel(_: Deferred[IProtocol]) -> None:
            for call in calls:
                if call.active():
                    call.cancel()
            for connection in accepted:
                connection.client.abortConnection()

        result: Deferred[IProtocol] = Deferred(cancel)
        host = _address(self._address).host
        delay = network.wire_between(self._source, host).delay

        def arrive() -> None:
            connection = network.accept(self._address, self._source)
            if connection is not None:
                accepted.append(connection)
            calls.append(network.clock.callLater(delay, answer, connection))

        def answer(connection: MemoryConnection | None) -> None:
            protocol = None
            if connection is not None:
                protocol = protocolFactory.buildProtocol(connection.client.getPeer())
            if connection is None or protocol is None:
                result.errback(ConnectionRefusedError())
                return
            connection.client.attach(protocol)
            result.callback(protocol)

        if host not in network.unreachable and frozenset((self._source, host)) not in network.blocked:
            calls.append(network.clock.callLater(delay, arrive))
        return result
