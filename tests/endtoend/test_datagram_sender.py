# SPDX-License-Identifier: MIT
"""Datagram senders: whatever changes in the middle of a turn counts at once."""

from __future__ import annotations

import gc
import itertools
from types import SimpleNamespace
from weakref import ref

import pytest
from endtoend.producers import Source
from endtoend.rig import DAY, DELAY, NOW, Fabric, deny
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IConsumer
from zope.interface.verify import verifyObject

from gmesh.endtoend import limits
from gmesh.endtoend.services import Message
from gmesh.errors import SendRefused
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import Datagram, Inner


def refusal(send, *arguments):
    """The reason a call is refused with, or None."""
    try:
        send(*arguments)
    except SendRefused as error:
        return error.reason
    return None


def test_provides_a_consumer(flow):
    """A datagram sender is a Twisted consumer of one push producer."""
    assert verifyObject(IConsumer, flow)
    with pytest.raises(RuntimeError):
        flow.registerProducer(None, False)


def test_acknowledged_messages_do_not_overtake(fabric, flow):
    """What was posted before a message that wants an answer arrives before it."""
    for index in range(3):
        flow.send(bytes([index]))
    fabric.alice.datagrams.send("bob", "log", b"last")
    fabric.run(0.2)
    assert fabric.got == [b"\0", b"\1", b"\2", b"last"]


def test_to_itself(fabric):
    """A sender to this node's own service makes no frame."""
    got = fabric.alice.serve()
    own = fabric.alice.datagrams.open("alice", "log")
    own.send(b"one")
    own.write(b"two")
    assert got == [b"one", b"two"]
    assert fabric.seen == []


def test_a_sender_that_its_program_lets_go_is_let_go(fabric):
    """Others are sent by as before, and a producer that writes one keeps it."""
    got = fabric.bob.serve()
    kept, written, gone = (fabric.alice.datagrams.open("bob", "log") for _ in range(3))
    source = Source(written)
    del written
    gone.send(b"keys")
    seen = ref(gone)
    del gone
    gc.collect()
    assert seen() is None
    fabric.run(0.2)
    kept.send(b"one")
    fabric.run(0.2)
    assert got == [b"keys", b"one"]
    fabric.alice.datagrams.stop()
    assert source.stopped


@pytest.mark.parametrize("size", [0, 1, 8192, limits.WHOLE_SIZE, limits.WHOLE_SIZE + 1, limits.MAX_DATAGRAM])
def test_sizes_in_any_order(fabric, flow, size):
    """Whole, cut and small messages of one turn all arrive."""
    data = bytes(index % 251 for index in range(size))
    for message in (b"before", data, bytearray(data), b"after"):
        flow.send(message)
    fabric.run(0.5)
    assert fabric.got == [b"before", data, data, b"after"]


def test_revocation_in_the_middle_of_a_turn(fabric, flow):
    """Not a byte gathered for a node leaves after it was revoked, and the next call says so."""
    for index in range(10):
        flow.send(bytes([index]))
    before = len(fabric.seen)
    fabric.alice.trust.offer(fabric.network.crl(revoked=[[2, NOW + DAY, 0]]), fabric.wall())
    assert refusal(flow.send, b"late") == "revoked"
    fabric.run(0.2)
    assert len([f for f in fabric.seen[before:] if f[2] == Kind.E2E_DATA]) <= 1  # no more than a farewell
    assert fabric.got == [b"\0"]


def test_revocation_between_two_frames_that_leave_together(fabric, flow):
    """Frames of a turn leave one after the other; when the first leads to a revocation, no other does."""
    source = Source(flow, size=limits.MAX_BATCH - 100)
    source.produce(1)
    fabric.run(0.2)

    def decide(kind, header, frame):
        fabric.decide = lambda kind, header, frame: (DELAY,)
        fabric.alice.trust.offer(fabric.network.crl(revoked=[[2, NOW + DAY, 0]]), fabric.wall())
        return (DELAY,)

    before, fabric.decide = len(fabric.seen), decide
    source.produce(3)
    fabric.run(0.2)
    ours = [frame for frame in fabric.seen[before:] if frame[7:15] == fabric.alice.handle]
    assert [len(frame) > limits.INITIAL_BATCH for frame in ours] == [True, False]  # one, and a farewell
    assert len(fabric.got) <= 2


