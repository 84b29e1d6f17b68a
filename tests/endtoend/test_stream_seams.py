# SPDX-License-Identifier: MIT
"""What byte streams are given by the sessions below them: who is there, frames, room, and the end of it."""

from __future__ import annotations

import pytest
from endtoend.producers import Link, Source
from endtoend.rig import DAY, DELAY, NOW, Fabric, deny
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gmesh.endtoend import limits
from gmesh.errors import SendRefused
from gmesh.interfaces import IPeerStreams
from gmesh.mesh.peer_identity import peer_of
from gmesh.wire.frames import HEADER, Kind, iter_frames, pack_frame
from gmesh.wire.messages import EndParameters, Inner, Mark
from gmesh.wire.paths import read_path

SEGMENT, SEEN = 16, 17


@implementer(IPeerStreams)
class Streams:
    """Notes what it is told, and sends segments of one piece while it may."""

    def __init__(self, peer, batch):
        self.peer, self.batch = peer, batch
        self.active = False
        self.told, self.got, self.acknowledged = [], [], []
        self.news = b""
        self.attach(batch)

    def attach(self, batch):
        self.batch, self.paused, self.eager = batch, False, b""
        batch.add_producer(self)

    def heard(self, boot, features):
        self.told.append(("heard", int.from_bytes(boot, "big"), features))

    def ready(self):
        self.told.append("ready")

    def bounced(self):
        self.told.append("bounced")

    def gone(self, reason):
        self.told.append(reason)
        self.batch.remove_producer(self)

    def received(self, peer, plaintext):
        assert peer.name == self.peer.name
        for kind, start, end in iter_frames(plaintext):
            if not 16 <= kind <= 26:
                return start
            self.got.append((kind, plaintext[start + HEADER.size : end]))
        return len(plaintext)

    def received_seen(self, body):
        self.acknowledged.append(body)

    def seen(self):
        news, self.news = self.news, b""
        return news

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        self.paused = False
        if self.eager:
            self.send(self.eager)

    def stopProducing(self):
        pass

    def send(self, data, **options):
        frame = pack_frame(SEGMENT, data)
        return self.batch.segment([frame[:3], memoryview(frame)[3:]], len(frame), **options)


class Node:
    """The streams of one end, by peer."""

    def __init__(self, end):
        self.end, self.made, self.asked = end, {}, []
        end.associations.serve(self.give)

    def give(self, peer, batch, wanted):
        self.asked.append(wanted)
        streams = self.made.get(peer.name)
        if streams is not None and streams.batch is not batch:
            streams.attach(batch)
        elif streams is None and wanted:
            streams = self.made[peer.name] = Streams(peer, batch)
        return streams


@pytest.fixture
def nodes(fabric):
    """Both ends have streams, and neither has any yet."""
    return Node(fabric.alice), Node(fabric.bob)


@pytest.fixture
def joined(fabric, nodes):
    """The streams of alice and bob with each other, keys there, nothing noted yet."""
    ours = fabric.alice.associations.streams(fabric.bob.peer)
    ours.send(b"")
    fabric.run(0.2)
    assert ours.send(b"first")
    fabric.run(0.2)
    theirs = nodes[1].made["alice"]
    assert (theirs.got.pop(), theirs.got) == ((SEGMENT, b"first"), [])
    ours.told.clear()
    theirs.told.clear()
    fabric.seen.clear()
    return ours, theirs


def sealed_by(fabric, end):
    """E2E_DATA frames of one end."""
    return [frame for frame in fabric.frames(Kind.E2E_DATA) if frame[7:15] == end.handle]


def link_queue(fabric, end):
    """Give an end a first link that may pause it."""
    end.links[fabric.relay.handle] = Link()
    return end.links[fabric.relay.handle].senders


# who is there


def test_the_double_is_what_the_interface_says(joined):
    """So that what is shown with it holds for others."""
    for streams in joined:
        assert verifyObject(IPeerStreams, streams)


def test_an_end_says_when_it_was_started_and_what_it_can(fabric, nodes):
    """Its streams are told at once, before anything is sent, and those made later are too."""
    ours = fabric.alice.associations.streams(fabric.bob.peer)
    assert not ours.send(b"no keys yet") and ours.paused
    fabric.run(0.2)
    assert ours.told == [("heard", 1, 3), "ready"]
    assert not ours.paused and ours.send(b"x")
    assert nodes[1].made == {}
    fabric.run(0.2)
    theirs = nodes[1].made["alice"]
    assert theirs.told == [("heard", 1, 3)] and theirs.got == [(SEGMENT, b"x")]


