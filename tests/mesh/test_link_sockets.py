# SPDX-License-Identifier: MIT
"""The same factories on real sockets: TCP, TLS, unix, behind a proxy."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mesh.sockets_world import RealWorld, bulk, tcp, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher

from gmesh.mesh.carriers import client_endpoint
from gmesh.mesh.limits import AHEAD_MOST, READ_SIZE


@pytest_twisted.async_yield_fixture
async def world():
    world = RealWorld()
    yield world
    await world.finish()


async def test_a_link_over_tcp(world):
    """Dialled by name, tuned, saturated, closed with its reason at both ends."""
    one, two = world.node("one"), world.node("two")
    host = await world.listen(two, tcp())
    sockets = []
    one.dialler._dials._connect = lambda *target: client_endpoint(reactor, *target)
    one.dialler.set_targets([f"localhost:{host.port}"])
    one.dialler.start()
    await until(lambda: one.link(two) and two.link(one))
    sockets = [node.link(other)._transport.transport.getHandle() for node, other in ((one, two), (two, one))]
    for handle in sockets:
        assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 16384
        assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    assert one.link(two)._transport.transport.SEND_LIMIT > AHEAD_MOST
    assert one.link(two)._transport.transport.bufferSize == READ_SIZE
    one.link(two)._transport.keep_unsent(65536)
    assert sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 65536
    await bulk(world, one, two)
    await until(lambda: one.link(two).rtt is not None)
    one.trust.offer(world.issuer.revoke(two.enrolled), world.wall())
    assert one.link(two) is None
    await until(lambda: two.link(one) is None)
    assert two.recorder.events[-1] == ("down", "one", "revoked")


async def test_a_link_over_a_unix_socket(world, tmp_path):
    """No host, no TCP options: it works all the same."""
    one, two = world.node("one"), world.node("two")
    path = str(tmp_path / "mesh.sock")
    await world.listen(two, tcp(f"unix:{path}:mode=600"))
    await UNIXClientEndpoint(reactor, path).connect(one.mesh.dialling())
    await bulk(world, one, two, 50)


def polls():
    """The calls by which a transport would ask again and again for more."""
    return [call for call in reactor.getDelayedCalls() if "Cooperator" in str(call.func)]


def self_signed():
    """A certificate for TLS, which protects nothing here: Noise does."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mesh.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return PrivateCertificate.loadPEM(pem)


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # Twisted's own call
async def test_a_link_over_tls(world):
    """Back-pressure holds through TLS, and an idle link is not polled."""
    one, two = world.node("one"), world.node("two")
    options = self_signed().options()
    host = await world.listen(two, SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1"))
    inner = TCP4ClientEndpoint(reactor, "127.0.0.1", host.port)
    await wrapClientTLS(CertificateOptions(), inner).connect(one.mesh.dialling())
    await bulk(world, one, two)
    await until(lambda: one.link(two)._egress.blocked_since is None)
    await until(lambda: not polls())
    for _ in range(50):
        await deferLater(reactor, 0)
        assert not polls()


class Stranger(Protocol):
    """Sends something, keeps the answer, tells when it is over."""

    def __init__(self, data):
        self.data, self.received, self.over = data, b"", Deferred()

    def connectionMade(self):
        self.transport.write(self.data)

    def dataReceived(self, data):
        self.received += data

    def connectionLost(self, reason):
        self.over.callback(None)


async def test_http_gets_nothing(world):
    """A browser on the mesh port is cut without an answer."""
    node = world.node("node")
    host = await world.listen(node, tcp())
    stranger = Stranger(b"GET / HTTP/1.1\r\n\r\n")
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", host.port), stranger)
    await stranger.over
    assert stranger.received == b"" and dict(node.counters) == {"http": 1}


async def test_behind_a_proxy_the_real_address_counts(world):
    """The PROXY header names the peer: in the log and for its share of half-open handshakes."""
    node = world.node("node")
    host = await world.listen(node, tcp("haproxy:tcp:0:interface=127.0.0.1"))
    lines = []

    def observe(event):
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        stranger = Stranger(b"PROXY TCP4 192.0.2.7 127.0.0.1 5555 7443\r\ngmesh\x02\x01\x00")
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", host.port), stranger)
        await stranger.over
    finally:
        globalLogPublisher.removeObserver(observe)
    assert [line for line in lines if "192.0.2.7:5555: wire-version" in line]
    await until(lambda: node.gate.half_open == 0)


async def test_a_refusal_over_tcp_leaves_nothing_open(world):
    """The accepting end refuses, the dialler hears why, both sockets are gone."""
    one, two = world.node("one"), world.node("two")
    two.trust.offer(world.issuer.revoke(one.enrolled), world.wall())
    host = await world.listen(two, tcp())
    ended = []

    class Attempt:
        suite_turn = 0

        def linked(self, peer):
            ended.append("linked")

        def ended(self, reason, peer):
            ended.append(reason)

    await TCP4ClientEndpoint(reactor, "127.0.0.1", host.port).connect(one.mesh.dialling(Attempt()))
    await until(lambda: ended)
    assert ended == ["revoked"]
    assert two.counters["revoked"] == 1
