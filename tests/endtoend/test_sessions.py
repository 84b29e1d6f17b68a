# SPDX-License-Identifier: MIT
"""Sessions: what a hostile relay can do to frames and handshakes, how keys are renewed, what bounds them."""

from __future__ import annotations

import pytest
from endtoend.rig import DAY, DELAY, NOW, Fabric, Outcomes, noise_key
from hypothesis import given, settings
from hypothesis import strategies as st

from gmesh.endtoend import limits
from gmesh.mesh.peer_identity import peer_of
from gmesh.trust.encoding import b64url_encode
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader, pack_path_frame, read_path


@pytest.fixture
def fabric():
    made = Fabric("alice", "bob")
    yield made
    made.stop()


@pytest.fixture
def outcomes():
    return Outcomes()


@pytest.fixture
def talking(fabric):
    """Two nodes with a session; what the second receives."""
    got = fabric.bob.serve()
    fabric.alice.datagrams.post("bob", "log", b"first")
    fabric.run(0.2)
    assert got == [b"first"]
    got.clear()
    return got


def smaller_first(fabric):
    """Both nodes, the one with the smaller handle first."""
    return sorted((fabric.alice, fabric.bob), key=lambda end: end.handle)


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


def test_replayed_frame(talking, fabric):
    """A frame that comes again, at once or much later, is delivered once."""
    fabric.decide = lambda kind, header, frame: (DELAY, 2 * DELAY, 3.0)
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


def test_frame_of_another_source(fabric, talking):
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


def test_certificate_of_another_authority(fabric):
    """A certificate that no key of the genesis signed is refused."""
    from trust.network import key

    fabric.alice.certificate = fabric.network.certificate("alice", serial=1, signer=key("stranger"))
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.1)
    assert fabric.bob.sessions.counters["unknown-key"] == 1
    assert len(fabric.bob.sessions) == 0


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
    fabric.alice.sessions.undeliverable(header, "unreach")
    fabric.run(limits.HANDSHAKE_HURRY + 0.2)
    assert got == [b"x"]


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


def test_table_is_bounded(outcomes):
    """At the cap the least recently used idle peer makes room; when none is idle, one more is refused."""
    fabric = Fabric("bob", "carol", "dave")
    fabric.add("hub", 9, max_sessions=2)
    for name in ("bob", "carol", "dave", "bob"):
        outcomes.watch(fabric.hub.datagrams.send(name, "log", b""))
        fabric.run(1)
    assert outcomes == ["no-such-service"] * 4
    assert len(fabric.hub.sessions) == 2
    assert fabric.hub.sessions.counters["gone-evicted"] == 2
    fabric.decide = lambda kind, header, frame: ()
    fabric.run(200, step=1)
    for name in ("bob", "carol", "dave"):
        outcomes.watch(fabric.hub.datagrams.send(name, "log", b""))
    assert outcomes[4:] == ["busy"]
    fabric.stop()


def test_idle_sessions_are_wiped(talking, fabric):
    """Keys go when they may not be used any more, the peer when it was idle for ten minutes."""
    fabric.run(190, step=1)
    assert fabric.alice.sessions.established == 0
    assert len(fabric.alice.sessions) == 1
    fabric.run(420, step=1)
    assert len(fabric.alice.sessions) == len(fabric.bob.sessions) == 0
    assert fabric.clock.getDelayedCalls() == [] or all(
        call.func.__name__ == "_tick" for call in fabric.clock.getDelayedCalls()
    )


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


def revoke(fabric, end, number=1):
    """Tell the first node only."""
    fabric.alice.trust.offer(
        fabric.network.crl(number, revoked=[(end.peer.serial, end.peer.not_after, 0)]), fabric.wall()
    )