def test_an_end_of_an_older_version_says_nothing(fabric, nodes):
    """It can nothing, then, and no message is refused for it."""
    fabric.bob.stop()
    fabric.bob.parameters = EndParameters
    fabric.bob.boot()
    got = fabric.bob.serve()
    ours = fabric.alice.associations.streams(fabric.bob.peer)
    fabric.alice.datagrams.post("bob", "log", b"m")
    fabric.run(0.2)
    assert ours.told == [("heard", 0, 0), "ready"] and got == [b"m"]


def test_each_new_session_is_heard_once(fabric, joined):
    """At a rehandshake both ends are told again, and after a restart of the other who is there now."""
    ours, theirs = joined
    for _ in range(13):
        fabric.run(10)
        ours.send(b"x")
    fabric.run(0.2)
    assert ours.told == theirs.told == [("heard", 1, 3), "ready"]
    ours.told.clear()
    fabric.bob.restart()
    bob = Node(fabric.bob)
    ours.send(b"to the dead")
    fabric.run(0.2)
    ours.send(b"to the living")
    fabric.run(0.2)
    assert ours.told == [("heard", 2, 3), "ready"]
    assert bob.made["alice"].got == [(SEGMENT, b"to the living")]


def test_what_message_1_says_counts_when_the_session_is_heard(fabric, joined):
    """A replayed first message is answered at most; nothing is believed because of it."""
    _ours, theirs = joined
    fabric.alice.restart()
    Node(fabric.alice)
    fabric.decide = lambda kind, header, frame: (DELAY,) if kind == Kind.E2E_INIT else ()
    fabric.alice.associations.streams(fabric.bob.peer).send(b"")
    fabric.run(0.2)
    assert fabric.bob.sessions.counters["answered"] == 2
    assert theirs.told == []


def test_late_frames_of_a_former_start_are_dropped(fabric, joined):
    """Numbers of streams begin again with each start: what was under way then means nothing now."""
    ours, theirs = joined
    fabric.decide = lambda kind, header, frame: (1.0,)
    ours.send(b"late")
    ours.batch.leave()
    fabric.decide = lambda kind, header, frame: (DELAY,)
    fabric.alice.restart()
    again = Node(fabric.alice)
    fabric.alice.associations.streams(fabric.bob.peer).send(b"")
    fabric.run(0.2)
    again.made["bob"].send(b"new")
    fabric.run(2)
    assert theirs.told == [("heard", 2, 3), "ready"]
    assert theirs.got == [(SEGMENT, b"new")]
    assert fabric.bob.sessions.counters["stream-of-former-start"] == 1


# frames


def test_messages_go_on_beside_streams(fabric, joined):
    """Whole frames of streams go to them, others to receivers, and both in one sealed frame do too."""
    ours, theirs = joined
    got = fabric.bob.serve()
    fabric.alice.datagrams.post("bob", "log", b"message")
    ours.send(b"segment")
    fabric.run(0.2)
    assert got == [b"message"] and theirs.got == [(SEGMENT, b"segment")]
    keys = fabric.alice.associations.get(fabric.bob.handle).keys
    message = fabric.alice.datagrams._sender("bob", "log")._template.frame(0, b"behind")
    fabric.alice.associations._sealer.send(
        keys, pack_frame(SEGMENT, b"1") + pack_frame(26, b"") + message + pack_frame(SEEN, b"2") + message
    )
    fabric.run(0.2)
    assert theirs.got[1:] == [(SEGMENT, b"1"), (26, b"")] and theirs.acknowledged == [b"2"]
    assert got[1:] == [b"behind", b"behind"]


def test_a_node_without_streams_skips_their_frames(fabric):
    """As any unknown inner frame: counted, and what stands behind is read."""
    got = fabric.bob.serve()
    fabric.alice.datagrams.post("bob", "log", b"m")
    fabric.run(0.2)
    keys = fabric.alice.associations.get(fabric.bob.handle).keys
    message = fabric.alice.datagrams._sender("bob", "log")._template.frame(0, b"behind")
    fabric.alice.associations._sealer.send(keys, pack_frame(SEGMENT, b"1") + pack_frame(SEEN, b"") + message)
    fabric.run(0.2)
    assert got == [b"m", b"behind"]
    assert fabric.bob.sessions.counters["unknown-inner"] == 2