def test_revocation_between_two_messages_of_one_frame(fabric):
    """A receiver gets nothing more of a node once it is revoked, though the frame is open already."""
    got = []

    def receive(message):
        got.append(message.data)
        if message.data == b"3":
            fabric.bob.trust.offer(fabric.network.crl(revoked=[[1, NOW + DAY, 0]]), fabric.wall())

    fabric.bob.datagrams.register("log", receive)
    flow = fabric.alice.datagrams.open("bob", "log")
    flow.send(b"keys")
    fabric.run(0.2)
    for index in range(8):
        flow.send(b"%d" % index)
    fabric.run(0.2)
    assert got == [b"keys", b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("end", ["alice", "bob"])
def test_policy_in_the_middle_of_a_turn(fabric, flow, end):
    """A rule that forbids the service counts for the very next message, at the source or at the receiver."""
    for index in range(4):
        flow.send(bytes([index]))
    fabric.run(0.2)
    getattr(fabric, end).trust.offer(fabric.network.policy(2, rules=deny("log")), fabric.wall())
    assert refusal(flow.send, b"late") == ("denied" if end == "alice" else None)
    fabric.run(0.2)
    assert fabric.got == [b"\0", b"\1", b"\2", b"\3"]


def test_touch_with_the_authority_lost_and_found_under_load(fabric, flow):
    """A receiver that has lost touch takes nothing a second later, and again once it is back in touch."""
    sent = itertools.count()

    def keep_sending(seconds):
        for _ in range(round(seconds / 0.1)):
            flow.send(b"%d" % next(sent))
            fabric.run(0.1)

    keep_sending(2)
    fabric.bob.lapsed = True
    keep_sending(limits.AUTHORIZATION_LIFE + 0.2)
    before = len(fabric.got)
    keep_sending(3)
    assert len(fabric.got) == before
    fabric.bob.lapsed = False
    keep_sending(limits.AUTHORIZATION_LIFE + 0.2)
    before = len(fabric.got)
    keep_sending(2)
    assert len(fabric.got) == before + 20


def test_policy_after_gathering(fabric, flow):
    """Gathered messages were allowed; the first after the change is not, in the same turn."""
    flow.send(b"1")
    flow.send(b"2")
    fabric.alice.trust.offer(fabric.network.policy(2, rules=deny("log")), fabric.wall())
    assert refusal(flow.send, b"3") == "denied"
    fabric.run(0.2)
    assert fabric.got == [b"1", b"2"]


def test_receiver_gone_between_two_messages_of_one_frame(fabric):
    """A receiver that unregisters itself is not called again."""
    got = []

    def receive(message):
        got.append(message.data)
        if len(got) == 4:
            registration.unregister()

    registration = fabric.bob.datagrams.register("log", receive)
    flow = fabric.alice.datagrams.open("bob", "log")
    flow.send(b"keys")
    fabric.run(0.2)
    for index in range(8):
        flow.send(b"%d" % index)
    fabric.run(0.2)
    assert got == [b"keys", b"0", b"1", b"2"]
    assert fabric.bob.sessions.counters["inbound-no-such-service"] == 5


def test_route_lost_in_the_middle_of_a_turn(fabric, flow):
    """Without a path the call is refused; what was gathered still tries the way the peer is heard by."""
    for index in range(3):
        flow.send(bytes([index]))
    fabric.alice.unreachable.add(fabric.bob.handle)
    fabric.clock.advance(0)
    assert refusal(flow.send, b"late") == "no-route"
    fabric.run(0.2)
    assert fabric.got == [b"\0"] or fabric.got == [b"\0", b"\1", b"\2"]


def test_keys_lost_at_the_far_end(fabric, flow):
    """A producer goes on by itself after the receiving node restarted."""
    source = Source(flow)
    source.produce(5)
    fabric.run(0.2)
    fabric.bob.restart()
    got = fabric.bob.serve()
    for _ in range(100):
        source.produce(2)
        fabric.run(0.2)
    assert len(got) > 100
    assert len(got) == len(set(got))


# what a peer may put into a sealed frame

MESSAGES = st.builds(
    lambda data, number: pack_frame(Inner.DATAGRAM, Datagram("log", number, data).encode()),
    st.binary(max_size=40),
    st.integers(0, 2**64 - 1),
)
OTHERS = st.builds(pack_frame, st.integers(Inner.RECEIPT, 20), st.binary(max_size=30))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(MESSAGES, OTHERS), max_size=12), st.binary(max_size=12))
def test_the_fast_path_reads_what_the_slow_path_reads(frames, rest):
    """Any inner frames, known or not, then garbage: the messages as decoded one by one, and no failure."""
    expected = [Datagram.decode(frame[3:]).data for frame in frames if frame[2] == Inner.DATAGRAM]
    fabric = Fabric("alice", "bob")
    got = fabric.bob.serve()
    receiver = fabric.bob.associations.associate(fabric.alice.peer).receiver
    session = SimpleNamespace(peer=fabric.alice.peer)
    receiver.opened(session, b"".join(frames))
    assert got == expected
    receiver.opened(session, rest)
    assert len(got) <= len(expected) + 1
    fabric.stop()


def test_a_message_hides_its_data():
    """What is logged of a message is not its data."""
    assert "secret" not in repr(Message("alice", "id", (), "log", b"secret"))
