# SPDX-License-Identifier: MIT
"""Sessions: what a relay on the way can do to frames and handshakes."""

from __future__ import annotations

import pytest
from endtoend.rig import DELAY, noise_key

from gmesh.endtoend import limits
from gmesh.endtoend.handshakes import HandshakeLimiter
from gmesh.trust.encoding import b64url_encode
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader, pack_path_frame, read_path


def test_frames_of_the_handshake(talking, fabric):
    """One message each way, then sealed frames; the initiator seals first, so that the responder may."""
    assert [frame[2] for frame in fabric.seen] == [Kind.E2E_INIT, Kind.E2E_RESP, Kind.E2E_DATA]


def test_altered_frame(talking, fabric):
    """A frame with any byte of its ciphertext, counter or class changed is counted and dropped."""
    fabric.alice.datagrams.post("bob", "log", b"x")
    frame = fabric.seen.pop()
    fabric.clock.advance(0)
    for call in fabric.clock.getDelayedCalls():
        if call.func == fabric.arrive:
            call.cancel()
    _, payload = read_path(frame, 0, len(frame))
    for position in [*range(payload - 8, len(frame)), 5]:
        altered = bytearray(frame)
        altered[position] ^= 1
        fabric.arrive(bytes(altered))
    assert talking == []
    counters = fabric.bob.sessions.counters
    assert counters["not-authentic"] + counters["replayed"] == len(frame) - payload + 9
    fabric.arrive(frame)
    assert talking == [b"x"]


def test_field_t3_replayed_frame(talking, fabric):
    """A frame that comes again, at once or much later, is delivered once."""
    copies = iter([(DELAY, 2 * DELAY, 3.0)])
    fabric.decide = lambda kind, header, frame: next(copies, (DELAY,))
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(5)
    assert talking == [b"x"]
    assert fabric.bob.sessions.counters["replayed"] == 2


def test_injected_frame(talking, fabric):
    """A frame made up by somebody on the way, for a session there is, is dropped and hurts nothing."""
    header, _ = read_path(fabric.frames(Kind.E2E_DATA)[0], 0, len(fabric.frames(Kind.E2E_DATA)[0]))
    forged = PathHeader(header.path, header.receiver_index, 2**60)
    fabric.arrive(pack_path_frame(Kind.E2E_DATA, forged, bytes(64)))
    assert fabric.bob.sessions.counters["not-authentic"] == 1
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.1)
    assert talking == [b"x"]


def test_field_t2_frame_of_another_source(fabric, talking):
    """A frame that names another source than its session's is not opened."""
    fabric.add("carol", 3)
    fabric.alice.datagrams.post("bob", "log", b"x")
    frame = bytearray(fabric.seen[-1])
    frame[7:15] = fabric.carol.handle
    fabric.decide = lambda kind, header, frame: ()
    fabric.arrive(bytes(frame))
    assert talking == []
    assert fabric.bob.sessions.counters["no-session"] == 1


def test_too_old_frame(talking, fabric):
    """A frame more than a window behind is dropped."""
    fabric.decide = lambda kind, header, frame: (5.0,)
    fabric.alice.datagrams.post("bob", "log", b"late")
    fabric.decide = lambda kind, header, frame: (DELAY,)
    for _ in range(limits.REPLAY_WINDOW):
        fabric.alice.datagrams.post("bob", "log", b"")
        fabric.clock.advance(0)
    fabric.run(6)
    assert b"late" not in talking
    assert len(talking) == limits.REPLAY_WINDOW


def test_replayed_handshake(talking, fabric):
    """Message 1 sent again is dropped before any key is exchanged, and the session goes on."""
    init = fabric.frames(Kind.E2E_INIT)[0]
    fabric.run(60)
    fabric.arrive(init)
    assert fabric.bob.sessions.counters["replayed-handshake"] == 1
    assert fabric.bob.sessions.counters["answered"] == 1


def test_replayed_handshake_after_restart(talking, fabric):
    """Who forgot the number answers a replay, but never uses the keys: no data follows it."""
    init = fabric.frames(Kind.E2E_INIT)[0]
    fabric.bob.restart()
    fabric.decide = lambda kind, header, frame: () if kind == Kind.E2E_RESP else (DELAY,)
    fabric.arrive(init)
    fabric.bob.datagrams.post("alice", "log", b"secret")
    assert [frame[2] for frame in fabric.seen[-1:]] == [Kind.E2E_RESP]
    assert fabric.bob.sessions.established == 0


