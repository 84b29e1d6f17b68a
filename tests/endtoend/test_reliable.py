# SPDX-License-Identifier: MIT
"""Acknowledged datagrams: repeated in time, found again, held within the window."""

from __future__ import annotations

from endtoend.rig import DELAY
from twisted.internet.defer import Deferred

from gmesh.endtoend import limits
from gmesh.endtoend.reliable_queue import ReliableQueue
from gmesh.wire.frames import Kind
from gmesh.wire.messages import MessageOutcome, Outcome


def test_route_lost_on_the_way(fabric, outcomes):
    """A path that went away while a message was repeated is the reason of its failure; else it is time."""
    fabric.bob.serve()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    fabric.run(1)
    fabric.decide = lambda kind, header, frame: ()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"", timeout=3))
    fabric.run(4)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"", timeout=3))
    fabric.alice.unreachable.add(fabric.bob.handle)
    fabric.run(4)
    assert outcomes[1:] == ["timed-out", "no-route"]


def test_restarted_receiver_is_found_again(fabric, outcomes):
    """A node that forgot its keys offers new ones to who still uses the old: little is lost."""
    fabric.bob.serve()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one"))
    fabric.run(1)
    fabric.bob.restart()
    got = fabric.bob.serve()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"two"))
    fabric.run(3)
    assert got == [b"two"]
    assert len(outcomes) == 2


def test_restarted_sender_is_not_mistaken_for_a_repeat(fabric, outcomes):
    """Messages of a sender that starts anew are new, though it counts from the beginning."""
    got = fabric.bob.serve()
    for _ in range(3):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"same"))
        fabric.run(6)
        fabric.alice.restart()
    assert got == [b"same"] * 3


def test_bounced_frame_is_sent_again_soon(fabric, outcomes):
    """When a relay says that it could not pass a frame on, it is repeated long before its time."""
    got = fabric.bob.serve()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one"))
    fabric.run(1)
    headers = []

    def lose(kind, header, frame):
        headers.append(header)
        return ()

    fabric.decide = lose
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"two"))
    fabric.decide = lambda kind, header, frame: (DELAY,)
    fabric.alice.sessions.undeliverable(headers[0], headers[0].destination, "unreach")
    fabric.run(0.1)
    assert got == [b"one", b"two"]


def test_dead_path_is_blamed(fabric, outcomes):
    """Repeated silence makes routing prefer another path: from the second transmission on each one tells."""
    fabric.bob.serve()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one"))
    fabric.run(1)
    fabric.decide = lambda kind, header, frame: ()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"two"))
    fabric.run(5)
    assert fabric.alice.blamed == [fabric.alice.path(fabric.bob.handle, 0)] * 3


def test_a_burst_keeps_within_the_link_queue(fabric, outcomes):
    """However much is sent at once, no more flies than the first link takes of one flow."""
    got = fabric.bob.serve()
    flying = []
    for _ in range(60):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", bytes(limits.MAX_DATAGRAM), timeout=60))
    for _ in range(300):
        before = len(fabric.frames(Kind.E2E_DATA))
        fabric.clock.advance(DELAY)
        flying.append(sum(map(len, fabric.frames(Kind.E2E_DATA)[before:])))
    assert len(got) == 60
    assert max(flying) <= 2 * limits.MAX_WINDOW


def test_times_out(fabric, outcomes):
    """A node that never answers costs the time that was allowed, not more."""
    fabric.bob.stop()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"", timeout=7))
    fabric.run(6.9)
    assert outcomes == []
    fabric.run(0.2)
    assert outcomes == ["timed-out"]


def test_cancel(fabric, outcomes):
    """Cancelling stops repeating."""
    fabric.bob.stop()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"")).cancel()
    assert outcomes == ["cancelled"]


def test_the_queue_is_bounded(fabric, outcomes):
    """What waits for one peer is bounded; one more is refused at the call."""
    fabric.bob.stop()
    for _ in range(limits.MAX_RELIABLE_MESSAGES):
        fabric.alice.datagrams.send("bob", "log", b"").addErrback(lambda failure: None)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    assert outcomes == ["busy"]


def test_a_message_after_a_long_silence_is_not_taken_for_a_repeated_one(fabric, outcomes):
    """A peer given up for 90 s of silence still knows our last messages; the next one is new to it."""
    got = fabric.bob.serve()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one"))
    fabric.run(1)
    fabric.decide = lambda kind, header, frame: ()
    fabric.run(200, step=1)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"lost", timeout=60))
    fabric.run(100, step=0.1)
    assert fabric.alice.sessions.counters["gone-timed-out"] == 1
    fabric.decide = lambda kind, header, frame: (DELAY,)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"two"))
    fabric.run(15, step=0.1)
    assert got == [b"one", b"two"]
    assert outcomes[1] == "timed-out" and not isinstance(outcomes[2], str)


def held_by_bob(fabric, outcomes, count=1):
    """Messages that bob has and does not end with. @return: alice's sender, the numbers of now."""
    fabric.bob.datagrams.register("log", lambda message: Deferred(), concurrent=count)
    for _ in range(count):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x", timeout=60))
    fabric.run(1)
    reliable = fabric.alice.associations.get(fabric.bob.handle).reliable
    return reliable, lambda: list(reliable._queue._held)


def test_c4_that_a_message_is_lost_is_believed_of_who_was_asked(fabric, outcomes):
    """Else a peer that takes and forgets it has it sent as fast as frames travel."""
    reliable, numbers = held_by_bob(fabric, outcomes)
    counters = fabric.alice.sessions.counters
    for _ in range(100):
        (number,) = numbers()
        reliable.ending(MessageOutcome(number, Outcome.UNKNOWN))
        fabric.run(0.1)
    assert 1 <= counters["sent-anew"] <= 2 and counters["stray-receipt"] >= 98
    assert outcomes == []


def test_c4_an_answer_costs_no_look_at_all_messages(fabric, outcomes, monkeypatch):
    """However many wait: the timer is set for the message that is answered."""
    reliable, numbers = held_by_bob(fabric, outcomes, 100)
    looked, deadline = [], ReliableQueue.deadline

    def look(queue, now):
        looked.append(now)
        return deadline(queue, now)

    fabric.run(limits.ASK_WAITING)
    monkeypatch.setattr(ReliableQueue, "deadline", look)
    for number in numbers():
        reliable.ending(MessageOutcome(number, Outcome.UNKNOWN if number % 2 else Outcome.BUSY))
    assert looked == [] and numbers() == []
    fabric.run(1)
    assert len(numbers()) == 100
