# SPDX-License-Identifier: MIT
"""Sessions: begun, repeated, bounded, renewed, told apart when both ends begin."""

from __future__ import annotations

from endtoend.rig import DELAY, noise_key

from gmesh.endtoend import limits
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader, pack_path_frame, read_path


def test_responder_key_renewed(fabric, outcomes):
    """A responder answers for each key that a certificate of it still names."""
    got = fabric.bob.serve()
    fabric.bob.noise_keys = [noise_key("newer"), noise_key("bob")]
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    fabric.run(1)
    assert got == [b"x"]


def test_newer_genesis_prefers_another_suite(fabric, outcomes):
    """Ends whose genesis differs in the order of suites still understand each other."""
    got = fabric.bob.serve()
    suites = fabric.network.genesis.body.suites
    fabric.alice.trust.offer(fabric.network.next_genesis(suites=suites[::-1]), fabric.wall())
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    fabric.run(1)
    assert got == [b"x"]


def test_handshake_is_repeated_and_given_up(fabric, outcomes):
    """A handshake is repeated every five seconds and given up after ninety."""
    fabric.bob.stop()
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(100, step=0.1)
    count = len(fabric.frames(Kind.E2E_INIT))
    assert 16 <= count <= 18
    assert len({frame for frame in fabric.seen}) == count
    assert len(fabric.alice.sessions) == 0
    assert fabric.alice.sessions.counters["gone-timed-out"] == 1


def test_bounced_handshake_is_repeated_soon(fabric):
    """A handshake that a relay could not pass on does not wait for its turn."""
    got = fabric.bob.serve()
    fabric.decide = lambda kind, header, frame: ()
    fabric.alice.datagrams.post("bob", "log", b"x")
    header, _ = read_path(fabric.seen[0], 0, len(fabric.seen[0]))
    fabric.decide = lambda kind, header, frame: (DELAY,)
    fabric.alice.sessions.undeliverable(header, header.destination, "unreach")
    fabric.run(limits.HANDSHAKE_SPACING + 0.2)
    assert got == [b"x"]


def test_c4_a_notice_names_a_frame_of_ours(fabric, outcomes):
    """It is looked for at the one peer that the notice names: message 1, message 2, what was sealed."""
    fabric.bob.serve()
    carol = fabric.add("carol", 3)
    carol.serve()
    alice = fabric.alice.sessions
    headers = []

    def note(kind, header, frame):
        headers.append(header)
        return (DELAY,)

    fabric.decide = note
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    first = headers[0]
    assert alice.sent(first, fabric.bob.handle)
    outcomes.watch(fabric.alice.datagrams.send("carol", "log", b"x"))
    fabric.run(1)
    last = [header for header in headers if header.destination == fabric.bob.handle][-1]
    assert alice.sent(last, fabric.bob.handle) and not alice.sent(last, carol.handle)
    assert not alice.sent(last._replace(counter=last.counter + 100), fabric.bob.handle)
    assert not alice.sent(first, fabric.bob.handle) and not alice.sent(last, b"nobody!!")
    reply = next(header for header in headers if header.source == fabric.bob.handle)
    assert fabric.bob.sessions.sent(reply, fabric.alice.handle)


def test_handshake_without_a_way_is_tried_again_soon(fabric):
    """When the first link has just gone, and routing not yet heard, a second is enough to recover."""
    got = fabric.bob.serve()
    carry, fabric.alice.send_frame = fabric.alice.send_frame, lambda path, frame, flow: False
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.1)
    fabric.alice.send_frame = carry
    fabric.run(1)
    assert got == [b"x"]


def test_pending_is_bounded(fabric):
    """What waits for a handshake is bounded by number and bytes, the oldest goes, and it is counted."""
    got = fabric.bob.serve()
    for index in range(limits.MAX_PENDING_FRAMES + 6):
        fabric.alice.datagrams.post("bob", "log", bytes([index]))
    fabric.run(0.2)
    assert got == [bytes([index]) for index in range(6, limits.MAX_PENDING_FRAMES + 6)]
    assert fabric.alice.sessions.counters["pending-dropped"] == 6
    carol = fabric.add("carol", 3)
    received = carol.serve()
    for _ in range(40):
        fabric.alice.datagrams.post("carol", "log", bytes(limits.FRAGMENT_SIZE))
    fabric.run(0.2)
    assert sum(map(len, received)) <= limits.MAX_PENDING_BYTES


def test_flood_of_one_source(fabric):
    """Handshakes that claim one source are looked at twice, then once in five seconds, before any DH."""
    fabric.decide = lambda kind, header, frame: ()
    for number in range(1, 51):
        header = PathHeader(fabric.alice.path(fabric.bob.handle, 0), 0, number)
        fabric.arrive(pack_path_frame(Kind.E2E_INIT, header, bytes(200)))
    counters = fabric.bob.sessions.counters
    assert counters["handshake-flood"] == 48
    fabric.run(5.1)
    fabric.arrive(pack_path_frame(Kind.E2E_INIT, header, bytes(200)))
    fabric.arrive(pack_path_frame(Kind.E2E_INIT, header, bytes(200)))
    assert counters["handshake-flood"] == 49


