# SPDX-License-Identifier: MIT
"""Noise sessions against published vectors and another library, and how they fail."""

from __future__ import annotations

import ast
import hashlib
import hmac as hmac_of_python
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from dissononce.cipher.aesgcm import AESGCMCipher
from dissononce.cipher.chachapoly import ChaChaPolyCipher
from dissononce.dh.keypair import KeyPair
from dissononce.dh.x25519.private import PrivateKey
from dissononce.dh.x25519.public import PublicKey
from dissononce.dh.x25519.x25519 import X25519DH
from dissononce.hash.blake2s import Blake2sHash
from dissononce.hash.sha256 import SHA256Hash
from dissononce.processing.handshakepatterns.interactive.IK import IKHandshakePattern
from dissononce.processing.handshakepatterns.interactive.XX import XXHandshakePattern
from dissononce.processing.impl.cipherstate import CipherState
from dissononce.processing.impl.handshakestate import HandshakeState
from dissononce.processing.impl.symmetricstate import SymmetricState
from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from gmesh.errors import FrameRefused, GmeshError, PeerRefused
from gmesh.interfaces import INoiseSession
from gmesh.wire.limits import MAX_HANDSHAKE_MESSAGE, MAX_NONCE, MAX_RECORD, MAX_RECORD_PLAINTEXT, TAG
from gmesh.wire.noise import NoiseSession, StaticKey
from gmesh.wire.noise_library import hmac
from gmesh.wire.suites import Suite

VECTORS = json.loads((Path(__file__).parent / "noise_vectors.json").read_text())["vectors"]
PROLOGUE = b"prologue"
INITIATOR, RESPONDER = bytes(range(32)), bytes(range(32, 64))
EPHEMERAL_I, EPHEMERAL_R = bytes(range(64, 96)), bytes(range(96, 128))
BOTH = [(pattern, suite) for pattern in ("XX", "IK") for suite in Suite]
by_pattern_and_suite = pytest.mark.parametrize(
    ("pattern", "suite"), BOTH, ids=lambda value: str(getattr(value, "name", value))
)
by_suite = pytest.mark.parametrize("suite", Suite, ids=lambda suite: suite.name)


