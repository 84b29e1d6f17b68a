# SPDX-License-Identifier: MIT
"""Producers are paused while there are no keys, no window or no room, and lose nothing to it."""

from __future__ import annotations

from endtoend.producers import Link, Source
from endtoend.rig import DAY, DELAY, NOW

from gmesh.endtoend import limits
from gmesh.wire.frames import Kind
from gmesh.wire.paths import read_path


def test_paused_until_there_are_keys(fabric):
    """A producer waits for the handshake, and loses nothing to it."""
    got = fabric.bob.serve()
    source = Source(fabric.alice.datagrams.open("bob", "log"))
    source.produce(1000)
    assert source.paused
    assert len(source.sent) == 1
    fabric.run(0.2)
    assert not source.paused
    assert got == source.sent


def test_paused_by_the_window(fabric, flow):
    """No more is under way than the far end can be said to take; all of it arrives."""
    source = Source(flow)
    source.produce(100_000)
    assert source.paused
    assert sum(map(len, source.sent)) <= limits.INITIAL_WINDOW + limits.MAX_BATCH
    for _ in range(60):
        fabric.run(DELAY)
        source.produce(100_000)
        flying = sum(map(len, source.sent)) - sum(map(len, fabric.got))
        assert flying <= limits.MAX_BATCH_WINDOW + limits.MAX_BATCH
    fabric.run(0.2)
    assert fabric.got == source.sent
    assert sum(map(len, source.sent)) > 10 * limits.MAX_WINDOW


def test_window_survives_lost_answers(fabric, flow):
    """When nothing comes back for a while everything is taken for lost, and the producer goes on."""
    source = Source(flow)
    fabric.decide = lambda kind, header, frame: ()
    source.produce(100_000)
    fabric.run(5)
    assert not source.paused
    fabric.decide = lambda kind, header, frame: (DELAY,)
    before = len(source.sent)
    for _ in range(200):
        source.produce(100_000)
        fabric.run(DELAY)
    fabric.run(0.2)
    assert fabric.got == source.sent[before:]
    assert len(fabric.got) > 100


def test_paused_by_the_first_link(fabric):
    """The first link of the path pauses the producer; another first link is asked when the path changes."""
    links = {fabric.relay.handle: Link(), b"another!": Link()}
    end = fabric.add("hub", 9, links=links)
    got = fabric.bob.serve()
    flow = end.datagrams.open("bob", "log")
    source = Source(flow)
    source.produce(1)
    fabric.run(0.2)
    source.produce(1)
    fabric.run(DELAY)
    [(key, sender)] = links[fabric.relay.handle].senders.items()
    assert key == end.handle + fabric.bob.handle
    sender.pauseProducing()
    assert source.paused
    sender.resumeProducing()
    assert not source.paused
    end.path = lambda destination, now, avoid=frozenset(): (end.handle, b"another!", destination)
    source.produce(3)
    fabric.run(0.2)
    assert links[fabric.relay.handle].senders == {}
    assert list(links[b"another!"].senders) == [key]
    assert got == source.sent
    links[b"another!"].senders.clear()
    sender.pauseProducing()
    sender.stopProducing()
    assert not source.paused
    source.produce(1)
    fabric.run(DELAY)
    assert list(links[b"another!"].senders) == [key]
    end.stop()
    assert source.stopped
    assert links[b"another!"].senders == {}


def test_several_producers_take_turns(fabric, flow):
    """Of two producers to one node the one paused first goes on first."""
    first = Source(flow, eager=100_000)
    second = Source(fabric.alice.datagrams.open("bob", "log"), eager=100_000)
    second.produce(1)
    first.produce(100_000)
    fabric.run(0.5)
    first.eager = second.eager = 0
    fabric.run(0.2)
    assert sorted(fabric.got) == sorted(first.sent + second.sent)
    assert min(len(first.sent), len(second.sent)) > max(len(first.sent), len(second.sent)) / 3


def test_a_producer_is_told_of_a_revocation(fabric, flow):
    """One that is paused is let go on when its node is revoked, and hears why at its next message."""
    source = Source(flow)
    source.produce(100_000)
    assert source.paused
    fabric.alice.trust.offer(fabric.network.crl(revoked=[[2, NOW + DAY, 0]]), fabric.wall())
    assert not source.paused
    source.produce(1)
    assert source.refused == ["revoked"]


def test_tables_are_bounded(fabric, flow):
    """Pairs of node and service that were posted to are remembered up to a limit."""
    for index in range(limits.MAX_POSTS + 10):
        fabric.alice.datagrams.post("bob", f"s{index}", b"")
    assert len(fabric.alice.datagrams._posts) <= limits.MAX_POSTS


def test_b11_ten_frames_dropped_at_once_are_one_event(fabric, flow):
    """What may be under way afterwards is 0.7 of what it was, not 0.7 ten times over."""
    source = Source(flow, size=15_000)

    def burst():
        """Bytes written until the window is full, with nothing under way before or after."""
        fabric.run(0.5)
        before = len(source.sent)
        source.produce(100_000)
        fabric.run(0.5)
        return sum(map(len, source.sent[before:]))

    for _ in range(9):
        burst()
    sealed = fabric.frames(Kind.E2E_DATA)
    headers = [read_path(frame, 0, len(frame))[0] for frame in sealed]
    for header in [one for one in headers if one.source == fabric.alice.handle][-10:]:
        fabric.alice.sessions.undeliverable(header, header.destination, "full")
    assert fabric.alice.sessions.counters["bounced"] == 10
    assert 0.65 * limits.MAX_BATCH_WINDOW < burst() < 0.75 * limits.MAX_BATCH_WINDOW
