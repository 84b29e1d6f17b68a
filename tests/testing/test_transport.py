# SPDX-License-Identifier: MIT
"""In-memory connections keep the promises of Twisted's transports, and break when told to."""

from __future__ import annotations

from random import Random

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IConsumer,
    IListeningPort,
    IPushProducer,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from gmesh.testing.network import MemoryNetwork
from gmesh.testing.transport import BUFFER_SIZE, Wire


class End(Protocol):
    """Keeps what arrives and when."""

    def __init__(self):
        self.pieces, self.ended = [], None

    def dataReceived(self, data):
        self.pieces.append(data)

    def connectionLost(self, reason):
        assert self.ended is None
        self.ended = reason.type

    @property
    def data(self):
        return b"".join(self.pieces)


class Network:
    """A clock, a network, one listener, one connection."""

    def __init__(self, seed=1, **wire):
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, Random(seed), Wire(**wire))
        self.client, self.server = End(), End()
        self.port = self.result_of(self.network.server("10.0.0.1:1").listen(self.factory(self.server)))
        found = []
        self.network.client("10.0.0.1:1", "10.0.0.2").connect(self.factory(self.client)).addCallback(
            found.append
        )
        self.clock.pump([0.5] * 3)
        assert found == [self.client]
        self.connection = self.network.connections[0]

    def factory(self, protocol):
        factory = Factory.forProtocol(lambda: protocol)
        factory.noisy = False
        return factory

    def result_of(self, deferred):
        found = []
        deferred.addBoth(found.append)
        return found[0]


def test_the_interfaces_are_provided():
    """What Twisted code asks of endpoints, ports and transports is there."""
    world = Network()
    for interface in (ITCPTransport, IConsumer, IPushProducer):
        assert verifyObject(interface, world.connection.client)
    assert verifyObject(IListeningPort, world.port)
    assert verifyObject(IStreamClientEndpoint, world.network.client("10.0.0.1:1"))
    assert verifyObject(IStreamServerEndpoint, world.network.server("10.0.0.1:1"))
    assert world.server.transport.getPeer().host == "10.0.0.2"
    assert world.client.transport.getPeer() == world.server.transport.getHost()


def test_bytes_arrive_in_order_whatever_the_chunks():
    """Cut at random places, after the delay, complete."""
    world = Network(delay=0.1, capacity=1000)
    sent = Random(5).randbytes(50_000)
    for at in range(0, len(sent), 777):
        world.client.transport.write(sent[at : at + 777])
    world.clock.advance(0.05)
    assert world.server.data == b""
    world.clock.pump([0.1] * 60)
    assert world.server.data == sent and len(world.server.pieces) > 60
    assert 1 in {len(piece) for piece in world.server.pieces}


def test_a_run_repeats():
    """The same seed cuts at the same places."""
    runs = []
    for _ in range(2):
        world = Network(seed=9)
        world.client.transport.write(bytes(10_000))
        world.clock.pump([0.01] * 5)
        runs.append([len(piece) for piece in world.server.pieces])
    assert runs[0] == runs[1]


def test_the_rate_is_kept():
    """A megabyte at 100 kB/s takes ten seconds."""
    world = Network(rate=100_000, capacity=20_000)
    world.client.transport.write(bytes(1_000_000))
    world.clock.pump([0.002] * 2500)
    assert 450_000 < len(world.server.data) <= 510_000
    world.clock.pump([0.002] * 2900)
    assert len(world.server.data) == 1_000_000


class Producer:
    """Writes a piece when asked."""

    def __init__(self, transport, size, limit):
        self.transport, self.size, self.left, self.calls = transport, size, limit, []

    def resumeProducing(self):
        self.calls.append("resume")
        if self.left:
            self.left -= 1
            self.transport.write(bytes(self.size))
        else:
            self.transport.unregisterProducer()

    def pauseProducing(self):
        self.calls.append("pause")

    def stopProducing(self):
        self.calls.append("stop")


def test_a_pull_producer_is_asked_when_the_buffer_is_empty():
    """One piece at a time, as TCP does it; closing waits until it has unregistered."""
    world = Network(capacity=1000)
    producer = Producer(world.client.transport, 500, 20)
    world.client.transport.registerProducer(producer, False)
    world.client.transport.loseConnection()
    world.clock.pump([0.01] * 40)
    assert len(world.server.data) == 10_000
    assert world.client.ended is ConnectionDone and world.server.ended is ConnectionDone


def test_a_push_producer_is_paused_above_the_buffer_and_resumed_below():
    """Told once each, and stopped when the connection goes."""
    world = Network(capacity=1000)
    producer = Producer(world.client.transport, 0, 0)
    world.client.transport.registerProducer(producer, True)
    world.client.transport.write(bytes(BUFFER_SIZE))
    assert producer.calls == []
    world.client.transport.write(b"x" * 10)
    world.client.transport.write(b"x" * 10)
    assert producer.calls == ["pause"]
    producer.left = 1
    world.clock.pump([0.01] * 200)
    assert producer.calls == ["pause", "resume"]
    world.connection.cut()
    assert producer.calls[-1] == "stop"
    with pytest.raises(TypeError):
        world.client.transport.write(bytearray(3))


