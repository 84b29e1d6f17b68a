# SPDX-License-Identifier: MIT
"""A link from handshake to its end, on a clock, over in-memory transports."""

from __future__ import annotations

import pytest
from mesh.linkworld import World
from twisted.logger import formatEvent, globalLogPublisher

from gmesh.mesh.limits import DATA_QUEUE_BYTES, KeepaliveProfile
from gmesh.mesh.neighbour import NeighbourObserver
from gmesh.testing.transport import Wire
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import DIGEST_SIZE, CloseReason


@pytest.fixture
def world():
    world = World()
    yield world
    world.finish()


def test_a_link_comes_up_at_both_ends(world):
    """One dial, one handshake, one link, told once to everybody at both ends."""
    one, two = world.pair()
    assert one.recorder.events == [("up", "two")]
    assert two.recorder.events == [("up", "one")]
    assert one.link(two).initiator and not two.link(one).initiator
    assert one.link(two).handshake_hash == two.link(one).handshake_hash
    assert one.link(two).hello == two.link(one).own_hello
    assert one.link(two).rtt == pytest.approx(0.002, abs=0.02)


def test_digests_are_read_when_a_link_comes_up_and_not_kept(world):
    """The digest of a HELLO, most of what a link would hold, serves once, at both ends."""
    read = []

    class Reader(NeighbourObserver):
        def link_up(self, neighbour):
            read.append(neighbour.link.hello.digest)

    ends = [world.node(name) for name in ("one", "two")]
    for node in ends:
        node.neighbours.observe(node.recorder, Reader())
    ends[1].listen()
    ends[0].dial(ends[1])
    world.run(0.5)
    assert read == [bytes(DIGEST_SIZE)] * 2
    kept = [ends[0].link(ends[1]), ends[1].link(ends[0])]
    assert [link.hello.digest + link.own_hello.digest for link in kept] == [b"", b""]


def test_frames_arrive_in_order_and_once(world):
    """What is sent in one turn arrives, in order, whatever the transport does to the bytes."""
    one, two = world.pair()
    bodies = [world.random.randbytes(world.random.randint(1, 9000)) for _ in range(200)]
    for body in bodies:
        one.link(two).send_control(16, body) if len(body) % 2 else None
    world.run(1)
    assert [body for _, _, body in two.recorder.frames] == [body for body in bodies if len(body) % 2]


def test_one_write_a_turn():
    """Everything sent in a turn, control and data, leaves in one transport write."""
    world = World(wire=Wire(chunked=False))
    one, two = world.pair()
    world.run(6)
    end = world.network.connections[0].client
    before = end.writes
    for _ in range(20):
        one.link(two).send_data(pack_frame(Kind.E2E_DATA, bytes(100)), b"f" * 16)
        one.link(two).send_control(16, b"x")
    world.clock.advance(0)
    assert end.writes == before + 1
    world.run(0.1)
    kinds = [kind for _, kind, _ in two.recorder.frames]
    assert kinds == [16] * 20 + [66] * 20
    world.finish()


def test_answers_leave_with_the_bytes_that_asked_for_them():
    """All answers to what arrived at once leave in one write, before the reactor turns again."""
    world = World(wire=Wire(chunked=False))
    one, two = world.pair()
    world.run(6)
    link, end = two.link(one), world.network.connections[0].server
    before, after = [], []

    def answer(kind, record, start, end_of_frame):
        before.append(end.writes)
        link.send_data(pack_frame(Kind.E2E_DATA, bytes(100)), b"f" * 16)
        link.send_control(16, bytes(record[start + 3 : end_of_frame]))

    received = end.protocol.dataReceived

    def spy(data):
        received(data)
        after.append(end.writes)

    link._table[16] = answer
    end.protocol.dataReceived = spy
    for _ in range(20):
        one.link(two).send_control(16, b"x")
    world.run(0.1)
    assert before == [before[0]] * 20
    assert after == [before[0] + 1]
    assert [kind for _, kind, _ in one.recorder.frames] == [16] * 20 + [66] * 20
    world.finish()


def test_close_is_told_with_its_reason(world):
    """The end that is closed hears the reason, and both tell their listeners the same one."""
    one, two = world.pair()
    one.link(two).send_control(16, b"last words")
    one.link(two).close(CloseReason.SHUTDOWN)
    world.run(1)
    assert two.recorder.frames == [("one", 16, b"last words")]
    assert one.recorder.events[-1] == ("down", "two", "shutdown")
    assert two.recorder.events[-1] == ("down", "one", "shutdown")
    assert world.network.open_connections() == []