def test_the_answer_to_a_question_brings_what_was_seen(fabric, joined):
    """SEEN stands in front of the ACK, in its seal; nothing stands there when there is nothing to say."""
    ours, theirs = joined
    theirs.news = pack_frame(SEEN, b"news")
    for _ in range(3):
        assert ours.send(bytes(15_000))
    assert not ours.send(b"the window is full") and ours.paused
    fabric.run(0.2)
    assert ours.got[0] == (SEEN, b"news") and len(ours.got) == 1
    assert not ours.paused
    sizes = [len(frame) for frame in sealed_by(fabric, fabric.bob)]
    assert max(sizes) - min(sizes) == len(pack_frame(SEEN, b"news"))


def test_a_bounced_frame_is_told(fabric, joined):
    """So that streams send again at once what was in it."""
    ours, _ = joined
    ours.send(b"x")
    ours.batch.leave()
    header = read_path(fabric.seen[-1], 0, len(fabric.seen[-1]))[0]
    fabric.alice.sessions.undeliverable(header, header.destination, "full")
    assert ours.told == ["bounced"]


# room


def test_a_segment_is_a_sealed_frame_of_its_own(fabric, joined):
    """In order with messages, up to eight under way at once, at the end of the turn, and with a question."""
    ours, theirs = joined
    got = fabric.bob.serve()
    source = Source(fabric.alice.datagrams.open("bob", "log"), size=100)
    source.produce(2)
    for index in range(3):
        assert ours.send(bytes([index]) * 100)
    assert fabric.seen == []
    fabric.clock.advance(0)
    assert len(sealed_by(fabric, fabric.alice)) == 4
    fabric.run(0.2)
    assert got == source.sent
    assert theirs.got == [(SEGMENT, bytes([index]) * 100) for index in range(3)]
    for index in range(9):
        ours.send(bytes([index]))
    assert len(sealed_by(fabric, fabric.alice)) == 4 + 8
    ours.batch.leave()
    assert len(sealed_by(fabric, fabric.alice)) == 4 + 9


def test_no_more_is_under_way_than_the_window_holds(fabric, joined):
    """Segments count in it like messages, pause their producer with it, and a probe goes past it."""
    ours, theirs = joined
    fabric.decide = lambda kind, header, frame: ()
    taken = 0
    while ours.send(bytes(8_000)):
        taken += 1
    assert limits.INITIAL_WINDOW <= taken * 8_000 < limits.INITIAL_WINDOW + 16_000
    assert ours.paused and not ours.send(b"no")
    assert ours.send(b"probe", probe=True)
    source = Source(fabric.alice.datagrams.open("bob", "log"))
    source.produce(1)
    assert source.paused
    fabric.run(5)
    assert not ours.paused
    fabric.decide = lambda kind, header, frame: (DELAY,)
    ours.eager = bytes(8_000)
    before = len(theirs.got)
    ours.resumeProducing()
    for _ in range(100):
        fabric.run(DELAY)
        while ours.send(ours.eager):
            pass
    fabric.run(0.2)
    assert (len(theirs.got) - before) * 8_000 > 10 * limits.INITIAL_WINDOW


def test_segments_are_paused_by_the_first_link(fabric, nodes):
    """And resumed by it; a segment that is refused has not been taken."""
    senders = link_queue(fabric, fabric.alice)
    ours = fabric.alice.associations.streams(fabric.bob.peer)
    ours.send(b"")
    fabric.run(0.2)
    ours.send(b"1")
    [sender] = senders.values()
    sender.pauseProducing()
    assert ours.paused and not ours.send(b"2")
    sender.resumeProducing()
    assert not ours.paused and ours.send(b"3")
    fabric.run(0.2)
    assert [body for _, body in nodes[1].made["alice"].got] == [b"1", b"3"]


def test_without_a_path_nothing_is_taken(fabric, joined):
    """Nor lost: the producer is not paused, and tries again when it likes."""
    ours, theirs = joined
    fabric.alice.unreachable.add(fabric.bob.handle)
    fabric.alice.associations.get(fabric.bob.handle).keys.lose_way()
    assert not ours.send(b"nowhere") and not ours.paused
    fabric.alice.unreachable.clear()
    assert ours.send(b"there")
    fabric.run(0.2)
    assert theirs.got == [(SEGMENT, b"there")]