def test_a_reader_that_pauses_stops_the_writer():
    """What is under way is bounded by the capacity; nothing is lost when it reads again."""
    world = Network(capacity=1000)
    world.server.transport.pauseProducing()
    world.client.transport.write(bytes(5000))
    world.clock.pump([0.1] * 10)
    assert world.server.data == b"" and world.connection.client.buffered == 4000
    world.server.transport.resumeProducing()
    world.clock.pump([0.1] * 10)
    assert len(world.server.data) == 5000


def test_lose_delivers_abort_does_not():
    """After C{loseConnection} everything written arrives first; after C{abortConnection} it need not."""
    world = Network(capacity=1000)
    world.client.transport.write(bytes(5000))
    world.client.transport.loseConnection()
    world.clock.pump([0.1] * 10)
    assert len(world.server.data) == 5000
    assert (world.client.ended, world.server.ended) == (ConnectionDone, ConnectionDone)
    world = Network(capacity=1000)
    world.client.transport.write(bytes(5000))
    world.client.transport.abortConnection()
    assert world.client.ended is None
    world.clock.pump([0.1] * 10)
    assert len(world.server.data) < 5000
    assert (world.client.ended, world.server.ended) == (ConnectionAborted, ConnectionLost)


def test_who_writes_no_more_reads_until_the_far_end_has_closed():
    """All that was written arrives both ways; nothing can be written after."""
    net = Network(delay=0.01)
    net.server.transport.write(b"under way")
    net.client.transport.write(b"last words")
    net.client.transport.loseWriteConnection()
    net.client.transport.write(b"too late")
    net.clock.pump([0.001] * 12)
    assert (net.server.data, net.server.ended) == (b"last words", ConnectionDone)
    assert net.client.ended is None
    net.clock.pump([0.01] * 3)
    assert (net.client.data, net.client.ended) == (b"under way", ConnectionDone)
    assert not net.clock.getDelayedCalls()


def test_a_cut_is_noticed_silence_is_not():
    """Both ends hear of a cut; nobody hears of a half-open connection until it heals."""
    world = Network()
    world.connection.silence(back=False)
    world.client.transport.write(b"lost for now")
    world.server.transport.write(b"passes")
    world.clock.pump([1.0] * 100)
    assert world.server.data == b"" and world.client.data == b"passes"
    world.connection.heal()
    world.clock.pump([1.0] * 3)
    assert world.server.data == b"lost for now"
    world.connection.cut()
    assert (world.client.ended, world.server.ended) == (ConnectionLost, ConnectionLost)
    assert not [call for call in world.clock.getDelayedCalls() if call.active()]


def test_a_protocol_that_fails_loses_its_connection(flush_logged_errors):
    """As under the reactor: logged, both ends gone."""
    world = Network()
    world.server.dataReceived = lambda data: 1 / 0
    world.client.transport.write(b"x")
    world.clock.pump([0.1] * 3)
    assert world.server.ended is ZeroDivisionError and world.client.ended is ConnectionLost
    assert flush_logged_errors(ZeroDivisionError)


def test_connecting_may_fail():
    """Refused where nobody listens, silent where nobody is, and free to be cancelled at any step."""
    world = Network(delay=0.1)
    errors = []
    world.network.client("10.0.0.1:2").connect(world.factory(End())).addErrback(errors.append)
    world.clock.pump([0.1] * 3)
    assert errors[0].check(ConnectionRefusedError)
    world.network.unreachable.add("10.0.0.1")
    silent = world.network.client("10.0.0.1:1").connect(world.factory(End()))
    world.clock.pump([10.0] * 3)
    assert not silent.called
    world.network.unreachable.clear()
    server = world.server = End()
    world.network.unlisten("10.0.0.1:1")
    world.network.listen("10.0.0.1:1", world.factory(server))
    late = world.network.client("10.0.0.1:1").connect(world.factory(End()))
    world.clock.advance(0.15)
    for deferred in (silent, late):
        deferred.addErrback(errors.append)
        deferred.cancel()
    world.clock.pump([0.1] * 5)
    assert len(errors) == 3 and server.ended is ConnectionLost


def test_an_address_is_taken_once():
    """The second listener is told; after the first stopped it may."""
    world = Network()
    again = world.network.server("10.0.0.1:1").listen(world.factory(End()))
    assert world.result_of(again).type.__name__ == "CannotListenError"
    world.port.stopListening()
    assert verifyObject(
        IListeningPort, world.result_of(world.network.server("10.0.0.1:1").listen(world.factory(End())))
    )
