# SPDX-License-Identifier: MIT
"""The TLS under links: whole writes, whole reads, and all that Twisted's own promises, in memory."""

from __future__ import annotations

import pytest
import pytest_twisted
from mesh.sockets_world import Authority
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump

from gmesh.mesh.tls_transport import LinkTlsFactory, for_links
from gmesh.node.listening import mesh_server

# Twisted's own calls.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
MUCH = bytes(range(256)) * 1000
"""Of more than fifteen records."""


class End(Protocol):
    """What stands on TLS at one end."""

    def __init__(self):
        self.pieces, self.lost, self.then = [], None, lambda: None

    @property
    def received(self):
        return b"".join(self.pieces)

    def dataReceived(self, data):
        self.pieces.append(data)
        self.then()

    def connectionLost(self, reason):
        assert self.lost is None
        self.lost = reason.value


class Below(FakeTransport):
    """The transport under TLS, which counts what is written at once."""

    writes = 0

    def write(self, data):
        self.writes += 1
        super().write(data)


class Pair:
    """Both ends, the one that dials first, and the wire between them."""

    def __init__(self, directory, near=LinkTlsFactory, far=LinkTlsFactory, version=SSL.TLS1_3_VERSION):
        served, _ = Authority(directory).endpoint("a.example")
        server = mesh_server(MemoryReactorClock(), served)._sslContextFactory
        client = for_links(CertificateOptions())
        client.getContext().set_max_proto_version(version)
        clock = Clock()
        self.ends = End(), End()
        factories = [
            tls(options, here, Factory.forProtocol(lambda end=end: end), clock)
            for tls, options, here, end in zip(
                (near, far), (client, server), (True, False), self.ends, strict=True
            )
        ]
        self.tls = [each.buildProtocol(None) for each in factories]
        self.below = [Below(each, number == 1) for number, each in enumerate(self.tls)]
        self.wire = IOPump(self.tls[0], self.tls[1], self.below[0], self.below[1], False, clock)

    def greet(self):
        for each, below in zip(reversed(self.tls), reversed(self.below), strict=True):
            each.makeConnection(below)
        self.wire.flush()
        return self


def each_way(pair):
    """The end that writes and the one that reads, then the other way round."""
    for here in (0, 1):
        yield pair.ends[here], pair.ends[1 - here], pair.below[here]


@pytest.fixture
def pair(tmp_path):
    return Pair(tmp_path).greet()


def test_what_is_written_at_once_is_passed_on_and_handed_over_at_once(pair):
    """Many records make one write of the transport below, and one read makes one piece."""
    for near, far, below in each_way(pair):
        before = below.writes
        near.transport.write(MUCH)
        assert below.writes == before + 1
        pair.wire.flush()
        assert far.pieces == [MUCH]


def test_where_openssl_takes_a_record_at_a_time(tmp_path, monkeypatch):
    """So it does for a pyOpenSSL that cannot be told otherwise: nothing is lost, and still one write."""
    monkeypatch.delattr(SSL.Context, "clear_mode", raising=False)
    test_what_is_written_at_once_is_passed_on_and_handed_over_at_once(Pair(tmp_path).greet())


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize("here", ["near", "far"])
def test_with_the_tls_of_twisted_at_the_other_end(tmp_path, here, version):
    """All arrives, whoever dials, and both hear a clean end."""
    pair = Pair(tmp_path, version=version, **{here: TLSMemoryBIOFactory}).greet()
    for near, far, _ in each_way(pair):
        for at in range(0, len(MUCH), 9999):
            near.transport.write(MUCH[at : at + 9999])
        near.transport.writeSequence([MUCH, b"end"])
        pair.wire.flush()
        assert far.received == MUCH + MUCH + b"end"
    pair.ends[0].transport.loseConnection()
    pair.wire.flush()
    assert [type(end.lost) for end in pair.ends] == [ConnectionDone, ConnectionDone]


def test_what_is_written_before_the_handshake_waits_for_it(tmp_path):
    """In its order; a producer that pushes is paused so long, then resumed."""
    pair = Pair(tmp_path)
    near, far = pair.ends
    told = []
    near.connectionMade = lambda: (near.transport.registerProducer(Pushes(told), True), write(near))

    def write(end):
        end.transport.write(b"one ")
        end.transport.write(MUCH)

    pair.tls[1].makeConnection(pair.below[1])
    pair.tls[0].makeConnection(pair.below[0])
    assert told == ["pause"]
    pair.wire.flush()
    assert told == ["pause", "resume"] and far.received == b"one " + MUCH


class Pushes:
    """Tells what it is told."""

    def __init__(self, told):
        self.told = told

    def pauseProducing(self):
        self.told.append("pause")

    def resumeProducing(self):
        self.told.append("resume")

    def stopProducing(self):
        self.told.append("stop")


def test_what_came_before_the_end_is_handed_over_before_it(pair):
    """Data and the word that no more follows, in one read."""
    near, far = pair.ends
    order = []
    far.then = lambda: order.append(far.lost)
    near.transport.write(MUCH)
    near.transport.loseConnection()
    near.transport.write(b"too late")
    pair.wire.flush()
    assert far.received == MUCH and order == [None]
    assert [type(end.lost) for end in pair.ends] == [ConnectionDone, ConnectionDone]


def test_a_connection_that_ends_without_a_word_is_lost(pair):
    """Whoever cuts it cannot pass for the other end closing it."""
    pair.ends[0].transport.write(b"half of")
    pair.wire.flush()
    pair.tls[1].connectionLost(Failure(ConnectionDone()))
    assert pair.ends[1].received == b"half of" and type(pair.ends[1].lost) is ConnectionLost