def test_a_silent_neighbour_is_doubted_then_dead(world):
    """Half-open: both ends doubt the link when a PONG is missing, and give it up after 15 s of silence."""
    one, two = world.pair()
    started = world.clock.seconds()
    world.network.connections[0].silence()
    seen = []
    while one.neighbours.links or two.neighbours.links:
        world.run(0.1)
        seen += [
            (round(world.clock.seconds() - started, 1), *event)
            for event in one.recorder.events[1 + len(seen) :]
        ]
        assert world.clock.seconds() < started + 20
    (doubted, *doubt), (died, *death) = seen
    assert doubt == ["changed", "two", True] and 7.0 < doubted < 9.1
    assert death == ["down", "two", "dead"] and 14.5 < died < 16.0
    assert two.recorder.events[-1] == ("down", "one", "dead")
    world.run(6)
    assert world.network.open_connections() == []


def test_a_doubted_neighbour_that_answers_is_trusted_again(world):
    """Suspicion ends with the first frame, and the listeners hear both."""
    one, two = world.pair()
    world.network.connections[0].silence()
    world.run(9)
    assert one.link(two).suspect
    world.network.connections[0].heal()
    world.run(2)
    assert not one.link(two).suspect
    assert one.recorder.events == [("up", "two"), ("changed", "two", True), ("changed", "two", False)]


def test_an_idle_link_lives(world):
    """Ten minutes without traffic: PINGs keep it, and it has one timer an end."""
    one, _ = world.pair()
    world.run(600)
    assert one.recorder.events == [("up", "two")]
    assert [
        str(call).count("LinkTimers._ring") for call in world.clock.getDelayedCalls() if call.active()
    ].count(1) == 2


def test_both_directions_rekey_by_time_under_load(world, monkeypatch):
    """After ten minutes each direction switches keys while frames race both ways, and none is lost."""
    one, two = world.pair()
    keys = [
        (node, session._transport._session, session._transport._session._outbound)
        for node in (one, two)
        for session in node.neighbours.links.values()
    ]
    sent = 0
    for _ in range(1300):
        one.link(two).send_control(16, b"%d" % sent)
        two.link(one).send_control(16, b"%d" % sent)
        sent += 1
        world.run(0.5)
    for _, session, outbound in keys:
        assert session._outbound is not outbound
    world.run(1)
    expected = [b"%d" % number for number in range(sent)]
    assert [body for _, _, body in one.recorder.frames] == expected
    assert [body for _, _, body in two.recorder.frames] == expected


def test_rekey_by_records(world, monkeypatch):
    """So many records, whatever the time: the key is switched, in the middle of a burst."""
    monkeypatch.setattr("gmesh.mesh.egress.REKEY_RECORDS", 5)
    one, two = world.pair()
    outbound = one.link(two)._transport._session._outbound
    for number in range(50):
        one.link(two).send_control(16, b"%d" % number)
        world.run(0.02)
    assert one.link(two)._transport._session._outbound is not outbound
    assert [body for _, _, body in two.recorder.frames] == [b"%d" % number for number in range(50)]


def test_a_record_holds_what_fits(world, monkeypatch):
    """Frames of a turn share records, none is cut, none is larger than Noise allows, and order is kept."""
    monkeypatch.setattr("gmesh.mesh.egress.AHEAD_FIRST", 512 * 1024)
    one, two = world.pair()
    link, sizes = one.link(two), []
    seal = link._transport.send_record
    link._transport.send_record = lambda plaintext: (sizes.append(len(plaintext)), seal(plaintext))
    frames = [pack_frame(Kind.E2E_DATA, b"%04d" % number + bytes(16_070)) for number in range(9)]
    assert all(link.send_data(frame, b"f" * 16) for frame in frames)
    world.run(0.5)
    size = len(frames[0])
    assert [length for length in sizes if length >= size] == [4 * size, 4 * size, size]
    assert [body[:4] for kind, _, body in _data(two)] == [b"%04d" % number for number in range(9)]


def _data(node):
    return [(kind, name, body) for name, kind, body in node.recorder.frames if kind == Kind.E2E_DATA]


@pytest.mark.parametrize("ending", ["close", "cut"])
@pytest.mark.parametrize("reason", [CloseReason.SHUTDOWN, CloseReason.REVOKED, CloseReason.RENEWED])
def test_both_ends_log_the_reason(world, ending, reason):
    """Whoever closes a link, and whoever hears of it, says why in one line about the link's end."""
    one, two = world.pair()
    lines = []

    def with_text(event):
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(with_text)
    try:
        getattr(one.link(two), ending)(reason)
        world.run(2)
    finally:
        globalLogPublisher.removeObserver(with_text)
    assert one.link(two) is None and two.link(one) is None
    for line in (
        f"Link to two is down: {reason.slug}",
        f"one closed the link: {reason.slug}",
        f"Link to one is down: {reason.slug}",
    ):
        assert lines.count(line) == 1
    assert one.recorder.events[-1] == ("down", "two", reason.slug)
    assert two.recorder.events[-1] == ("down", "one", reason.slug)