def test_revocation_cuts_in_the_same_turn(talking, fabric, outcomes):
    """One change of the revocation set fails what is under way and wipes the keys before anything else."""
    fabric.decide = lambda kind, header, frame: ()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    before = len(fabric.seen)
    revoke(fabric, fabric.bob)
    assert outcomes == ["revoked"]
    assert len(fabric.alice.sessions) == 0
    assert fabric.alice.sessions._table._sessions == {} and fabric.alice.sessions._table._attempts == {}
    fabric.decide = lambda kind, header, frame: (DELAY,)
    received = fabric.alice.serve()
    fabric.bob.datagrams.post("alice", "log", b"from the revoked")
    fabric.run(200, step=1)
    assert received == []
    assert all(
        read_path(frame, 0, len(frame))[0].source != fabric.alice.handle for frame in fabric.seen[before:]
    )


def test_revocation_cuts_a_handshake(fabric, outcomes):
    """A handshake under way dies with the revocation; its answer finds nothing."""
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    revoke(fabric, fabric.bob)
    assert outcomes == ["revoked"]
    fabric.run(1)
    assert fabric.alice.sessions.counters["no-handshake"] == 1
    assert len(fabric.alice.sessions) == 0


def test_revoked_initiator_is_not_answered(fabric):
    """A revoked node's handshake is dropped before an exchange; an unknown node's after judging it."""
    revoke(fabric, fabric.bob)
    fabric.bob.datagrams.post("alice", "log", b"x")
    fabric.run(0.2)
    assert fabric.alice.sessions.counters["revoked"] == 1
    fabric.alice.find_handle = lambda handle: None
    fabric.run(6)
    assert fabric.alice.sessions.counters["answered"] == 0


def test_revocation_purges_what_waits_for_a_receiver(talking, fabric):
    """Messages of a revoked node that wait for a busy receiver are not handed over."""
    from twisted.internet.defer import Deferred

    got, busy = [], Deferred()

    def receiver(message):
        got.append(message.data)
        return busy

    fabric.alice.datagrams.register("slow", receiver, concurrent=1)
    for index in range(3):
        fabric.bob.datagrams.post("alice", "slow", bytes([index]))
    fabric.run(0.2)
    revoke(fabric, fabric.bob)
    busy.callback(None)
    assert got == [b"\0"]


def test_expiry_cuts(fabric, outcomes):
    """A session ends with the certificate of its peer, and its leeway."""
    fabric.bob.certificate = fabric.network.certificate(
        "bob", serial=2, roles=("client",), not_after=NOW + 150
    )
    fabric.bob.peer = peer_of(fabric.bob.certificate)
    fabric.bob.serve()
    fabric.run(300, step=1)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    fabric.run(1)
    assert len(fabric.alice.sessions) == 1
    fabric.run(60, step=0.5)
    assert len(fabric.alice.sessions) == 0
    assert fabric.alice.sessions.counters["gone-expired"] == 1


def test_renewal_saves_a_session(fabric, outcomes):
    """A newer certificate for the same keys takes the place of one that ends: nothing is cut."""
    short = fabric.network.certificate("bob", serial=2, roles=("client",), not_after=NOW + 150)
    fabric.bob.certificate, fabric.bob.peer = short, peer_of(short)
    fabric.bob.serve()
    fabric.run(300, step=1)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    fabric.run(1)
    renewed = fabric.network.certificate("bob", serial=12, roles=("client",), not_after=NOW + DAY)
    fabric.bob.certificate, fabric.bob.peer = renewed, peer_of(renewed)
    fabric.run(60, step=0.5)
    assert fabric.alice.sessions.established == 1
    assert fabric.alice.sessions.counters["gone-expired"] == 0


def test_authority_key_dropped(talking, fabric):
    """A genesis that no longer lists the signer of a certificate cuts its node in the same turn."""
    fabric.alice.trust.offer(fabric.network.next_genesis(authority=("another",)), fabric.wall())
    assert len(fabric.alice.sessions) == 0


def test_way_back_without_a_route(fabric, outcomes):
    """A responder that knows no path yet answers over the one the handshake came."""
    got = fabric.bob.serve()
    fabric.bob.unreachable.add(fabric.alice.handle)
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.2)
    assert got == [b"x"]


schedules = st.lists(
    st.sampled_from([(), (0.01,), (0.01, 0.02), (0.05,), (0.3,), (0.02, 0.7), (2.0,), (0.01, 7.0)]),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60)