def test_segments_know_the_path_they_go_by(fabric, joined):
    """The generation rises with the first segment that goes by another path, and with no other."""
    ours, _theirs = joined
    other = fabric.add("carol", 9)
    ours.send(b"old")
    ours.batch.leave()
    old = ours.batch.path_generation
    fabric.alice.path = lambda destination, now, avoid=frozenset(): (
        fabric.alice.handle,
        other.handle,
        fabric.bob.handle,
    )
    ours.send(b"new")
    new = ours.batch.path_generation
    ours.send(b"new too")
    ours.batch.leave()
    assert (new, ours.batch.path_generation) == (old + 1, old + 1)
    relays = [frame[15:23] for frame in sealed_by(fabric, fabric.alice)]
    assert relays == [fabric.relay.handle, other.handle, other.handle]
    ours.batch.blame(old, 0.0)
    assert fabric.alice.blamed == []
    fabric.clock.advance(1)
    ours.batch.blame(new, fabric.clock.seconds())
    assert [path[1] for path in fabric.alice.blamed] == [other.handle]


def test_round_trips_and_losses_of_segments_count(fabric, joined):
    """A sample is one of RFC 6298; losses shrink the window once a round trip."""
    batch = joined[0].batch
    control = batch._in_flight.control
    assert (batch.srtt, control.min_rtt) == (None, pytest.approx(2 * DELAY)), "the handshake took so long"
    joined[0].send(bytes(10_000))
    fabric.run(0.2)
    before = batch.srtt
    assert 2 * DELAY <= before < 4 * DELAY
    batch.sample(before + 0.8)
    assert batch.srtt == pytest.approx(before + 0.1)
    assert control.min_rtt == pytest.approx(2 * DELAY)
    assert control.rto > 0.3
    assert control.rttvar > 0
    window = batch._in_flight.control.cwnd
    for _ in range(3):
        batch.lost(fabric.clock.seconds())
    assert batch._in_flight.control.cwnd == pytest.approx(window * limits.LOSS_REDUCTION)


def test_segments_are_as_large_as_the_path_is_fast(fabric, joined):
    """What it delivers in a moment, up to the largest; another path is measured from the beginning."""
    ours, _theirs = joined
    batch, other = ours.batch, fabric.add("carol", 9)
    assert batch.segment_limit == limits.INITIAL_BATCH
    for _ in range(40):
        while ours.send(bytes(batch.segment_limit - 20)):
            pass
        batch.leave()
        fabric.run(2 * DELAY)
    assert batch.limit == limits.MAX_BATCH, "messages share seals as ever"
    assert batch.segment_limit == limits.MAX_SEGMENT
    fabric.alice.path = lambda destination, now, avoid=frozenset(): (
        fabric.alice.handle,
        other.handle,
        fabric.bob.handle,
    )
    ours.send(b"new")
    assert batch.segment_limit == limits.MAX_BATCH


def test_segments_stay_small_where_the_path_is_thin(fabric, joined):
    """As many bytes as it delivers in 4 ms, or as messages have: a keystroke waits for no more."""
    batch = joined[0].batch
    control = batch._in_flight.control
    control.cwnd = 6 * 1024 * 1024
    for rate, size in ((1_250_000, limits.MAX_BATCH), (10_000_000, 40_000), (1e9, limits.MAX_SEGMENT)):
        control.delivery._lasting = rate
        batch._resize(control)
        assert batch.segment_limit == size
    control.sample(10.0)
    batch._resize(control)
    assert batch.segment_limit == limits.SLOW_PATH_BATCH


# the end of an association


def test_an_association_with_open_streams_is_not_idle(fabric, joined):
    """It is not forgotten for want of traffic, and not evicted for others; afterwards it is."""
    ours, theirs = joined
    ours.active = True
    fabric.run(1300, step=1)
    assert ours.told == [] and len(fabric.alice.sessions) == 1
    assert theirs.told == ["idle"] and len(fabric.bob.sessions) == 0
    small = fabric.add("hub", 9, max_sessions=1)
    node = Node(small)
    streams = small.associations.streams(fabric.bob.peer)
    streams.active = True
    fabric.run(200, step=1)
    with pytest.raises(SendRefused, match="being set up"):
        small.associations.associate(fabric.alice.peer)
    streams.active = False
    small.associations.associate(fabric.alice.peer)
    assert streams.told == ["evicted"] and list(node.made) == ["bob"]
    ours.active = False
    fabric.run(700, step=1)
    assert ours.told == ["idle"]