def test_what_is_forged_ends_it(pair):
    """And what was good before it is handed over."""
    near, far = pair.ends
    near.transport.write(MUCH)
    sealed = bytearray(pair.below[0].getOutBuffer())
    sealed[-1] ^= 1
    pair.tls[1].dataReceived(bytes(sealed))
    assert 0 < len(far.received) < len(MUCH) and MUCH.startswith(far.received)
    assert pair.below[1].disconnecting
    pair.tls[1].connectionLost(Failure(ConnectionDone()))
    assert isinstance(far.lost, SSL.Error)


def test_who_aborts_is_handed_nothing_more(pair):
    """What was read before and what comes later are dropped."""
    near, far = pair.ends
    far.then = far.transport.abortConnection
    near.transport.write(b"one")
    pair.wire.pump()
    near.transport.write(b"two")
    pair.wire.flush()
    assert far.pieces == [b"one"] and far.lost is not None
    far.transport.write(b"nothing")


def test_a_producer_that_is_pulled_is_asked_when_the_transport_below_is(pair):
    """Not in every turn of the reactor: what it writes has left this process first."""
    near, far, below = pair.ends[0], pair.ends[1], pair.below[0]

    class Pulled:
        left = 3

        def resumeProducing(self):
            self.left -= 1
            near.transport.write(b"%d" % self.left)
            if not self.left:
                near.transport.unregisterProducer()

        def stopProducing(self):
            self.left = -1

    producer = Pulled()
    near.transport.registerProducer(producer, False)
    assert (producer.left, below.streamingProducer) == (2, False)
    with pytest.raises(RuntimeError, match="is registered"):
        near.transport.registerProducer(Pulled(), False)
    for left in (1, 0):
        below._checkProducer()
        assert producer.left == left
    assert below.producer is None
    pair.wire.flush()
    assert far.received == b"210"


@pytest.mark.parametrize("streaming", [True, False])
def test_after_the_end_a_producer_is_told_to_stop(pair, streaming):
    """As by every transport of Twisted."""
    near = pair.ends[0]
    below = near.transport
    pair.ends[1].transport.loseConnection()
    pair.wire.flush()
    told = []
    below.registerProducer(Pushes(told), streaming)
    assert told == ["stop"]


def test_who_closes_with_a_producer_registered_closes_when_that_has_ended(pair):
    """What it writes until then arrives."""
    near, far = pair.ends
    near.transport.registerProducer(Pushes([]), False)
    near.transport.loseConnection()
    near.transport.write(b"the rest")
    pair.wire.flush()
    assert far.received == b"the rest" and far.lost is None
    near.transport.unregisterProducer()
    pair.wire.flush()
    assert [type(end.lost) for end in pair.ends] == [ConnectionDone, ConnectionDone]


@pytest_twisted.ensureDeferred
async def test_the_end_of_tls_ends_the_connection_whatever_its_producer_does(tmp_path):
    """One that is pulled and never unregisters keeps no socket open."""
    served, _ = Authority(tmp_path).endpoint("a.example")
    server = mesh_server(MemoryReactorClock(), served)._sslContextFactory
    near, far = End(), End()
    near_tls, far_tls = (
        LinkTlsFactory(options, here, Factory.forProtocol(lambda end=end: end))
        for options, here, end in ((for_links(CertificateOptions()), True, near), (server, False, far))
    )
    port = reactor.listenTCP(0, far_tls, interface="127.0.0.1")
    arrived, both = Deferred(), [Deferred(), Deferred()]
    far.then = lambda: arrived.callback(None)
    for end, lost in zip((near, far), both, strict=True):
        end.connectionLost = lambda reason, lost=lost: lost.callback(None)
    await TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(near_tls)
    near.transport.write(b"here")
    await arrived
    near.transport.registerProducer(Pushes([]), False)
    far.transport.loseConnection()
    try:
        await both[0].addTimeout(120, reactor)
    finally:
        near.transport.abortConnection()
        await both[1]
        await port.stopListening()


@pytest.mark.skipif(SSL.OPENSSL_VERSION_NUMBER < 0x30300000, reason="OpenSSL cannot be told so before 3.3")
def test_a_session_that_is_resumed_exchanges_no_new_keys(tmp_path):
    """Its ServerHello says which key goes on and has no share of another: links have their own."""
    pair = Pair(tmp_path).greet()
    client, server = (each._tlsConnection for each in pair.tls)
    hellos = []
    for _ in range(2):
        again = SSL.Connection(client.get_context(), None), SSL.Connection(server.get_context(), None)
        again[0].set_connect_state()
        again[1].set_accept_state()
        if hellos:
            again[0].set_session(client.get_session())
        for here, there in (again, reversed(again)):
            with pytest.raises(SSL.WantReadError):
                here.do_handshake()
            flight = here.bio_read(65536)
            there.bio_write(flight)
        hellos.append(int.from_bytes(flight[3:5], "big"))
    # Handshake head 4, version 2, random 32, session 33, suite 2, compression 1, extensions 2 + 6 + 6.
    assert hellos[1] == 88 < hellos[0]


def test_options_of_openssl_are_as_wide_where_long_is_not():
    """On hosts of 32 bits too: what the binding declares says what fits, so C{for_links} may set bit 35."""
    declared = SSL._ffi.typeof(SSL._lib.SSL_CTX_set_options)
    assert [each.cname for each in (declared.args[1], declared.result)] == ["uint64_t", "uint64_t"]


@pytest.mark.skipif(
    not hasattr(SSL.Context, "set_tls13_ciphersuites"), reason="an older pyOpenSSL has no say in it"
)
def test_both_ends_take_the_cheapest_suite(pair):
    """Links are sealed inside: nothing is gained by longer keys and hashes around them."""
    assert {each._tlsConnection.get_cipher_name() for each in pair.tls} == {"TLS_AES_128_GCM_SHA256"}