@given(schedules, st.integers(0, 3))
def test_exactly_once_whatever_the_relay_does(schedule, restarts):
    """Loss, duplicates and reordering, then a fair network: each message is handed over exactly once."""
    fabric, outcomes = Fabric("alice", "bob"), Outcomes()
    fate = iter(schedule)
    fabric.decide = lambda kind, header, frame: next(fate, (DELAY,))
    to_alice, to_bob = fabric.alice.serve(), fabric.bob.serve()
    sent_to_bob, sent_to_alice = [], []
    for index in range(8):
        data = bytes([index]) * (1 if index % 3 else limits.FRAGMENT_SIZE + 1)
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", data, timeout=60))
        sent_to_bob.append(data)
        if index % 2:
            outcomes.watch(fabric.bob.datagrams.send("alice", "log", data, timeout=60))
            sent_to_alice.append(data)
        fabric.run(0.2 * restarts, step=0.05)
    fabric.run(60, step=0.05)
    assert sorted(to_bob) == sorted(sent_to_bob)
    assert sorted(to_alice) == sorted(sent_to_alice)
    assert all(not isinstance(outcome, str) for outcome in outcomes)
    fabric.run(10, step=0.1)
    assert len(to_bob) == 8
    fabric.stop()


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.sampled_from([0, 0.05, 0.2, 0.4]), st.floats(0, 0.4))
def test_at_most_once_on_a_bad_network(seed, loss, copies):
    """Minutes of loss, copies and disorder, with renewals: never twice, and acknowledged means delivered."""
    fabric = Fabric("alice", "bob", seed=seed)

    def decide(kind, header, frame):
        count = 0 if fabric.rng.random() < loss else 1 + (fabric.rng.random() < copies)
        return [fabric.rng.uniform(0.005, 0.3) for _ in range(count)]

    fabric.decide = decide
    got = {"alice": fabric.alice.serve(), "bob": fabric.bob.serve()}
    acknowledged = {"alice": [], "bob": []}
    for index in range(90):
        source, target = ("alice", "bob") if fabric.rng.random() < 0.6 else ("bob", "alice")
        data = index.to_bytes(2, "big")
        end = getattr(fabric, source)
        sending = end.datagrams.send(target, "log", data, timeout=20)
        sending.addCallbacks(lambda _, t=target, d=data: acknowledged[t].append(d), lambda failure: None)
        fabric.run(2, step=0.2)
    fabric.run(25, step=0.2)
    for name in ("alice", "bob"):
        assert len(got[name]) == len(set(got[name]))
        assert set(acknowledged[name]) <= set(got[name])
    if not loss:
        assert sum(map(len, acknowledged.values())) == 90
    fabric.stop()


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.floats(0, 0.5))
def test_make_before_break_whatever_the_handshakes_meet(seed, loss):
    """Handshakes of both ends are lost, late and crossed; the data between them all arrives."""
    fabric = Fabric("alice", "bob", seed=seed)

    def decide(kind, header, frame):
        if kind == Kind.E2E_DATA:
            return [fabric.rng.uniform(0.005, 0.5)]
        return [] if fabric.rng.random() < loss else [fabric.rng.uniform(0.005, 2.0)]

    fabric.decide = decide
    got = {"alice": fabric.alice.serve(), "bob": fabric.bob.serve()}
    ends = {"alice": fabric.bob, "bob": fabric.alice}
    sent = {"alice": [], "bob": []}
    for index in range(400):
        if index == 200:
            for end in ends.values():  # both grow impatient at the same time
                for exchange in end.sessions._table:
                    end.sessions._handshakes._begin(exchange, fabric.clock.seconds(), fabric.clock.seconds())
        for target, end in ends.items():
            if fabric.rng.random() < 0.5:
                data = index.to_bytes(2, "big")
                end.datagrams.post(target, "log", data)
                sent[target].append(data)
        fabric.run(1, step=0.25)
    fabric.run(20, step=0.25)
    assert {name: sorted(data) for name, data in got.items()} == sent
    fabric.stop()