@pytest.mark.parametrize(("flows", "cause"), [(1, "data-flow-full"), (2, "data-queue-full")])
def test_a_slow_reader_costs_bounded_memory_and_keeps_control_first(world, flows, cause):
    """A saturated link drops data within its queue limits, and control still passes at once."""
    world.network.wire = Wire(rate=100_000, capacity=16 * 1024)
    one, two = world.pair()
    link = one.link(two)
    frame = pack_frame(Kind.E2E_DATA, bytes(8000))
    count = 2 * DATA_QUEUE_BYTES // len(frame)
    taken = sum(link.send_data(frame, b"%016d" % (number % flows)) for number in range(count))
    assert taken == count
    assert link.backlog <= DATA_QUEUE_BYTES
    written = 4
    lost = count - written - DATA_QUEUE_BYTES // len(frame)
    assert {each: number for each, number in one.counters.items() if each.startswith("data-")} == {
        cause: lost
    }
    world.run(0.5)
    link.send_control(16, b"urgent")
    world.run(0.9)
    assert ("one", 16, b"urgent") in two.recorder.frames
    assert link.backlog > 0
    assert world.network.connections[0].client.buffered <= 48 * 1024
    world.run(100)
    assert link.backlog == 0
    assert sum(kind == 66 for _, kind, _ in two.recorder.frames) == count - lost


def test_slow_readers_share_the_room_of_the_node(world):
    """Ten neighbours that take nothing hold what the node allows; what another takes at once arrives."""
    world.network.wire = Wire(capacity=16 * 1024)
    hub = world.node("hub")
    hub.context.room.limit = 256 * 1024
    readers = [world.node(f"reader-{number}").listen() for number in range(11)]
    for each in readers:
        hub.dial(each)
    world.run(0.5)
    quick = readers.pop()
    for connection in world.network.connections[:10]:
        connection.server.pauseProducing()
    for number in range(100):
        for each in readers * 3:
            assert hub.link(each).send_data(pack_frame(Kind.E2E_DATA, bytes(4000)), b"greedy--" * 2)
        assert hub.link(quick).send_data(pack_frame(Kind.E2E_DATA, b"%d" % number), b"frugal--" * 2)
        world.run(0.001)
        assert sum(hub.link(each).backlog for each in readers) <= 256 * 1024
    world.run(0.5)
    assert hub.counters["data-node-full"] > 0
    assert len(quick.recorder.frames) == 100
    hub.neighbours.close(CloseReason.SHUTDOWN)
    world.run(6)
    assert hub.context.room.held == 0


def test_a_peer_that_takes_nothing_is_cut(world):
    """It sends, so it is alive, but reads nothing: after 15 s the link is stuck and ends."""
    one, two = world.node("one"), world.node("two", profile=KeepaliveProfile(dead_after=1000)).listen()
    one.dial(two)
    world.run(0.5)
    connection = world.network.connections[0]
    connection.server.pauseProducing()
    link = one.link(two)
    for number in range(200):
        link.send_data(pack_frame(Kind.E2E_DATA, bytes(8000)), b"%016d" % (number % 4))
    for _ in range(40):
        two.link(one) and two.link(one).send_control(16, b"still here")
        world.run(0.5)
    assert one.recorder.events[-1] == ("down", "two", "stuck")


def test_too_much_control_ends_the_link(world):
    """Control is never dropped: a peer that lets it pile up loses the link."""
    one, two = world.pair()
    world.network.connections[0].server.pauseProducing()
    for _ in range(600):
        if one.link(two) is not None:
            one.link(two).send_control(16, bytes(4000))
            world.run(0.001)
    assert one.recorder.events[-1] == ("down", "two", "control-queue-full")
    assert one.counters["control-queue-full"] == 1


def test_field_t7_an_expired_certificate_ends_the_link(world):
    """When the certificate and the leeway are over, both ends cut, within one timer."""
    one, two = world.node("one"), world.node("two")
    short = world.issuer.certify(
        two.enrolled.node_key, two.enrolled.noise_key, "two", ["relay"], lifetime=600
    )
    two.certificate = short
    two.listen()
    one.dial(two)
    world.run(898)
    assert one.link(two) is not None
    world.run(4)
    assert one.recorder.events[-1] == ("down", "two", "expired")
    assert two.recorder.events[-1] == ("down", "one", "expired")


