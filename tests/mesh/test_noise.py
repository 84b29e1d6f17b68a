# SPDX-License-Identifier: MIT
"""What strangers meet: the preamble, the handshake, five checks at both ends, deadlines and caps."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh.linkworld import World
from msgspec.structs import replace
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs, formatEvent, globalLogPublisher
from zope.interface.verify import verifyClass

from gmesh.interfaces import ISecureTransport
from gmesh.mesh.limits import HandshakeLimits
from gmesh.mesh.noise import NoiseProtocol
from gmesh.testing.issuer import Issuer
from gmesh.testing.transport import Wire
from gmesh.trust.documents import AuthorityKey, Document, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import NoiseKey
from gmesh.wire.preamble import encode_preamble
from gmesh.wire.suites import Suite


@pytest.fixture
def world():
    world = World()
    yield world
    world.finish()


@pytest.fixture
def lines():
    """Every log line of the test, formatted."""
    kept = []

    def observe(event):
        kept.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield kept
    globalLogPublisher.removeObserver(observe)


class Outcome:
    """An attempt that remembers what it was told."""

    suite_turn = 0

    def __init__(self):
        self.calls = []

    def linked(self, peer):
        self.calls.append(("linked", peer.name))

    def ended(self, reason, peer):
        self.calls.append(("ended", reason, peer and peer.name))


class Raw(Protocol):
    """A stranger: sends what it is told, keeps what it gets."""

    def __init__(self, data):
        self.data, self.received, self.lost = data, b"", False

    def connectionMade(self):
        if self.data:
            self.transport.write(self.data)

    def dataReceived(self, data):
        self.received += data

    def connectionLost(self, reason):
        self.lost = True


def stranger(world, node, data, host="192.0.2.1"):
    """Connect and send C{data}."""
    protocol = Raw(data)
    factory = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    world.network.client(node.address, host).connect(factory)
    return protocol


def wrong_network(world, bad):
    """Certified in another network."""
    other = Issuer(world.wall, Random(99))
    bad.certificate = other.certify(bad.enrolled.node_key, bad.enrolled.noise_key, bad.name, ["relay"])


def unknown_key(world, bad):
    """Signed by a key that the genesis does not list."""
    world.issuer.authority, kept = world.issuer.new_key(), world.issuer.authority
    bad.certificate = world.issuer.renew(bad.enrolled).certificate
    world.issuer.authority = kept


def bad_signature(world, bad):
    """Changed after it was signed."""
    good, other = bad.certificate, world.issuer.renew(bad.enrolled).certificate
    bad.certificate = Document(good.body, good.signed, other.signatures)


def expired(world, bad):
    """Over, leeway included."""
    enrolled = bad.enrolled
    bad.certificate = world.issuer.certify(
        enrolled.node_key, enrolled.noise_key, bad.name, ["relay"], lifetime=60
    )
    world.clock.advance(400)


def not_yet_valid(world, bad):
    """From the future, leeway included."""
    world.start += 4000
    bad.certificate = world.issuer.renew(bad.enrolled).certificate
    world.start -= 4000


def revoked(world, bad):
    """Named by the CRL, which only the good node holds."""
    crl = world.issuer.revoke(bad.enrolled)
    world.nodes[0].trust.offer(crl, world.wall())


def revoked_key(world, bad):
    """Its key named by the CRL, so that a renewed certificate does not help."""
    crl = world.issuer.revoke(bad.enrolled, key=True)
    bad.certificate = world.issuer.renew(bad.enrolled).certificate
    world.nodes[0].trust.offer(crl, world.wall())


def key_mismatch(world, bad):
    """Somebody else's good certificate."""
    bad.certificate = world.issuer.enrol("victim", "relay").certificate


FAULTS = [
    (wrong_network, "wrong-network", "unspecified"),
    (unknown_key, "unknown-key", "unspecified"),
    (bad_signature, "bad-signature", "unspecified"),
    (expired, "expired", "expired"),
    (not_yet_valid, "not-yet-valid", "unspecified"),
    (revoked, "revoked", "revoked"),
    (revoked_key, "revoked", "revoked"),
    (key_mismatch, "key-mismatch", "unspecified"),
]


