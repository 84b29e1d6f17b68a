# SPDX-License-Identifier: MIT
"""TLS around a link, on real sockets: carried, resumed, judged, and warned of rather than believed."""

from __future__ import annotations

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import ec
from mesh.sockets_world import Authority, RealWorld, bulk, tcp, until
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet import reactor
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.tcp import Client
from zope.interface import implementer

from gmesh.daemon.listen import parse_server
from gmesh.errors import CarrierRefused, ConfigurationError
from gmesh.interfaces import IPreparable
from gmesh.mesh.carriers import Carriers
from gmesh.mesh.dials import TargetState
from gmesh.mesh.tls import TlsTrust, key_pin

# Twisted's own calls.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


@pytest_twisted.async_yield_fixture
async def world():
    world = RealWorld()
    yield world
    await world.finish()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


async def dialled(world, served, trust):
    """Node one dials node two, which serves TLS; both."""
    one, two = world.node("one"), world.node("two")
    host = await world.listen(two, tcp(served))
    one.dialler._dials._connect = Carriers(reactor, lambda: trust).endpoint
    one.dialler.set_targets([f"tls://localhost:{host.port}"])
    one.dialler.start()
    return one, two


WRONG = {
    "another authority": (("localhost",), 30, True, "an authority that is not trusted here"),
    "another host": (("other.example",), 30, False, "it is not for localhost"),
    "no host": ((), 30, False, "it is not for localhost"),
    "expired": (("localhost",), -1, False, "it has expired"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_certificate_is_told_and_the_link_is_made(world, authority, tmp_path, case):
    """Who is there is decided inside: what is wrong is named, with whose certificate it is and its digest."""
    hosts, days, foreign, cause = WRONG[case]
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "Inspector")
    served, certificate = (other if foreign else authority).endpoint(*hosts, days=days, name="front\n")
    said = []
    trust = TlsTrust(str(authority.file), warn=lambda *words: said.append(words))
    one, two = await dialled(world, served, trust)
    await until(lambda: one.link(two) and two.link(one))
    [(address, fault)] = said
    assert address == one.dialler.targets[0].address
    assert cause in fault and key_pin(certificate) in fault and "\n" not in fault
    assert ("Inspector" if foreign else "Test Authority") in fault


async def test_a_wrong_certificate_is_refused_by_who_is_strict(world, authority):
    """No link; the reason is shown as that of the last dial."""
    served, _ = authority.endpoint("other.example")
    one, two = await dialled(world, served, TlsTrust(str(authority.file), strict=True))
    [target] = one.dialler.targets
    await until(lambda: target.reason)
    assert target.reason == "tls-certificate" and target.state is TargetState.WAITING
    assert one.link(two) is None


async def test_an_inspecting_proxy_whose_authority_is_trusted_carries_the_mesh(world, authority, tmp_path):
    """It ends TLS, looks at what is inside and begins TLS anew: nothing is lost by it, and nothing told."""
    (tmp_path / "plant").mkdir()
    plant = Authority(tmp_path / "plant", "Plant")
    one, two = world.node("one"), world.node("two")
    behind = await world.listen(two, tcp(authority.endpoint("localhost")[0]))
    seen = []
    onward = Carriers(reactor, lambda: TlsTrust(str(authority.file), strict=True))
    inspector = Inspector(lambda: onward.endpoint(f"tls://localhost:{behind.port}"), seen)
    port = await tcp(plant.endpoint("localhost")[0]).listen(inspector)
    world.ports.append(port)
    said = []
    trust = TlsTrust(str(plant.file), strict=True, warn=lambda *words: said.append(words))
    one.dialler._dials._connect = Carriers(reactor, lambda: trust).endpoint
    one.dialler.set_targets([f"tls://localhost:{port.getHost().port}"])
    one.dialler.start()
    await bulk(world, one, two, 50)
    assert said == [] and b"".join(seen).startswith(b"gmesh") and b"000007" not in b"".join(seen)


class Inspector(Factory):
    """Ends a connection, and passes on what it reads to another and back."""

    def __init__(self, endpoint, seen):
        self.endpoint, self.seen = endpoint, seen

    def buildProtocol(self, addr):
        return Half(self)


class Half(Protocol):
    def __init__(self, inspector=None, other=None):
        self.inspector, self.other, self.kept = inspector, other, []

    def connectionMade(self):
        if self.inspector is not None:
            connecting = connectProtocol(self.inspector.endpoint(), Half(other=self))
            connecting.addCallback(self.joined)

    def joined(self, other):
        self.other = other
        for data in self.kept:
            other.transport.write(data)

    def dataReceived(self, data):
        if self.inspector is not None:
            self.inspector.seen.append(data)
        if self.other is None:
            self.kept.append(data)
        else:
            self.other.transport.write(data)

    def connectionLost(self, reason):
        if self.other is not None:
            self.other.transport.loseConnection()


async def test_a_pin_is_enough_and_nothing_else_is(world, authority):
    """A pinned key is good whoever signed it; with pins, the roots of the system decide nothing."""
    served, certificate = authority.endpoint("other.example", days=-1)
    said = []
    trust = TlsTrust(pins=[key_pin(certificate)], strict=True, warn=lambda *words: said.append(words))
    one, two = await dialled(world, served, trust)
    await until(lambda: one.link(two) and two.link(one))
    assert said == []
    other = world.node("other")
    wrong = TlsTrust(str(authority.file), pins=["0" * 64], strict=True)
    other.dialler._dials._connect = Carriers(reactor, lambda: wrong).endpoint
    other.dialler.set_targets([one.dialler.targets[0].address])
    other.dialler.start()
    await until(lambda: other.dialler.targets[0].reason == "tls-certificate")


async def test_a_session_is_resumed_with_its_verdict(world, authority):
    """The second connection shows no certificate; what was wrong with that of the first is told again."""
    served, _ = authority.endpoint("other.example")
    node, said = world.node("node"), []
    host = await world.listen(node, tcp(served))
    trust = TlsTrust(str(authority.file), warn=lambda *words: said.append(words))
    client = world.node("client")
    for _ in range(2):
        endpoint = Carriers(reactor, lambda: trust).endpoint(f"tls://localhost:{host.port}")
        noise = await endpoint.connect(client.mesh.dialling())
        await until(lambda: client.link(node) and client.link(node).rtt is not None)
        assert trust._chains[noise.transport.getHandle()].looked is (len(said) == 1)
        noise.lose()
        await until(lambda: client.link(node) is None and node.link(client) is None)
    assert len(said) == 2 and said[0] == said[1] and "not for localhost" in said[0][1]


async def test_behind_a_proxy_that_speaks_before_tls_the_true_address_counts(world, authority):
    """HAProxy sends its PROXY line outside TLS: it is read there."""
    served, _ = authority.endpoint("localhost")
    one, two = world.node("one"), world.node("two")
    host = await world.listen(two, tcp(f"haproxy:{served}"))
    inner = _Announced(TCP4ClientEndpoint(reactor, "127.0.0.1", host.port))
    carriers = Carriers(reactor, lambda: TlsTrust(str(authority.file), strict=True))
    carriers._tcp = lambda *_: inner
    await carriers.endpoint("tls://localhost").connect(one.mesh.dialling())
    await until(lambda: two.link(one))
    assert two.link(one).address == "192.0.2.7:5555"


class _Announced:
    """Connects through a proxy that says whose connection it is."""

    def __init__(self, inner):
        self.inner = inner

    def connect(self, factory):
        build = factory.buildProtocol

        def announced(addr):
            protocol = build(addr)
            made = protocol.makeConnection

            def make(transport):
                transport.write(b"PROXY TCP4 192.0.2.7 127.0.0.1 5555 443\r\n")
                made(transport)

            protocol.makeConnection = make
            return protocol

        factory.buildProtocol = announced
        return self.inner.connect(factory)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_where_there_is_no_tls_it_is_said(world, said):
    """A port of another program, and one that closes: one line that names the cause."""

    class Server(Protocol):
        def connectionMade(self):
            self.transport.write(said)
            self.transport.loseConnection()

    port = await tcp().listen(Factory.forProtocol(Server))
    world.ports.append(port)
    endpoint = Carriers(reactor, TlsTrust).endpoint(f"tls://localhost:{port.getHost().port}")
    with pytest.raises(CarrierRefused, match="there is no TLS: ") as refused:
        await endpoint.connect(Factory.forProtocol(Protocol))
    assert refused.value.reason == "tls-failed"


async def test_a_port_that_never_answers_ends_with_the_patience_of_who_dials(world):
    """What is said is that no handshake came to its end; nothing is left open."""

    class Silent(Protocol):
        def dataReceived(self, data):
            connecting.cancel()  # once the handshake has begun

    port = await tcp().listen(Factory.forProtocol(Silent))
    world.ports.append(port)
    connecting = (
        Carriers(reactor, TlsTrust)
        .endpoint(f"tls://localhost:{port.getHost().port}")
        .connect(Factory.forProtocol(Protocol))
    )
    with pytest.raises(CarrierRefused, match="no TLS handshake"):
        await connecting


def test_certificates_to_trust_that_are_none(tmp_path):
    """A file that is missing or holds none ends the start with its name."""
    (tmp_path / "empty").write_bytes(b"")
    for file in ("empty", "missing"):
        with pytest.raises(ConfigurationError, match=f"{file} holds no certificates"):
            TlsTrust(str(tmp_path / file))


@implementer(IPreparable)
class _Prepared(Protocol):
    """Notes what it is asked for, and whether all that was said before has left."""

    def __init__(self, events):
        self.events = events

    def prepare(self):
        [client] = [each for each in reactor.getReaders() if isinstance(each, Client)]
        self.events.append(("prepare", len(client.dataBuffer) - client.offset + client._tempDataLen))

    def connectionMade(self):
        self.events.append("made")


async def test_who_is_carried_prepares_while_the_other_end_is_waited_for(world, authority):
    """Once what TLS says first has left, and before it is connected; over plain TCP nobody is waited for."""
    _, two = world.node("one"), world.node("two")
    host = await world.listen(two, tcp(authority.endpoint("localhost")[0]))
    carriers = Carriers(reactor, lambda: TlsTrust(str(authority.file), strict=True))
    for kind, events in (("tls", [("prepare", 0), "made"]), ("tcp", ["made"])):
        seen = []
        factory = Factory.forProtocol(lambda seen=seen: _Prepared(seen))
        factory.noisy = False
        protocol = await carriers.endpoint(f"{kind}://localhost:{host.port}").connect(factory)
        assert seen == events
        protocol.transport.abortConnection()


@pytest.mark.skipif(
    not hasattr(SSL._lib, "SSL_CTX_set1_curves_list"), reason="an older cryptography has no say in it"
)
def test_what_a_dialler_says_first_fits_into_one_packet():
    """Some firewalls let no TLS through whose first words come in two: one holds 1,460 bytes on Ethernet."""
    connection = TlsTrust().connection("tls://anchor.example", "anchor.example")
    connection.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    assert 100 < len(connection.bio_read(1 << 16)) < 1460


@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
async def test_a_server_that_knows_p_384_alone_is_linked_to(world, authority, newest):
    """Its certificate has a key of that group, and it exchanges none of another."""
    served, certificate = authority.endpoint("localhost", curve=ec.SECP384R1)
    key = parse_server(reactor, served)._sslContextFactory.privateKey
    options = CertificateOptions(key, X509.from_cryptography(certificate))
    options.getContext().set_max_proto_version(newest)
    options.getContext().set_tmp_ecdh(ec.SECP384R1())
    one, two = world.node("one"), world.node("two")
    host = await world.listen(two, SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1"))
    carriers = Carriers(reactor, lambda: TlsTrust(str(authority.file), strict=True))
    await carriers.endpoint(f"tls://localhost:{host.port}").connect(one.mesh.dialling())
    await until(lambda: one.link(two) and two.link(one))