def test_flood_over_one_link(fabric):
    """Handshakes over one link are looked at twenty times a second, whatever sources they claim."""
    for number in range(200):
        path = (number.to_bytes(8, "big"), fabric.relay.handle, fabric.bob.handle)
        fabric.arrive(pack_path_frame(Kind.E2E_INIT, PathHeader(path, 0, 1), bytes(200)))
    assert fabric.bob.sessions.counters["handshake-flood"] == 200 - limits.INIT_LINK_BURST
    assert len(fabric.bob.sessions) == 0


def test_rehandshake_loses_nothing(talking, fabric):
    """Ten minutes of one-way traffic: keys are renewed before they end, nothing is lost or held up."""
    sent = 0
    for _ in range(6000):
        fabric.alice.datagrams.post("bob", "log", sent.to_bytes(4, "big"))
        sent += 1
        fabric.run(0.1, step=0.05)
    fabric.run(1)
    assert [int.from_bytes(data, "big") for data in talking] == list(range(sent))
    assert fabric.bob.sessions.counters["established"] == 5
    assert len(fabric.frames(Kind.E2E_INIT)) == 5


def test_rehandshake_by_frames(talking, fabric):
    """A session that sealed 2^32 frames begins the next at any age; none seals the 2^60th."""
    [association] = fabric.alice.associations
    keys = association.keys
    old = keys.current
    old.sent = limits.REKEY_AFTER_MESSAGES - 1
    fabric.alice.datagrams.post("bob", "log", b"last")
    fabric.run(0.2)
    assert keys.current is old
    fabric.alice.datagrams.post("bob", "log", b"one more")
    fabric.run(0.2)
    assert keys.current is not old and talking[-2:] == [b"last", b"one more"]
    keys.current.sent = limits.REJECT_AFTER_MESSAGES
    assert keys.sealer(fabric.clock.seconds()) is None


def test_responder_begins_when_the_initiator_does_not(talking, fabric):
    """Whichever end notices first renews: a responder does at 165 s."""
    received = fabric.alice.serve()
    fabric.decide = lambda kind, header, frame: (
        () if header.source == fabric.alice.handle and kind == Kind.E2E_INIT else (DELAY,)
    )
    for second in range(300):
        fabric.bob.datagrams.post("alice", "log", second.to_bytes(4, "big"))
        fabric.run(1, step=0.05)
    fabric.run(1)
    inits = [read_path(frame, 0, len(frame))[0].source for frame in fabric.frames(Kind.E2E_INIT)]
    assert fabric.bob.handle in inits
    assert [int.from_bytes(data, "big") for data in received] == list(range(300))


def test_keys_are_refused_at_180_seconds(talking, fabric):
    """Without a new handshake nothing is sealed under keys older than 180 s."""
    sealed_at = []

    def decide(kind, header, frame):
        if kind == Kind.E2E_INIT:
            return ()
        sealed_at.append(fabric.clock.seconds())
        return (DELAY,)

    fabric.decide = decide
    for _ in range(250):
        fabric.alice.datagrams.post("bob", "log", b"x")
        fabric.run(1, step=0.5)
    assert 175 < max(sealed_at) < 180.5


def smaller_first(fabric):
    """Both nodes, the one with the smaller handle first."""
    return sorted((fabric.alice, fabric.bob), key=lambda end: end.handle)


def test_simultaneous_initiation(fabric):
    """Both begin at once: one session comes of it, both use it, and nothing waits."""
    to_alice, to_bob = fabric.alice.serve(), fabric.bob.serve()
    fabric.alice.datagrams.post("bob", "log", b"to bob")
    fabric.bob.datagrams.post("alice", "log", b"to alice")
    fabric.run(0.2)
    assert (to_alice, to_bob) == ([b"to alice"], [b"to bob"])
    smaller, larger = smaller_first(fabric)
    assert smaller.sessions.counters["handshake-tie"] == 1
    assert larger.sessions.counters["answered"] == 1
    assert [end.sessions.counters["established"] for end in (smaller, larger)] == [1, 1]


def test_simultaneous_initiation_with_a_loss(fabric):
    """If the one that should win is lost, the other's next attempt is answered."""
    to_alice, to_bob = fabric.alice.serve(), fabric.bob.serve()
    smaller, _ = smaller_first(fabric)
    fabric.decide = lambda kind, header, frame: (
        () if kind == Kind.E2E_INIT and header.source == smaller.handle else (DELAY,)
    )
    fabric.alice.datagrams.post("bob", "log", b"to bob")
    fabric.bob.datagrams.post("alice", "log", b"to alice")
    fabric.run(11)
    assert (to_alice, to_bob) == ([b"to alice"], [b"to bob"])


def test_way_back_without_a_route(fabric, outcomes):
    """A responder that knows no path yet answers over the one the handshake came."""
    got = fabric.bob.serve()
    fabric.bob.unreachable.add(fabric.alice.handle)
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.2)
    assert got == [b"x"]