@pytest.mark.parametrize(("fault", "reason", "told"), FAULTS)
@pytest.mark.parametrize("direction", ["dial", "accept"])
def test_field_t4_each_check_refuses_with_its_reason(world, lines, fault, reason, told, direction):
    """On dial and on accept: exactly that reason, counted, in one log line, and nothing left open."""
    good, bad = world.node("good").listen(), world.node("bad").listen()
    fault(world, bad)
    outcome = Outcome()
    if direction == "dial":
        good.dial(bad, outcome)
    else:
        bad.dial(good, outcome)
    world.run(2)
    assert dict(good.counters) == {reason: 1}
    refusals = [line for line in lines if "Refused peer" in line]
    assert len(refusals) == 1 and f": {reason}: " in refusals[0]
    assert ("dialled at" in refusals[0]) == (direction == "dial")
    assert good.neighbours.sessions == bad.neighbours.sessions == 0
    assert good.recorder.events == bad.recorder.events == []
    assert world.network.open_connections() == []
    if direction == "dial":
        assert outcome.calls == [("ended", reason, None)]
    else:
        assert outcome.calls == [("ended", told, "good")]


def test_we_do_not_talk_to_ourselves(world):
    """An address that leads back is refused as such."""
    one = world.node("one").listen()
    outcome = Outcome()
    one.dial(one, outcome)
    world.run(2)
    assert outcome.calls == [("ended", "self", None)]


def test_another_network_is_not_understood(world):
    """The network_id is in the prologue: the handshake fails, certificates stay unseen."""
    one = world.node("one")
    elsewhere = World()
    elsewhere.clock, elsewhere.network = world.clock, world.network
    elsewhere.issuer = Issuer(world.wall, Random(7))
    two = elsewhere.node("two")
    two.address = "10.1.0.1:7443"
    two.listen()
    outcome = Outcome()
    one.dial(two, outcome)
    world.run(2)
    assert outcome.calls == [("ended", "handshake-failed", None)]
    assert one.counters["handshake-failed"] == 1


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "not-gmesh"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "not-gmesh"),
        (b"\n", "not-gmesh"),
    ],
)
def test_scanners_are_cut_and_counted_quietly(world, lines, data, cause):
    """A browser or port scanner gets not one byte, costs no key operation and no log line."""
    node = world.node("node").listen()
    node.noise.sessions = None
    raw = stranger(world, node, data)
    world.run(0.5)
    assert raw.lost and raw.received == b""
    assert dict(node.counters) == {cause: 1}
    assert lines == []


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"gmesh\x02\x01\x00", "wire-version"),
        (b"gmesh\x01\x63\x00", "unknown-suite"),
        (encode_preamble(Suite.CHACHAPOLY_SHA256), "suite-not-allowed"),
    ],
)
def test_a_preamble_we_do_not_allow_is_refused_before_any_key_operation(world, lines, data, cause):
    """Version and suite are judged by the preamble alone, and the log says which."""
    node = world.node("node").listen()
    node.noise.sessions = None
    raw = stranger(world, node, data + bytes(100))
    world.run(0.5)
    assert raw.lost and raw.received == b""
    assert dict(node.counters) == {cause: 1}
    assert len(lines) == 1 and cause in lines[0]


def preamble(node):
    return encode_preamble(node.verifier.suites()[0])


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"\xff\xff", "record-size"),
        (b"\x00\x00", "record-size"),
        (b"\x00\x25" + bytes(37), "record-size"),
        (b"\x00\x10" + bytes(16), "bad-handshake"),
        (b"\x00\x24" + bytes(36), "bad-key"),
    ],
)
def test_a_bad_first_record_is_refused(world, data, cause):
    """Its size before it is read, its content when it is whole."""
    node = world.node("node").listen()
    raw = stranger(world, node, preamble(node) + data)
    world.run(0.5)
    assert raw.lost
    assert list(node.counters) == [cause]


@settings(max_examples=60)
@given(st.binary(max_size=300), st.integers(0, 3))
def test_garbage_never_comes_through(data, prefix):
    """Whatever a stranger sends, it is cut or times out, and nothing is left."""
    world = World(seed=2)
    node = world.node("node").listen()
    raw = stranger(world, node, (b"", b"gmesh", preamble(node), preamble(node) + b"\x00\x24")[prefix] + data)
    world.run(6)
    assert raw.lost and node.neighbours.sessions == 0 and node.recorder.events == []
    world.finish()


def test_field_t8_silence_has_a_deadline(world):
    """A socket that never speaks is gone after the handshake deadline."""
    node = world.node("node").listen()
    raw = stranger(world, node, b"")
    world.run(4.9)
    assert not raw.lost and node.gate.half_open == 1
    world.run(0.3)
    assert raw.lost and node.gate.half_open == 0
    assert dict(node.counters) == {"handshake-timeout": 1}


