# SPDX-License-Identifier: MIT
"""Message 1 shows whose it is, so that no flood of forged ones keeps members apart."""

from __future__ import annotations

import itertools
import re
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from endtoend.rig import DELAY, Fabric, noise_key
from twisted.internet.task import LoopingCall

from gmesh.endtoend import limits
from gmesh.endtoend.handshake_mac import HandshakeMacs
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import NoiseKey
from gmesh.wire.frames import Kind
from gmesh.wire.noise import NoiseSession
from gmesh.wire.paths import PathHeader, pack_path_frame, read_path

CHAPTER = (Path(__file__).parents[2] / "docs" / "protocol" / "endtoend.rst").read_text()
MAC = 16
FLOW = b"source..target.."


def hmac(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 of another library."""
    made = HMAC(key, SHA256())
    for part in parts:
        made.update(part)
    return made.finalize()


def mac_of(network: bytes, private: bytes, public: bytes, covered: bytes) -> bytes:
    """What docs/protocol says stands behind message 1."""
    mine = X25519PrivateKey.from_private_bytes(private)
    names = sorted((mine.public_key().public_bytes_raw(), public))
    shared = mine.exchange(X25519PublicKey.from_public_bytes(public))
    return hmac(hmac(shared, b"gmesh-e2e-mac/1", network, *names), covered)[:MAC]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every message for which a Noise key is exchanged."""
    seen: list[bytes] = []
    read = NoiseSession.read_message

    def count(session: NoiseSession, message: bytes) -> bytes:
        seen.append(bytes(message))
        return read(session, message)

    monkeypatch.setattr(NoiseSession, "read_message", count)
    return seen


@pytest.fixture
def exchanged(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every public key with which a static key is exchanged."""
    seen: list[bytes] = []
    exchange = NoiseKey.exchange

    def count(key: NoiseKey, public: bytes) -> bytes:
        seen.append(public)
        return exchange(key, public)

    monkeypatch.setattr(NoiseKey, "exchange", count)
    return seen


def forged(fabric: Fabric, source: bytes, number: int, target: str = "bob") -> bytes:
    """A first message that C{source} has not made."""
    path = (source, fabric.relay.handle, getattr(fabric, target).handle)
    body = number.to_bytes(8, "big") + bytes(400)
    return pack_path_frame(Kind.E2E_INIT, PathHeader(path, 0, 2**62 + number), body)


@pytest.fixture
def flood(fabric):
    """Forged handshakes of alice to bob, ten times as many as a link may bring; C{start} it."""
    numbers = itertools.count()

    def both() -> None:
        for _ in range(2):
            fabric.arrive(forged(fabric, fabric.alice.handle, next(numbers)))

    forge = LoopingCall(both)
    forge.clock = fabric.clock

    def start() -> None:
        forge.start(0.2 / limits.INIT_LINK_RATE)
        fabric.run(1)

    yield start
    if forge.running:
        forge.stop()


def test_the_mac_is_that_of_the_chapter(fabric):
    """Source, destination, number and Noise message under a key of both static keys, by another library."""
    fabric.decide = lambda kind, header, frame: ()
    fabric.alice.datagrams.post("bob", "log", b"x")
    [frame] = fabric.frames(Kind.E2E_INIT)
    header, payload = read_path(frame, 0, len(frame))
    covered = header.source + header.destination + header.counter.to_bytes(8, "big")
    covered += sha256(frame[payload:-MAC]).digest()
    network = bytes.fromhex(fabric.network.network_id)
    assert frame[-MAC:] == mac_of(network, noise_key("bob").private, noise_key("alice").public, covered)


def test_the_mac_of_the_chapter():
    """The example there, which uses the keys of RFC 7748, section 6.1, in both directions."""
    rows = re.findall(r"^([A-Za-z_' 1]+?)  +([0-9a-f]{16,})$", CHAPTER, re.M)
    names, values = zip(*rows, strict=True)
    private, public, network, _, source, destination, number, message, mac = map(bytes.fromhex, values)
    assert (names[0], names[-1]) == ("own private key", "MAC")
    own, flow, when = NoiseKey(private), source + destination, int.from_bytes(number, "big")
    macs = HandshakeMacs(network.hex())
    assert macs.mac(own, public, flow, when, message) == mac
    other = NoiseKey(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    assert other.public == public
    assert HandshakeMacs(network.hex()).proves([own, other], own.public, flow, when, message + mac, 0.0)
    assert mac == mac_of(network, private, public, flow + number + sha256(message).digest())


def test_c3_members_get_through_a_flood_in_their_name(fabric, flood):
    """A relay on the path forges handshakes of one end: eight new ones of that end, eight messages there."""
    flood()
    got = fabric.bob.serve()
    for number in range(8):
        fabric.alice.restart()
        fabric.alice.datagrams.post("bob", "log", b"%d" % number)
        fabric.run(0.2)
        assert got == [b"%d" % sent for sent in range(number + 1)]
        fabric.run(3)
    assert fabric.bob.sessions.counters["handshake-flood"] > 8 * 3 * 10 * limits.INIT_LINK_RATE


def test_c3_a_mac_is_tried_with_each_key_in_use(fabric, flood):
    """Who knows a responder by its older key gets through as well."""
    got = fabric.bob.serve()
    fabric.bob.noise_keys = [noise_key("newer"), noise_key("bob")]
    flood()
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.2)
    assert got == [b"x"]


def test_c3_a_wrong_mac_exchanges_nothing(fabric, flood, looked_at, exchanged):
    """What a flood costs is what its link may bring without MACs, and one key for the member it names."""
    flood()
    fabric.run(60)
    assert 0 < len(set(looked_at)) <= limits.INIT_SOURCE_BURST + 61 * limits.INIT_SOURCE_RATE + 1
    del looked_at[:]
    for number in range(1000):
        fabric.arrive(forged(fabric, fabric.alice.handle, 2**32 + number))
    assert looked_at == [] and exchanged == [noise_key("alice").public]


@pytest.mark.parametrize("part", ["number", "message", "mac"])
def test_c3_a_mac_is_good_for_one_message(fabric, flood, looked_at, part):
    """Changed on the way it is as none: in a flood nothing is exchanged for it."""
    fabric.decide = lambda kind, header, frame: ()
    fabric.alice.datagrams.post("bob", "log", b"x")
    [frame] = fabric.frames(Kind.E2E_INIT)
    _, payload = read_path(frame, 0, len(frame))
    changed = bytearray(frame)
    changed[{"number": payload - 1, "message": payload + 40, "mac": -1}[part]] ^= 1
    flood()
    before = len(looked_at)
    fabric.arrive(bytes(changed))
    assert len(looked_at) == before
    fabric.arrive(frame)
    assert len(looked_at) == before + 1 and fabric.bob.sessions.counters["answered"] == 1


def test_c3_who_is_not_known_yet_gets_through_without_flood(fabric):
    """The certificate that a message 1 brings is enough, though no MAC of it can be checked before."""
    got = fabric.bob.serve()
    find = fabric.bob.find_handle
    fabric.bob.find_handle = lambda handle: None if handle == fabric.alice.handle else find(handle)
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.2)
    assert got == [b"x"]


def test_c3_a_new_key_gets_through_without_flood(fabric):
    """So does a member whose certificate names another key than the one known."""
    got = fabric.bob.serve()
    fabric.alice.noise_keys = [noise_key("fresh")]
    fabric.alice.certificate = fabric.network.certificate(
        "alice", serial=9, noise_key=b64url_encode(noise_key("fresh").public)
    )
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.2)
    assert got == [b"x"]


def test_c3_copies_take_nothing_of_a_members_share(fabric, looked_at):
    """A message 1 that comes a hundred times, also after a restart, is looked at once."""
    got = fabric.bob.serve()
    fabric.decide = lambda kind, header, frame: ()
    fabric.alice.datagrams.post("bob", "log", b"x")
    [frame] = fabric.frames(Kind.E2E_INIT)
    fabric.alice.restart()
    for _ in range(100):
        fabric.arrive(frame)
    assert len(looked_at) == 1
    assert fabric.bob.sessions.counters["replayed-handshake"] == 99
    fabric.decide = lambda kind, header, frame: (DELAY,)
    fabric.alice.datagrams.post("bob", "log", b"y")
    fabric.run(0.2)
    assert got == [b"y"]


def test_c3_a_member_spends_what_is_its_own(fabric, looked_at):
    """Handshakes that a member's own key makes in a loop are answered one in a second; others have theirs."""
    carol = fabric.add("carol", 3)
    got = fabric.bob.serve()
    for number in range(1, 101):
        initiation = fabric.alice.handshaker.begin(fabric.bob.peer, number)
        path = (fabric.alice.handle, fabric.relay.handle, fabric.bob.handle)
        fabric.arrive(
            pack_path_frame(Kind.E2E_INIT, PathHeader(path, 0, initiation.number), initiation.message)
        )
    assert len(looked_at) == limits.INIT_MEMBER_BURST
    assert fabric.bob.sessions.counters["handshake-flood"] == 100 - limits.INIT_MEMBER_BURST
    carol.datagrams.post("bob", "log", b"x")
    fabric.run(0.2)
    assert got == [b"x"]


def test_c3_keys_are_computed_once_and_so_many_a_second(exchanged):
    """Whoever a flood names: one exchange for each member, and no more at once than the limit."""
    macs, own = HandshakeMacs("00" * 16), NoiseKey.generate()
    members = [NoiseKey.generate().public for _ in range(int(limits.MAC_KEY_BURST) + 100)]
    for _ in range(3):
        for member in members:
            assert not macs.proves([own], member, FLOW, 1, bytes(100), 0.0)
    assert len(exchanged) == limits.MAC_KEY_BURST
    for member in members:
        macs.proves([own], member, FLOW, 1, bytes(100), 1.0)
    assert sorted(exchanged) == sorted(members)


def test_c3_keys_are_kept_up_to_a_bound(monkeypatch):
    """However many members there were, no more are kept."""
    monkeypatch.setattr(limits, "MAX_MAC_KEYS", 10)
    macs, own = HandshakeMacs("00" * 16), NoiseKey.generate()
    for _ in range(30):
        macs.proves([own], NoiseKey.generate().public, FLOW, 1, bytes(100), 0.0)
        assert len(macs) <= 10


def test_c3_a_key_of_low_order_proves_nothing_and_is_remembered(exchanged):
    """Its secret is known to all: it is asked for once, and any MAC is refused."""
    macs, own, zero = HandshakeMacs("00" * 16), NoiseKey.generate(), bytes(32)
    covered = FLOW + bytes(8) + sha256(b"message").digest()
    for mac in (hmac(b"", covered)[:MAC], hmac(bytes(32), covered)[:MAC], bytes(MAC)) * 3:
        assert not macs.proves([own], zero, FLOW, 0, b"message" + mac, 0.0)
    assert exchanged == [zero]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17])