@pytest.mark.parametrize("what", ["ephemeral", "static", "payload", "number", "source"])
def test_altered_first_message(fabric, what):
    """Any change to message 1 or to what the header says of it makes it nothing."""
    fabric.add("carol", 3)
    fabric.decide = lambda kind, header, frame: ()
    fabric.alice.datagrams.post("bob", "log", b"x")
    frame = bytearray(fabric.seen[0])
    _, payload = read_path(frame, 0, len(frame))
    if what == "source":
        frame[7:15] = fabric.carol.handle
    else:
        frame[
            {"ephemeral": payload, "static": payload + 40, "payload": payload + 200, "number": payload - 1}[
                what
            ]
        ] ^= 1
    fabric.arrive(bytes(frame))
    assert fabric.bob.sessions.counters["answered"] == 0
    assert len(fabric.bob.sessions) == 0


def test_altered_second_message(fabric):
    """A changed message 2 sets up nothing; the next attempt does."""
    got = fabric.bob.serve()
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.decide = lambda kind, header, frame: ()
    fabric.run(0.02)
    frame = bytearray(fabric.frames(Kind.E2E_RESP)[0])
    frame[-1] ^= 1
    fabric.arrive(bytes(frame))
    assert fabric.alice.sessions.established == 0
    fabric.decide = lambda kind, header, frame: (DELAY,)
    fabric.run(6)
    assert got == [b"x"]


def test_certificate_of_another_node(fabric):
    """A member that presents another member's certificate from its own handle is refused."""
    carol = fabric.add("carol", 3)
    own = carol.handshaker.own
    object.__setattr__(own, "certificate", fabric.alice.certificate)
    carol.datagrams.post("bob", "log", b"x")
    fabric.run(0.1)
    assert fabric.bob.sessions.counters["wrong-source"] == 1
    assert len(fabric.bob.sessions) == 0


def test_key_of_another_certificate(fabric):
    """The certificate must name the very key the handshake was made with."""
    named = fabric.network.certificate("alice", serial=1, noise_key=b64url_encode(noise_key("other").public))
    object.__setattr__(fabric.alice.handshaker.own, "certificate", named)
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.1)
    assert fabric.bob.sessions.counters["key-mismatch"] == 1
    assert len(fabric.bob.sessions) == 0


def test_field_t4_certificate_of_another_authority(fabric):
    """A certificate that no key of the genesis signed is refused."""
    from trust.network import key

    fabric.alice.certificate = fabric.network.certificate("alice", serial=1, signer=key("stranger"))
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.1)
    assert fabric.bob.sessions.counters["unknown-key"] == 1
    assert len(fabric.bob.sessions) == 0


def claim(fabric, kind, source, link, number):
    """A frame to bob from a source, as his neighbour C{link} says."""
    path = (source, link, fabric.bob.handle)
    fabric.arrive(pack_path_frame(kind, PathHeader(path, 2**31, number), bytes(200)))


def test_c3_handshakes_claimed_over_one_link_leave_those_over_another(fabric):
    """A neighbour that claims handshakes of others spends what it may itself, and nobody else's."""
    got = fabric.bob.serve()
    for number in range(400):
        claim(fabric, Kind.E2E_INIT, fabric.alice.handle, b"evil....", 2**62 + number)
        claim(fabric, Kind.E2E_INIT, number.to_bytes(8, "big"), b"evil....", 1)
    assert fabric.bob.sessions.counters["handshake-flood"] == 800 - limits.INIT_LINK_BURST
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.2)
    assert got == [b"x"]


def test_c3_frames_without_session_claimed_over_one_link_leave_those_over_another(talking, fabric):
    """Who has lost its keys offers new ones to a peer, whatever another neighbour has claimed of others."""
    members = [fabric.add(f"member-{number}", 10 + number) for number in range(25)]
    fabric.bob.restart()
    got = fabric.bob.serve()
    for member in members:
        claim(fabric, Kind.E2E_DATA, member.handle, b"evil....", 1)
    assert fabric.bob.sessions.counters["began"] == limits.INIT_LINK_BURST
    fabric.alice.datagrams.post("bob", "log", b"lost")
    fabric.run(0.2)
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.2)
    assert got == [b"x"]


def test_c3_sources_made_up_over_one_link_reset_no_other():
    """However many sources a neighbour makes up, what another has used up stays used up, and few are kept."""
    gate = HandshakeLimiter()
    assert [gate.admits(b"other...", b"known...", 0.0) for _ in range(3)] == [True, True, False]
    for number in range(20_000):
        gate.admits(b"evil....", number.to_bytes(8, "big"), number / 10_000)
    assert not gate.admits(b"other...", b"known...", 2.0)
    assert len(gate) == 2


def test_c3_neighbours_that_come_and_go_are_remembered_up_to_a_bound():
    """However many there were, no more gates are kept, and the newest is among them."""
    gate = HandshakeLimiter()
    for number in range(limits.MAX_LIMITED_LINKS + 1000):
        link = number.to_bytes(8, "big")
        assert [gate.admits(link, b"known...", 0.0) for _ in range(3)] == [True, True, False]
        assert len(gate) <= limits.MAX_LIMITED_LINKS
