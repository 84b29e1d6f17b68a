# SPDX-License-Identifier: MIT
"""A sender on this host is paused by its link, never dropped; relayed frames that waited too long are."""

from __future__ import annotations

import pytest
from mesh.linkworld import World

from gmesh.mesh.counters import Counters
from gmesh.mesh.egress_queue import DataRoom, EgressQueue
from gmesh.mesh.limits import (
    AHEAD_LEAST,
    AHEAD_MOST,
    DATA_FLOW_BYTES,
    MAX_DATA_FRAME,
    SENDER_HIGH_WATER,
    TCP_UNSENT_LOW_WATER,
)
from gmesh.testing.transport import Wire
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import CloseReason

OWN, OTHER, THIRD = b"own.own.own.own.", b"relayed.relayed.", b"another.another."


class Sender:
    """Writes numbered frames until it is paused."""

    def __init__(self, link, flow=OWN, size=4000, limit=2000):
        self.link, self.flow, self.size, self.limit = link, flow, size, limit
        self.sent, self.paused, self.stopped, self.refused = 0, False, False, 0
        link.register_sender(flow, self)

    def resumeProducing(self):
        self.paused = False
        while not self.paused and not self.stopped and self.sent < self.limit:
            body = self.flow[:1] + b"%07d" % self.sent + bytes(self.size)
            self.refused += not self.link.send_data(pack_frame(Kind.E2E_DATA, body), self.flow)
            self.sent += 1

    def pauseProducing(self):
        self.paused = True

    def stopProducing(self):
        self.stopped = True


@pytest.fixture
def world():
    world = World(wire=Wire(rate=1_250_000, capacity=64 * 1024))
    yield world
    world.finish()


def arrived(node, flow):
    return [int(body[1:8]) for _, _, body in node.recorder.frames if body[:1] == flow[:1]]


def test_field_r7_a_local_sender_is_paused_and_loses_nothing(world):
    """Eight megabytes over ten megabits a second: all arrive in order, little waits at any time."""
    one, two = world.pair()
    link = one.link(two)
    sender = Sender(link)
    sender.resumeProducing()
    assert sender.paused and sender.sent < 20
    most = 0
    while sender.sent < sender.limit or link.backlog:
        world.run(0.01)
        most = max(most, link.backlog)
    world.run(1)
    assert arrived(two, OWN) == list(range(2000))
    assert sender.refused == 0 and most <= MAX_DATA_FRAME
    assert world.clock.seconds() < 8.1


def test_a_local_sender_shares_with_relayed_traffic(world):
    """Beside a relayed flow that never lets up it gets its half, and still loses nothing."""
    one, two = world.pair()
    link = one.link(two)
    sender = Sender(link)
    sender.resumeProducing()
    for number in range(500):
        for _ in range(5):
            link.send_data(pack_frame(Kind.E2E_DATA, b"r%07d" % number + bytes(4000)), OTHER)
        world.run(0.01)
        assert link._egress.queue._flows.get(OWN) is None or (
            link._egress.queue._flows[OWN].size <= SENDER_HIGH_WATER + MAX_DATA_FRAME
        )
    own, relayed = arrived(two, OWN), arrived(two, OTHER)
    assert own == list(range(len(own))) and sender.refused == 0
    assert 0.7 < len(own) / len(relayed) < 1.4
    assert one.counters["data-waited-long"] > 0
    sender.limit = 0


def test_two_local_senders_share(world):
    """Each gets half, none is forgotten while paused."""
    one, two = world.pair()
    senders = [Sender(one.link(two), flow) for flow in (OWN, THIRD)]
    for sender in senders:
        sender.resumeProducing()
    world.run(4)
    mine, other = arrived(two, OWN), arrived(two, THIRD)
    assert mine == list(range(len(mine))) and other == list(range(len(other)))
    assert 0.8 < len(mine) / len(other) < 1.25
    for sender in senders:
        sender.limit = 0


def test_a_sender_that_ignores_its_pause_is_refused_not_unbounded(world):
    """Beyond its flow's limit frames are not taken, and that is counted."""
    one, two = world.pair()
    link = one.link(two)
    sender = Sender(link)
    taken = [link.send_data(pack_frame(Kind.E2E_DATA, b"o%07d" % n + bytes(8000)), OWN) for n in range(1200)]
    assert taken.count(False) == one.counters["data-sender-unpaused"] > 50
    assert sender.paused and link.backlog <= DATA_FLOW_BYTES