def test_a_body_too_short_for_a_mac_is_refused(fabric, size):
    """Nothing is raised, nothing answered."""
    path = (fabric.alice.handle, fabric.relay.handle, fabric.bob.handle)
    fabric.arrive(pack_path_frame(Kind.E2E_INIT, PathHeader(path, 0, 1), bytes(size)))
    assert fabric.bob.sessions.counters["answered"] == 0


def test_c3_frames_without_session_spend_nothing_while_a_handshake_is_under_way(fabric):
    """Frames forged in the name of some, many times, take nothing of what begins handshakes with others."""
    some = [fabric.add(f"member-{number}", 10 + number) for number in range(int(limits.INIT_LINK_BURST) // 2)]
    fabric.decide = lambda kind, header, frame: ()
    for member in (*some * 10, fabric.alice):
        path = (member.handle, fabric.relay.handle, fabric.bob.handle)
        fabric.arrive(pack_path_frame(Kind.E2E_DATA, PathHeader(path, 2**31, 1), bytes(64)))
    assert fabric.bob.sessions.counters["began"] == len(some) + 1
    assert fabric.bob.associations.get(fabric.alice.handle) is not None


def test_c3_a_forged_frame_makes_one_handshake_begin(fabric):
    """With a member that is away it is not repeated, since nobody here has anything to say to it."""
    fabric.alice.stop()
    path = (fabric.alice.handle, fabric.relay.handle, fabric.bob.handle)
    fabric.arrive(pack_path_frame(Kind.E2E_DATA, PathHeader(path, 2**31, 1), bytes(64)))
    fabric.run(100, step=0.1)
    assert len(fabric.frames(Kind.E2E_INIT)) == 1
    assert fabric.bob.sessions.counters["began"] == 1