@pytest.mark.parametrize("moment", [0.0015, 0.0025, 0.0045])
def test_d14_a_dialler_tells_of_a_handshake_that_gets_no_answer(world, moment):
    """A port that never answers, packets lost later on the way, even once both are judged: one line."""
    one, two = world.node("one"), world.node("two").listen()
    with capturedLogs() as events:
        one.dial(two)
        world.run(moment)
        world.network.connections[-1].silence()
        world.run(6)
    told = [formatEvent(event) for event in events if event.get("reason") == "handshake-timeout"]
    assert [line for line in told if "dialled at" in line and "no handshake came to its end" in line] == told
    assert len(told) == 1 and one.counters["handshake-timeout"] == 1


def test_the_deadline_covers_the_handshake_as_a_whole(world):
    """A peer that stops after any number of bytes is gone after five seconds too, at both ends."""
    one, two = world.node("one"), world.node("two").listen()
    for moment in (0.0015, 0.0025, 0.0035, 0.0045):
        one.dial(two)
        world.run(moment)
        world.network.connections[-1].silence()
        world.run(11)
        assert world.network.open_connections() == []
        for node in (one, two):
            assert node.neighbours.sessions == 0 and node.neighbours.links == {}


def test_field_t8_half_open_handshakes_are_capped_in_total_and_by_address():
    """The next silent socket of an address is cut, the oldest of all for a newer; a good node gets in."""
    world = World()
    node = world.node("node", limits=HandshakeLimits(half_open=6, half_open_per_address=4)).listen()
    first = [stranger(world, node, b"", "192.0.2.1") for _ in range(5)]
    world.run(0.1)
    assert [raw.lost for raw in first] == [False] * 4 + [True]
    friend = world.node("friend")
    friend.dial(node)
    world.run(0.5)
    assert friend.link(node) is not None
    second = [stranger(world, node, b"", f"198.51.100.{number}") for number in range(4)]
    world.run(0.1)
    assert [raw.lost for raw in (*first, *second)] == [True, True, False, False, True] + [False] * 4
    assert node.counters["half-open-limit"] == 2 and node.counters["half-open-limit-of-address"] == 1
    world.run(6)
    assert node.gate.half_open == 0
    world.finish()


def test_handshakes_are_rationed_before_any_diffie_hellman():
    """A flood of first messages from one address is refused by its bucket; another address is not."""
    world = World()
    node = world.node("node", limits=HandshakeLimits(rate_per_address=1, burst_per_address=3)).listen()
    message = preamble(node) + b"\x00\x24" + world.random.randbytes(32) + bytes(4)
    flood = []
    for _ in range(10):
        flood.append(stranger(world, node, message))
        world.run(0.02)
    assert sum(bool(raw.received) for raw in flood) == 3
    assert node.counters["handshake-rate-of-address"] == 7
    friend = world.node("friend")
    friend.dial(node)
    world.run(0.5)
    assert friend.link(node) is not None
    world.finish()


def test_refusals_are_logged_at_a_bounded_rate(world, lines):
    """A hundred refusals of one kind are a hundred in the counter and a few in the log."""
    node = world.node("node", limits=HandshakeLimits(rate_per_address=1000, burst_per_address=1000)).listen()
    for _ in range(100):
        stranger(world, node, b"gmesh\x02\x01\x00")
        world.run(0.02)
    assert node.counters["wire-version"] == 100
    assert len(lines) == 5
    world.run(10)
    stranger(world, node, b"gmesh\x02\x01\x00")
    world.run(0.1)
    assert "(95 more" in lines[-1]


@pytest.mark.parametrize("suite", list(Suite))
def test_every_suite_carries_a_link(suite):
    """Whichever suite the genesis puts first is proposed and used by both ends."""
    world = World()
    for node in (world.node("one"), world.node("two")):
        node.noise.suites = lambda: (suite, Suite.AESGCM_SHA256)
    one, two = world.nodes
    two.listen()
    one.dial(two)
    world.run(0.5)
    one.link(two).send_control(16, b"over " + suite.label.encode())
    world.run(0.5)
    assert two.recorder.frames == [("one", 16, b"over " + suite.label.encode())]
    world.finish()


def another_key(world):
    """The certificate that the dialler got meanwhile names it."""
    dialler = world.nodes[0]
    key = NoiseKey.from_private(world.random.randbytes(32))
    dialler.enrolled = world.issuer.renew(dataclasses.replace(dialler.enrolled, noise_key=key))
    dialler.certificate = dialler.enrolled.certificate


def other_suites(world):
    """A newer genesis allows the first suite no longer."""
    for node in world.nodes:
        node.noise.suites = lambda: (Suite.AESGCM_SHA256,)


