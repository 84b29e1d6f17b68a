# SPDX-License-Identifier: MIT
"""Batches: messages of a turn share a seal, and leave at its end."""

from __future__ import annotations

import pytest
from endtoend.producers import Source
from endtoend.rig import DELAY

from gmesh.endtoend import limits
from gmesh.endtoend.reliable_queue import encode_datagram
from gmesh.wire.frames import Kind


def test_a_turn_shares_seals(fabric, flow):
    """The first message leaves at once, the others of the turn in few frames, all in order."""
    messages = [bytes([index]) * 100 for index in range(200)]
    for message in messages:
        flow.send(message)
    assert len(fabric.seen) >= 1
    fabric.run(0.2)
    data = fabric.frames(Kind.E2E_DATA)
    assert fabric.got == messages
    assert len([frame for frame in data if frame[7:15] == fabric.alice.handle]) <= 5
    assert max(map(len, data)) <= limits.MAX_BATCH + 200


def test_what_a_producer_writes_in_a_turn_leaves_at_its_end(fabric, flow):
    """All of it shares seals from the first message on."""
    source = Source(flow, size=500)
    source.produce(20)
    assert fabric.seen == []
    fabric.clock.advance(0)
    sizes = [len(frame) for frame in fabric.frames(Kind.E2E_DATA)]
    assert len(sizes) == 2
    fabric.run(0.2)
    assert fabric.got == source.sent


@pytest.mark.parametrize(("a_turn", "left"), [(1, [0, 1, 2, 3]), (20, [0, 0, 3, 3])])
def test_turns_that_fill_frames_leave_in_pairs(fabric, flow, a_turn, left):
    """What fills a frame waits for the next turn, no longer; less leaves at the end of its turn."""
    source, seen = Source(flow, size=500), []

    def turn():
        seen.append(len(fabric.frames(Kind.E2E_DATA)))
        source.produce(a_turn)
        if len(seen) < len(left):
            fabric.clock.callLater(0, turn)

    turn()
    fabric.clock.advance(0)
    assert seen == left
    fabric.run(0.2)
    assert fabric.got == source.sent


def test_each_turn_is_sealed_at_its_end(fabric, flow):
    """Nothing waits for a later turn."""
    for index in range(3):
        flow.send(bytes([index]))
    fabric.clock.advance(0)
    fabric.run(DELAY)
    assert fabric.got == [b"\0", b"\1", b"\2"]


def test_frames_that_were_overtaken_do_not_bring_the_old_path_back(fabric, flow):
    """Both ends leave a slow path for a fast one: what still comes by the slow one changes nothing."""
    other, source = fabric.add("carol", 9), Source(flow, size=500)
    slow = fabric.relay.handle
    fabric.decide = lambda kind, header, frame: (0.2 if slow in header.path else DELAY,)
    for _ in range(20):
        source.produce(1)
        fabric.run(DELAY)
    for end in (fabric.alice, fabric.bob):
        end.path = lambda handle, now, avoid=frozenset(), end=end: (end.handle, other.handle, handle)
    fabric.seen.clear()
    back = fabric.bob.datagrams.open("alice", "log")
    for _ in range(40):
        source.produce(1)
        back.send(b"x")
        fabric.run(DELAY)
    fabric.run(0.5)
    assert len(fabric.got) == len(source.sent) == 60
    for end, handle in ((fabric.alice, fabric.bob.handle), (fabric.bob, fabric.alice.handle)):
        assert end.associations.get(handle).keys.back == (end.handle, other.handle, handle)
    assert {frame[15:23] for frame in fabric.frames(Kind.E2E_DATA)} == {other.handle}


@pytest.mark.parametrize("gone", ["current", "back"])
def test_answers_whose_keys_or_way_back_are_gone_arrive_all_the_same(fabric, flow, gone):
    """With new keys, or by the path of all else."""
    got, other = fabric.alice.serve("told"), fabric.add("carol", 9)
    batch = fabric.bob.associations.get(fabric.alice.handle).batch
    fabric.bob.links[other.handle] = object()
    batch.keys.back = (fabric.bob.handle, other.handle, fabric.alice.handle)
    assert batch.apart
    if gone == "current":
        batch.keys.current = None
    for answer in (b"one", b"two"):
        batch.answer(encode_datagram("told", 1, answer, want_ack=False)[0])
    if gone == "back":
        batch.keys.back = None
    fabric.run(1)
    assert got == [b"one", b"two"]


def test_route_change_in_the_middle_of_a_turn(fabric, flow):
    """Frames follow the new path from the next seal on; nothing is lost or comes twice."""
    other = fabric.add("carol", 9)
    old = fabric.alice.path(fabric.bob.handle, 0)
    new = (fabric.alice.handle, other.handle, fabric.bob.handle)
    messages = [bytes([index]) * 500 for index in range(100)]
    for message in messages[:50]:
        flow.send(message)
    fabric.alice.path = lambda destination, now, avoid=frozenset(): new
    for message in messages[50:]:
        flow.send(message)
    fabric.run(0.2)
    assert fabric.got == messages
    relays = {frame[15:23] for frame in fabric.frames(Kind.E2E_DATA) if frame[7:15] == fabric.alice.handle}
    assert relays == {old[1], new[1]}


def test_rehandshake_under_load(fabric, flow):
    """Ten minutes of turns of several messages, over five renewals of keys: each once, in order."""
    sent = []
    for _turn in range(1200):
        for _ in range(5):
            sent.append(len(sent).to_bytes(4, "big"))
            flow.send(sent[-1])
        fabric.run(0.5, step=0.05)
    fabric.run(1)
    assert fabric.got == sent
    assert fabric.bob.sessions.counters["established"] == 5