def public(private: bytes) -> bytes:
    """The public key of a raw private one, by another library than the session's."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def pair(pattern: str, suite: Suite, **changes: Any) -> tuple[NoiseSession, NoiseSession]:
    """An initiator and a responder with fixed keys."""
    known = public(RESPONDER) if pattern == "IK" else None
    return (
        NoiseSession(pattern, suite, True, INITIATOR, PROLOGUE, remote_static=known, ephemeral=EPHEMERAL_I),
        NoiseSession(
            pattern, suite, False, RESPONDER, changes.get("prologue", PROLOGUE), ephemeral=EPHEMERAL_R
        ),
    )


def shake(initiator: NoiseSession, responder: NoiseSession) -> None:
    """Run a handshake to its end."""
    writer, reader = initiator, responder
    while not (initiator.finished and responder.finished):
        reader.read_message(writer.write_message(b"payload"))
        writer, reader = reader, writer


def finished(
    pattern: str = "XX", suite: Suite = Suite.CHACHAPOLY_SHA256
) -> tuple[NoiseSession, NoiseSession]:
    """Two sessions after their handshake."""
    sessions = pair(pattern, suite)
    shake(*sessions)
    return sessions


@pytest.mark.parametrize(
    "vector", VECTORS, ids=lambda vector: f"{vector['file'][:5]}-{vector['protocol_name']}"
)
def test_published_vectors(vector: dict[str, Any]) -> None:
    """Every handshake and transport message of the vectors comes out, and is read back, byte for byte."""
    _, pattern, *label = vector["protocol_name"].split("_")
    suite = Suite.parse("_".join(label))
    raw = {
        key: bytes.fromhex(value)
        for key, value in vector.items()
        if key.startswith(("init_", "resp_")) and "psks" not in key
    }
    initiator = NoiseSession(
        pattern,
        suite,
        True,
        raw["init_static"],
        raw["init_prologue"],
        remote_static=raw.get("init_remote_static"),
        ephemeral=raw["init_ephemeral"],
    )
    responder = NoiseSession(
        pattern, suite, False, raw["resp_static"], raw["resp_prologue"], ephemeral=raw["resp_ephemeral"]
    )
    writer, reader = initiator, responder
    for message in vector["messages"]:
        payload, ciphertext = bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"])
        if writer.finished:
            assert writer.seal(payload) == ciphertext
            assert reader.open(ciphertext) == payload
        else:
            assert writer.write_message(payload) == ciphertext
            assert reader.read_message(ciphertext) == payload
        writer, reader = reader, writer
    assert initiator.handshake_hash == responder.handshake_hash
    if "handshake_hash" in vector:
        assert initiator.handshake_hash == bytes.fromhex(vector["handshake_hash"])
    assert initiator.remote_static == public(raw["resp_static"])
    assert responder.remote_static == public(raw["init_static"])


def _other(pattern: str, suite: Suite, initiator: bool) -> HandshakeState:
    cipher = AESGCMCipher() if "AESGCM" in suite.label else ChaChaPolyCipher()
    digest = SHA256Hash() if "SHA256" in suite.label else Blake2sHash()

    class FixedDH(X25519DH):  # type: ignore[misc]  # dissononce has no types
        def generate_keypair(self, privatekey: Any = None) -> Any:
            return X25519DH.generate_keypair(
                self, privatekey or PrivateKey(EPHEMERAL_I if initiator else EPHEMERAL_R)
            )

    dh = FixedDH()
    state = HandshakeState(SymmetricState(CipherState(cipher), digest), dh)
    own = INITIATOR if initiator else RESPONDER
    static = KeyPair(PublicKey(public(own)), PrivateKey(own))
    rs = PublicKey(public(RESPONDER)) if pattern == "IK" and initiator else None
    shape = XXHandshakePattern() if pattern == "XX" else IKHandshakePattern()
    state.initialize(shape, initiator, PROLOGUE, s=static, rs=rs)
    return state


@by_pattern_and_suite
@pytest.mark.parametrize("initiator", [True, False], ids=["initiator", "responder"])
def test_the_same_bytes_as_dissononce(pattern: str, suite: Suite, initiator: bool) -> None:
    """In either role, this session writes what dissononce writes and reads what it wrote."""
    ours = pair(pattern, suite)[0 if initiator else 1]
    twin, peer = _other(pattern, suite, initiator), _other(pattern, suite, not initiator)
    writing, number, ciphers = initiator, 0, None
    while not ours.finished:
        payload = b"payload %d" % number
        theirs, read = bytearray(), bytearray()
        if writing:
            message = ours.write_message(payload)
            ciphers = twin.write_message(payload, theirs)
            assert message == bytes(theirs)
            peer_ciphers = peer.read_message(message, read)
        else:
            peer_ciphers = peer.write_message(payload, theirs)
            ciphers = twin.read_message(bytes(theirs), read)
            assert ours.read_message(bytes(theirs)) == bytes(read) == payload
        writing, number = not writing, number + 1
    assert ours.handshake_hash == peer.symmetricstate.get_handshake_hash()
    assert ciphers is not None and peer_ciphers is not None
    outbound, inbound = (0, 1) if initiator else (1, 0)
    for plaintext in (b"", b"one", bytes(1000)):
        assert ours.seal(plaintext) == ciphers[outbound].encrypt_with_ad(b"", plaintext)
        assert ours.open(peer_ciphers[inbound].encrypt_with_ad(b"", plaintext)) == plaintext


@by_suite
def test_rekey_is_that_of_the_specification(suite: Suite) -> None:
    """k = the first 32 bytes of ENCRYPT(k, 2^64-1, "", 32 zero bytes), counters go on (Noise 4.2, 5.1)."""
    ours, theirs = pair("XX", suite)
    twin = _other("XX", suite, True)
    theirs.read_message(ours.write_message(b""))
    twin.write_message(b"", bytearray())
    answer = theirs.write_message(b"")
    ours.read_message(answer)
    twin.read_message(answer, bytearray())
    theirs.read_message(ours.write_message(b""))
    key = twin.write_message(b"", bytearray())[0]._key
    aead = AESGCM if "AESGCM" in suite.label else ChaCha20Poly1305
    order = "big" if "AESGCM" in suite.label else "little"
    for number in range(3):
        nonce = bytes(4) + number.to_bytes(8, order)
        assert ours.seal(b"record") == aead(key).encrypt(nonce, b"record", b"")
        key = aead(key).encrypt(bytes(4) + b"\xff" * 8, bytes(32), b"")[:32]
        ours.rekey_outbound()


def test_a_session_provides_its_interface() -> None:
    """Before and after the handshake."""
    sessions = pair("XX", Suite.AESGCM_SHA256)
    verifyObject(INoiseSession, sessions[0])
    shake(*sessions)
    verifyObject(INoiseSession, sessions[0])


def test_only_one_module_imports_the_noise_library() -> None:
    """Neither of its two names appears in any other import of the package."""
    package = Path(__file__).parents[2] / "gmesh"
    importers = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if any(name.split(".")[0] in {"noise", "noiseprotocol"} for name in names):
                importers.add(str(path.relative_to(package)))
    assert importers == {"wire/noise_library.py"}


def test_the_initiator_knows_the_responder_before_it_reveals_itself() -> None:
    """In XX the responder's static key is there after message 2, the initiator's after message 3."""
    initiator, responder = pair("XX", Suite.CHACHAPOLY_BLAKE2S)
    responder.read_message(initiator.write_message(b""))
    initiator.read_message(responder.write_message(b""))
    assert initiator.remote_static == public(RESPONDER)
    assert responder.remote_static is None and not initiator.finished
    responder.read_message(initiator.write_message(b""))
    assert responder.remote_static == public(INITIATOR)


def test_a_static_key_object_serves_many_sessions() -> None:
    """A key read once gives the same messages as its raw form."""
    key = StaticKey(INITIATOR)
    assert key.public == public(INITIATOR)
    suite = Suite.AESGCM_SHA256
    for _ in range(2):
        plain = pair("XX", suite)[0]
        keyed = NoiseSession("XX", suite, True, key, PROLOGUE, ephemeral=EPHEMERAL_I)
        assert keyed.write_message(b"x") == plain.write_message(b"x")


def test_ephemeral_keys_are_fresh() -> None:
    """Without a fixed one, each session makes its own."""
    sessions = [NoiseSession("XX", Suite.AESGCM_SHA256, True, INITIATOR, PROLOGUE) for _ in range(2)]
    assert len({session.write_message(b"") for session in sessions}) == 2


@by_suite
def test_counters_become_nonces_as_noise_says(suite: Suite) -> None:
    """Four zero bytes, then the counter: big-endian for AESGCM, little-endian for ChaChaPoly."""
    order = "big" if suite.aesgcm else "little"
    assert suite.nonce(0x0102) == bytes(4) + (0x0102).to_bytes(8, order)
    assert isinstance(suite.aead(bytes(32)), AESGCM if suite.aesgcm else ChaCha20Poly1305)


@by_suite
def test_explicit_counters_arrive_in_any_order(suite: Suite) -> None:
    """Frames open in any order, each under its own counter and associated data only."""
    ours, theirs = finished("IK", suite)
    sealed = {counter: ours.seal_at(counter, b"ad", b"frame %d" % counter) for counter in (0, 5, 6, 2**40)}
    for counter in (2**40, 0, 6, 5):
        assert theirs.open_at(counter, b"ad", memoryview(sealed[counter])) == b"frame %d" % counter
    for counter, associated in ((5, b"da"), (4, b"ad"), (2**40, b"")):
        with pytest.raises(FrameRefused) as refusal:
            theirs.open_at(counter, associated, sealed[5])
        assert refusal.value.reason == "not-authentic"
    assert theirs.open_at(5, b"ad", sealed[5]) == b"frame 5", "a forged frame harms nothing but itself"


def test_no_counter_seals_twice() -> None:
    """A counter used before is refused, by either way of sealing, and the session goes on."""
    ours, theirs = finished()
    ours.seal(b"0")
    ours.seal_at(7, b"", b"7")
    for counter in (0, 6, 7):
        with pytest.raises(FrameRefused) as refusal:
            ours.seal_at(counter, b"", b"again")
        assert refusal.value.reason == "counter"
    assert theirs.open_at(8, b"", ours.seal(b"8")) == b"8"


def test_the_last_counter_is_never_used() -> None:
    """2^64-1 belongs to REKEY."""
    ours, theirs = finished()
    for refused in (
        lambda: ours.seal_at(MAX_NONCE, b"", b"x"),
        lambda: theirs.open_at(MAX_NONCE, b"", bytes(20)),
        lambda: theirs.open_at(-1, b"", bytes(20)),
    ):
        with pytest.raises(FrameRefused) as refusal:
            refused()
        assert refusal.value.reason == "counter"
    sealed = ours.seal_at(MAX_NONCE - 1, b"", b"last")
    assert theirs.open_at(MAX_NONCE - 1, b"", sealed) == b"last"
    with pytest.raises(FrameRefused):
        ours.seal(b"none left")


def test_records_open_once_and_in_order() -> None:
    """A replayed record kills the session; so does one out of order."""
    for first, second in ((0, 0), (1, 0)):
        ours, theirs = finished()
        records = [ours.seal(b"0"), ours.seal(b"1")]
        if first == 0:
            theirs.open(records[0])
        with pytest.raises(FrameRefused):
            theirs.open(records[second if first == 0 else first])
        assert theirs.dead


@given(at=st.integers(0, 19), bit=st.integers(0, 7))
@settings(max_examples=40)
def test_any_changed_bit_of_a_record_is_noticed(at: int, bit: int) -> None:
    """The first record that is not authentic ends the session for good."""
    ours, theirs = finished()
    record = bytearray(ours.seal(b"data"))
    record[at] ^= 1 << bit
    with pytest.raises(FrameRefused) as refusal:
        theirs.open(bytes(record))
    assert refusal.value.reason == "not-authentic"
    record[at] ^= 1 << bit
    with pytest.raises(FrameRefused) as refusal:
        theirs.open(bytes(record))
    assert refusal.value.reason == "session-dead"


@pytest.mark.parametrize("size", [0, 1, TAG - 1])
def test_a_message_shorter_than_a_tag_is_not_authentic(size: int) -> None:
    """Whatever the library underneath says about it."""
    for suite in Suite:
        _, theirs = finished("XX", suite)
        with pytest.raises(FrameRefused):
            theirs.open_at(0, b"", bytes(size))
        with pytest.raises(FrameRefused):
            theirs.open(bytes(size))


def test_the_largest_record_is_exactly_a_noise_message() -> None:
    """65,519 bytes seal to 65,535; one more, which the Noise library would accept, is refused."""
    ours, theirs = finished()
    sealed = ours.seal(bytes(MAX_RECORD_PLAINTEXT))
    assert len(sealed) == MAX_RECORD == 65_535
    assert theirs.open(sealed) == bytes(MAX_RECORD_PLAINTEXT)
    with pytest.raises(FrameRefused) as refusal:
        ours.seal(bytes(MAX_RECORD_PLAINTEXT + 1))
    assert refusal.value.reason == "too-large"
    with pytest.raises(FrameRefused) as refusal:
        theirs.open(bytes(MAX_RECORD + 1))
    assert refusal.value.reason == "too-large"


def test_rekey_goes_one_way_at_a_time() -> None:
    """Each direction changes its key alone; a side that missed it cannot read on."""
    ours, theirs = finished()
    ours.rekey_outbound()
    theirs.rekey_inbound()
    assert theirs.open(ours.seal(b"new")) == b"new"
    assert ours.open(theirs.seal(b"old")) == b"old"
    ours.rekey_outbound()
    with pytest.raises(FrameRefused):
        theirs.open(ours.seal(b"missed"))


@by_pattern_and_suite
def test_another_prologue_is_refused(pattern: str, suite: Suite) -> None:
    """Ends that disagree on network, suite or handles never finish."""
    with pytest.raises(PeerRefused) as refusal:
        shake(*pair(pattern, suite, prologue=b"another"))
    assert refusal.value.reason == "handshake-failed"


def test_ik_to_another_key_is_refused() -> None:
    """Message 1 opens only with the key it was written for."""
    initiator, _ = pair("IK", Suite.AESGCM_BLAKE2S)
    other = NoiseSession("IK", Suite.AESGCM_BLAKE2S, False, EPHEMERAL_R, PROLOGUE)
    with pytest.raises(PeerRefused):
        other.read_message(initiator.write_message(b""))
    assert other.dead


LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
]


@pytest.mark.parametrize("key", LOW_ORDER, ids=lambda key: key.hex()[:8])
def test_a_low_order_key_is_refused(key: bytes) -> None:
    """As ephemeral key of a dialler, and as static key of an end."""
    _, responder = pair("XX", Suite.CHACHAPOLY_SHA256)
    responder.read_message(key)
    with pytest.raises(PeerRefused) as refusal:
        responder.write_message(b"")
    assert refusal.value.reason == "bad-key"
    initiator = NoiseSession("IK", Suite.CHACHAPOLY_SHA256, True, INITIATOR, PROLOGUE, remote_static=key)
    with pytest.raises(PeerRefused) as refusal:
        initiator.write_message(b"")
    assert refusal.value.reason == "bad-key"


@by_pattern_and_suite
@settings(max_examples=25)
@given(data=st.data())
def test_changed_handshake_messages_are_refused(pattern: str, suite: Suite, data: st.DataObject) -> None:
    """A bit changed, bytes cut or garbage: the handshake ends with our errors and a dead session."""
    initiator, responder = pair(pattern, suite)
    writer, reader, changed = initiator, responder, data.draw(st.integers(0, 2 if pattern == "XX" else 1))
    for number in range(3 if pattern == "XX" else 2):
        try:
            message = writer.write_message(b"payload")
        except GmeshError:
            return
        if number == changed:
            at = data.draw(st.integers(0, len(message) - 1))
            flipped = message[:at] + bytes((message[at] ^ 0x10,)) + message[at + 1 :]
            message = data.draw(st.sampled_from([flipped, message[:at], b"", b"\0" * len(message)]))
        try:
            reader.read_message(message)
        except (FrameRefused, PeerRefused):
            assert reader.dead
            with pytest.raises(FrameRefused):
                reader.read_message(message)
            return
        writer, reader = reader, writer
    assert initiator.handshake_hash != responder.handshake_hash


def _out_of_turn() -> list[Callable[[], object]]:
    fresh = pair("XX", Suite.AESGCM_SHA256)
    again = pair("XX", Suite.AESGCM_SHA256)
    again[0].write_message(b"")
    done = finished()
    return [
        lambda: fresh[0].read_message(bytes(32)),
        lambda: fresh[1].write_message(b""),
        lambda: again[0].write_message(b""),
        lambda: pair("XX", Suite.AESGCM_SHA256)[0].seal(b""),
        lambda: pair("XX", Suite.AESGCM_SHA256)[0].open_at(0, b"", bytes(20)),
        lambda: pair("XX", Suite.AESGCM_SHA256)[0].rekey_outbound(),
        lambda: done[0].write_message(b""),
    ]


@pytest.mark.parametrize("number", range(7))
def test_calls_out_of_turn_are_refused(number: int) -> None:
    """The handshake is a strict alternation, and sealing comes after it."""
    with pytest.raises(FrameRefused) as refusal:
        _out_of_turn()[number]()
    assert refusal.value.reason == "out-of-turn"


def test_a_handshake_message_has_a_limit_before_any_key_is_touched() -> None:
    """The library checks no size; the session does, both ways."""
    initiator, responder = pair("XX", Suite.AESGCM_SHA256)
    with pytest.raises(FrameRefused) as refusal:
        responder.read_message(bytes(MAX_HANDSHAKE_MESSAGE + 1))
    assert refusal.value.reason == "too-large" and responder.dead
    with pytest.raises(FrameRefused) as refusal:
        initiator.write_message(bytes(MAX_HANDSHAKE_MESSAGE))
    assert refusal.value.reason == "too-large" and initiator.dead


def test_a_wiped_session_refuses_everything() -> None:
    """After wipe no key is left to do anything with."""
    ours, theirs = finished()
    sealed = theirs.seal(b"late")
    ours.wipe()
    ours.wipe()
    assert ours.dead
    for refused in (
        lambda: ours.seal(b""),
        lambda: ours.open(sealed),
        lambda: ours.seal_at(9, b"", b""),
        lambda: ours.open_at(0, b"", sealed),
        lambda: ours.rekey_inbound(),
        lambda: ours.write_message(b""),
    ):
        with pytest.raises(FrameRefused) as refusal:
            refused()
        assert refusal.value.reason == "session-dead"


@pytest.mark.parametrize(
    "arguments",
    [
        {"pattern": "NN"},
        {"static_private": bytes(31)},
        {"pattern": "IK"},
        {"remote_static": bytes(32)},
        {"pattern": "IK", "remote_static": bytes(31)},
    ],
)
def test_a_session_that_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    """Unknown pattern, keys of a wrong size, a remote key where the pattern has none or none where it has."""
    plain: dict[str, Any] = {"pattern": "XX", "suite": Suite.AESGCM_SHA256, "initiator": True}
    plain |= {"static_private": INITIATOR, "prologue": PROLOGUE}
    with pytest.raises(GmeshError):
        NoiseSession(**(plain | arguments))


def test_debians_name_of_the_library_is_found_first() -> None:
    """Where the module is called noiseprotocol, nothing called noise is touched."""
    program = """
import sys
try:
    import noiseprotocol.connection
except ImportError:
    import noise, noise.connection, noise.exceptions
    for name in [name for name in sys.modules if name.split(".")[0] == "noise"]:
        sys.modules["noiseprotocol" + name[5:]] = sys.modules.pop(name)
sys.modules["noise"] = None
from gmesh.wire.noise import NoiseSession
from gmesh.wire.suites import Suite
session = NoiseSession("XX", Suite.AESGCM_BLAKE2S, True, bytes(range(32)), b"")
assert len(session.write_message(b"")) == 32
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["sha256", "blake2s"])
@given(key=st.binary(max_size=64), data=st.binary(max_size=300))
def test_the_hmac_given_to_the_library_is_that_of_the_standard_library(
    name: str, key: bytes, data: bytes
) -> None:
    """For every key of at most a block, and both hashes."""
    assert hmac(key, data, getattr(hashlib, name)) == hmac_of_python.digest(key, data, name)