@pytest.mark.parametrize("change", [None, another_key, other_suites])
def test_what_was_prepared_is_made_again_where_it_no_longer_holds(world, change):
    """Seconds lie between, while a proxy or a web server is waited for: then the dial would be refused."""
    one, two = world.node("one"), world.node("two").listen()
    begun = []
    begin = one.noise.sessions.begin
    one.noise.sessions.begin = lambda *given: begun.append(given) or begin(*given)
    dialling = one.mesh.dialling()
    build = dialling.buildProtocol

    def prepared(address):
        protocol = build(address)
        protocol.prepare()
        if change is not None:
            change(world)
        return protocol

    dialling.buildProtocol = prepared
    world.network.client(two.address, one.host).connect(dialling)
    world.run(0.5)
    assert one.link(two) and two.link(one)
    assert len(begun) == (1 if change is None else 2)


@pytest.mark.parametrize("position", [0, 1, 2, 20, 500])
@pytest.mark.parametrize("towards", ["server", "client"])
def test_a_changed_byte_ends_the_connection(position, towards):
    """One flipped bit in any record, either way, ends the link at the end that reads it."""
    world = World(wire=Wire(chunked=False))
    one, two = world.node("one"), world.node("two").listen()
    one.dial(two)
    world.run(0.5)
    end = getattr(world.network.connections[0], towards)
    original = end.received

    def flip(data):
        at = min(position, len(data) - 1)
        original(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])

    end.received = flip
    sender, receiver = (one, two) if towards == "server" else (two, one)
    sender.link(receiver).send_control(16, bytes(100))
    world.run(17)
    assert receiver.recorder.frames == []
    assert receiver.recorder.events[-1][:2] == ("down", sender.name)
    world.finish()


def rotate(world):
    """Genesis 2: the old authority key and a new one, which signs from now on."""
    issuer, now = world.issuer, int(world.wall())
    new = issuer.new_key()
    body = replace(
        issuer.genesis.body,
        version=issuer.genesis.body.version + 1,
        network_id=issuer.network_id,
        previous=issuer.genesis.digest,
        issued_at=now,
        authority=(
            *issuer.genesis.body.authority,
            AuthorityKey(key=b64url_encode(new.public), valid_from=now, valid_to=now + 86400 * 365),
        ),
    )
    issuer.genesis = sign_document(body, [issuer.root])
    issuer.genesis_chain += (issuer.genesis,)
    issuer.authority = new


@pytest.mark.parametrize("direction", ["dial", "accept"])
def test_a_genesis_carried_in_the_handshake_is_applied_first(world, direction):
    """A node that slept through changes of the authority key gets in, whichever end dials."""
    sleeper = world.node("sleeper").listen()
    trust = world.trust()
    for _ in range(3):
        rotate(world)
        trust.offer(world.issuer.genesis, world.wall())
    awake = world.node("awake", trust=trust).listen()
    one, two = (sleeper, awake) if direction == "dial" else (awake, sleeper)
    one.dial(two)
    world.run(1)
    assert sleeper.trust.genesis.body.version == 4
    assert sleeper.link(awake) is not None and awake.link(sleeper) is not None


def test_a_forged_genesis_in_the_handshake_is_refused(world):
    """Documents of a stranger change nothing unless the root signed them."""
    good, bad = world.node("good").listen(), world.node("bad")
    root, kept = world.issuer.new_key(), world.issuer.root
    world.issuer.root = root
    rotate(world)
    world.issuer.root = kept
    bad.trust.genesis_after = lambda version: (world.issuer.genesis,)
    bad.dial(good)
    world.run(1)
    assert dict(good.counters) == {"bad-genesis": 1}
    assert good.trust.genesis.body.version == 1
    assert world.network.open_connections() == []


@pytest.mark.parametrize("direction", ["dial", "accept"])
@pytest.mark.parametrize("moment", [0.0005 * step for step in range(2, 14)])
def test_field_t6_revocation_at_each_step_leaves_nothing(direction, moment):
    """Whenever in the handshake or after it the CRL arrives: no link and no socket remain."""
    world = World(wire=Wire(chunked=False))
    good, bad = world.node("good").listen(), world.node("bad").listen()
    one, two = (good, bad) if direction == "dial" else (bad, good)
    one.dial(two)
    world.run(moment)
    crl = world.issuer.revoke(bad.enrolled)
    good.trust.offer(crl, world.wall())
    assert good.neighbours.links == {} and good.neighbours.sessions == 0
    world.run(2)
    assert good.neighbours.sessions == bad.neighbours.sessions == 0
    assert world.network.open_connections() == []
    world.finish()


def test_secure_transport_is_provided():
    """The seam holds."""
    verifyClass(ISecureTransport, NoiseProtocol)