@pytest.mark.parametrize("end", ["close", "cut", "lost"])
def test_a_sender_is_stopped_when_the_link_ends(world, end):
    """However the link ends, its senders hear of it once."""
    one, two = world.pair()
    link = one.link(two)
    sender = Sender(link)
    sender.resumeProducing()
    if end == "lost":
        world.network.connections[0].cut()
    else:
        getattr(link, end)(CloseReason.SHUTDOWN)
    assert sender.stopped
    sender.resumeProducing()
    world.run(6)
    assert not link.send_data(pack_frame(Kind.E2E_DATA, b"late"), OWN)


def test_a_sender_that_is_done_leaves_what_it_wrote(world):
    """After it unregistered the last frames still go, and nobody is called."""
    one, two = world.pair()
    link = one.link(two)
    sender = Sender(link, limit=30)
    sender.resumeProducing()
    sender.limit = sender.sent
    link.unregister_sender(OWN)
    world.run(2)
    assert arrived(two, OWN) == list(range(sender.sent))


def test_what_waited_too_long_makes_room_from_the_largest_flow():
    """A frame older than 50 ms, and than four of its kind take to send: the largest flow loses its oldest."""
    lost = []
    queue = EgressQueue(Counters(), room=DataRoom(dropped=lambda flow, frame: lost.append(frame)))
    small = OTHER[:8] + THIRD[8:]
    for number in range(8):
        queue.push_data(b"%d" % number * 1000, OTHER, 0.0)
    queue.push_data(b"s" * 100, small, 0.0)
    queue.push_data(b"t" * 100, small, 0.05)
    assert lost == []
    queue.push_data(b"u" * 100, small, 0.06)
    assert lost == [b"0" * 1000]
    queue.pace = 1e-3
    queue.push_data(b"v" * 100, small, 0.3)
    assert len(lost) == 1
    queue.push_data(b"w" * 100, small, 0.41)
    assert lost[1:] == [b"1" * 1000]


def test_a_transport_that_keeps_up_never_pauses_a_sender():
    """Far more than may be written ahead leaves in one go when the transport passes on each turn's share."""
    world = World(wire=Wire(rate=None, delay=0.0001, capacity=1 << 30))
    one, two = world.pair()
    link = one.link(two)
    pauses = []
    sender = Sender(link, size=4000, limit=0)
    sender.pauseProducing = lambda: pauses.append(sender.sent)
    for _ in range(200):
        sender.limit += 3
        sender.resumeProducing()
        assert not link.backlog
        world.run(0.001)
    assert pauses == []
    assert len(arrived(two, OWN)) == 600
    world.finish()


def test_a_frame_in_two_pieces_arrives_whole():
    """Whether it goes straight into a record or has to wait in the queue."""
    world = World(wire=Wire(rate=100_000, delay=0.01))
    one, two = world.pair()
    link = one.link(two)
    frames = [pack_frame(Kind.E2E_DATA, b"%07d" % number + bytes(4000)) for number in range(100)]
    waited = []
    for frame in frames:
        assert link.send_data(frame[:20], OWN, memoryview(frame)[20:])
        waited.append(link.backlog > 0)
    world.run(10)
    assert set(waited) == {False, True}
    assert [body for _, kind, body in two.recorder.frames if kind == Kind.E2E_DATA] == [f[3:] for f in frames]
    world.finish()


def test_how_far_ahead_follows_the_pace_of_the_transport():
    """A slow link is filled 16 KiB ahead, in records of that size, a fast one more; the kernel too."""
    world = World(wire=Wire(rate=1_250_000, capacity=16 * 1024))
    one, two = world.pair()
    link = one.link(two)
    sealed, unsent = [], [TCP_UNSENT_LOW_WATER]
    send = link._transport.send_record
    link._transport.send_record = lambda record: (sealed.append(len(record)), send(record))
    link._transport.keep_unsent = unsent.append
    sender = Sender(link, size=1000)
    sender.resumeProducing()
    world.run(2)
    assert link._egress._ahead == AHEAD_LEAST
    assert max(sealed[-20:]) <= AHEAD_LEAST + 1011
    assert unsent[-1] < 2 * AHEAD_LEAST
    sender.limit = 0
    world.finish()
    world = World(wire=Wire(rate=125_000_000, delay=0.0001))
    one, two = world.pair()
    link, unsent = one.link(two), []
    link._transport.keep_unsent = unsent.append
    sender = Sender(link, limit=20_000)
    sender.resumeProducing()
    world.run(1)
    assert link._egress._ahead == AHEAD_MOST
    assert unsent[-1] > AHEAD_MOST // 2
    sender.limit = 0
    world.finish()