def test_a_renewed_certificate_replaces_the_old_in_place(world):
    """A newer certificate of the same keys moves the end of the link; not one frame or event is lost."""
    one, two = world.node("one"), world.node("two")
    two.certificate = world.issuer.certify(
        two.enrolled.node_key, two.enrolled.noise_key, "two", ["relay"], lifetime=600
    )
    two.listen()
    one.dial(two)
    world.run(300)
    renewed = world.issuer.renew(two.enrolled).certificate
    assert one.neighbours.refresh(renewed)
    assert not one.neighbours.refresh(renewed)
    world.run(900)
    assert one.recorder.events == [("up", "two"), ("changed", "two", False)]
    assert one.link(two).peer.serial == renewed.body.serial


def test_revocation_cuts_in_one_turn(world):
    """The moment the CRL is applied the link is down, its queue empty, and the peer learns why."""
    one, two = world.pair()
    three = world.node("three").listen()
    one.dial(three)
    world.run(0.5)
    link = one.link(two)
    flow = two.enrolled.handle + three.enrolled.handle
    for _ in range(20):
        one.link(three).send_data(pack_frame(Kind.E2E_DATA, bytes(8000)), flow)
        link.send_data(pack_frame(Kind.E2E_DATA, bytes(8000)), bytes(16))
    assert one.link(three).backlog
    one.trust.offer(world.issuer.revoke(two.enrolled), world.wall())
    assert one.link(two) is None and one.neighbours.sessions == 1
    assert one.recorder.events[-1] == ("down", "two", "revoked")
    assert one.link(three).backlog == 0
    assert not link.send_data(pack_frame(Kind.E2E_DATA, b""), bytes(16))
    world.run(1)
    assert two.recorder.events[-1][:2] == ("down", "one")
    assert len(world.network.open_connections()) == 1


def test_an_idle_revoked_peer_hears_why(world):
    """Nothing waits for it, so the CLOSE reaches it before the end."""
    one, two = world.pair()
    one.trust.offer(world.issuer.revoke(two.enrolled), world.wall())
    world.run(1)
    assert two.recorder.events[-1] == ("down", "one", "revoked")


def test_a_receiver_that_refuses_ends_the_link(world):
    """Bytes that break the protocol above the link close it, are counted, and tell the peer."""
    one, two = world.pair()
    one.link(two).send_control(16, b"explode")
    world.run(1)
    assert two.counters["exploded"] == 1
    assert two.recorder.events[-1] == ("down", "one", "exploded")
    assert one.recorder.events[-1] == ("down", "two", "protocol")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (pack_frame(127, b""), "unknown-kind"),
        (pack_frame(Kind.HELLO, b""), "bad-hello"),
        (b"\xff\xff\x10", "bad-frame"),
        (pack_frame(Kind.REKEY) + pack_frame(16, b"x"), "bad-frame"),
        (pack_frame(Kind.REKEY, b"x"), "malformed"),
        (pack_frame(Kind.PING, b"x"), "malformed"),
        (pack_frame(Kind.CLOSE, b""), "malformed"),
    ],
)
def test_a_bad_frame_ends_the_link(world, frame, reason):
    """Each breach has its own reason, and costs only the link it came on."""
    one, two = world.pair()
    one.link(two)._transport.send_record(frame)
    world.run(1)
    assert two.recorder.events[-1] == ("down", "one", reason)
    assert one.recorder.events[-1] == ("down", "two", "protocol")


def test_unknown_optional_kinds_are_ignored(world):
    """A later version may send them; they are counted."""
    one, two = world.pair()
    one.link(two).send_control(200, b"from the future")
    world.run(1)
    assert two.counters["no-receiver"] == 1 and two.link(one) is not None


def test_the_farthest_end_of_the_queue_is_drained_on_close(world):
    """What was queued when the link closes still arrives, then CLOSE, then the end."""
    world.network.wire = Wire(rate=200_000, capacity=8192)
    one, two = world.pair()
    for number in range(40):
        one.link(two).send_data(pack_frame(Kind.E2E_DATA, b"%05d" % number + bytes(5000)), b"f" * 16)
    one.link(two).close(CloseReason.SHUTDOWN)
    world.run(4)
    assert [body[:5] for _, _, body in two.recorder.frames] == [b"%05d" % number for number in range(40)]
    assert two.recorder.events[-1] == ("down", "one", "shutdown")


def test_closing_to_a_reader_that_does_not_read_ends_anyway(world):
    """Draining has a deadline, then the transport is aborted."""
    one, two = world.pair()
    connection = world.network.connections[0]
    connection.server.pauseProducing()
    for _ in range(100):
        one.link(two).send_data(pack_frame(Kind.E2E_DATA, bytes(8000)), bytes(16))
    one.link(two).close(CloseReason.SHUTDOWN)
    world.run(6)
    assert not connection.client.connected