def test_streams_go_on_under_the_next_association(fabric, nodes, joined):
    """What a peer that was given up for silence had is there again, on the new batch sender."""
    ours, theirs = joined
    fabric.run(700, step=1)
    assert ours.told == theirs.told == ["idle"]
    old = ours.batch
    assert fabric.alice.associations.streams(fabric.bob.peer) is ours and ours.batch is not old
    ours.send(b"")
    fabric.run(0.2)
    ours.send(b"again")
    fabric.run(0.2)
    assert theirs.got == [(SEGMENT, b"again")]
    assert ours.told == theirs.told == ["idle", ("heard", 1, 3), "ready"]
    assert nodes[1].asked == [False, True, False]


@pytest.mark.parametrize("reason", ["revoked", "expired", "stopped", "closed", "timed-out"])
def test_streams_learn_why_their_association_ended(fabric, joined, reason):
    """In the turn in which it ends."""
    ours, _ = joined
    ours.active = True
    if reason == "revoked":
        fabric.alice.trust.offer(fabric.network.crl(revoked=[[2, NOW + DAY, 0]]), fabric.wall())
    elif reason == "expired":
        ended = fabric.network.certificate("bob", serial=2, roles=("client",), not_after=NOW + 150)
        fabric.alice.associations.get(fabric.bob.handle).keys.adopt(peer_of(ended))
        fabric.bob.peer = peer_of(ended)
        for _ in range(30):
            ours.send(b"x")
            fabric.run(20, step=1)
    elif reason == "stopped":
        fabric.alice.stop()
    elif reason == "closed":
        fabric.bob.stop()
        fabric.run(0.1)
    else:
        fabric.decide = lambda kind, header, frame: ()
        for _ in range(30):
            ours.send(b"x")
            fabric.run(10, step=1)
    assert ours.told[-1] == reason and len(fabric.alice.sessions) == 0


def test_a_peer_that_stops_ends_streams_though_messages_wait(fabric, joined, outcomes):
    """The association stays for the messages; streams that come later are made anew."""
    ours, _theirs = joined
    fabric.decide = lambda kind, header, frame: () if header.source == fabric.alice.handle else (DELAY,)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x", timeout=50))
    fabric.bob.stop()
    fabric.run(0.1)
    assert ours.told == ["closed"] and len(fabric.alice.sessions) == 1
    assert fabric.alice.associations.streams(fabric.bob.peer) is ours
    fabric.run(60, step=1)
    assert outcomes == ["timed-out"]


# who may


def test_open_streams_are_judged_by_what_is_allowed_now(fabric):
    """Both ends name the rule; revoked, expired and out of touch are reasons too, and _services go on."""
    authorization = fabric.alice.datagrams.authorization
    bob = fabric.bob.peer
    assert authorization.judge(bob, "ssh", True) is authorization.judge(bob, "ssh", False) is None
    fabric.offer(fabric.network.policy(2, rules=deny("ssh", sources=("node:alice",))))
    refusal = authorization.judge(bob, "ssh", True)
    assert refusal.reason == "denied" and "alice may not reach ssh of bob: rule 1 denies it" in str(refusal)
    assert authorization.judge(bob, "ssh", False) is None
    assert authorization.judge(bob, "_echo", True) is None
    fabric.alice.lapsed = True
    assert authorization.judge(bob, "web", False).reason == "stale"
    fabric.alice.lapsed = False
    ended = peer_of(fabric.network.certificate("bob", serial=2, not_before=NOW - DAY, not_after=NOW - 1_000))
    assert authorization.judge(ended, "web", False).reason == "expired"
    fabric.alice.trust.offer(fabric.network.crl(revoked=[[2, NOW + DAY, 0]]), fabric.wall())
    assert authorization.judge(bob, "web", False).reason == "revoked"


def test_a_question_and_an_answer_in_a_stream_frame_are_read():
    """ASK and ACK may stand behind the frames of streams, in their seal."""
    fabric = Fabric("alice", "bob")
    alice, bob = Node(fabric.alice), Node(fabric.bob)
    fabric.alice.associations.streams(fabric.bob.peer).send(b"")
    fabric.run(0.2)
    keys = fabric.alice.associations.get(fabric.bob.handle).keys
    question = pack_frame(Inner.ASK, Mark(77).encode())
    fabric.seen.clear()
    fabric.alice.associations._sealer.send(keys, pack_frame(SEGMENT, b"1") + question)
    fabric.run(0.2)
    assert bob.made["alice"].got == [(SEGMENT, b"1")] and alice.made["bob"].got == []
    assert len(sealed_by(fabric, fabric.bob)) == 1
    fabric.stop()
