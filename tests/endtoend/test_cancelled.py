# SPDX-License-Identifier: MIT
"""What a sender gives up is not handed over, wherever it waits; what was handed over is dealt with."""

from __future__ import annotations

from typing import Any

import pytest
from endtoend.rig import DELAY, Outcomes
from twisted.internet.defer import Deferred

from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import Inner, MessageNumbers, MessageOutcome, Outcome


class Busy:
    """A receiver that takes one message at a time, and keeps it until it is told to end."""

    def __init__(self, end: Any, service: str = "log") -> None:
        self.got: list[bytes] = []
        self.open: list[Deferred[None]] = []
        end.datagrams.register(service, self.receive, concurrent=1)

    def receive(self, message: Any) -> Deferred[None]:
        self.got.append(message.data)
        self.open.append(Deferred())
        return self.open[-1]

    def done(self) -> None:
        """End with the oldest."""
        self.open.pop(0).callback(None)


def send(fabric: Any, outcomes: Outcomes, data: bytes, **options: Any) -> Deferred[Any]:
    """From alice to bob."""
    sent: Deferred[Any] = outcomes.watch(fabric.alice.datagrams.send("bob", "log", data, **options))
    fabric.run(0.1)
    return sent


@pytest.fixture
def busy(fabric: Any, outcomes: Outcomes) -> Busy:
    """Bob's receiver, which has one message and is not done with it."""
    program = Busy(fabric.bob)
    send(fabric, outcomes, b"first", timeout=100)
    fabric.run(1.0)
    assert program.got == [b"first"]
    return program


def test_what_waits_for_its_receiver_is_dropped(fabric: Any, outcomes: Outcomes, busy: Busy) -> None:
    """It is never handed over, and the room that it took is there again."""
    given_up = [send(fabric, outcomes, b"%d" % number) for number in range(3)]
    kept = send(fabric, outcomes, b"kept")
    for each in given_up:
        each.cancel()
    fabric.run(0.1)
    assert outcomes == ["cancelled"] * 3 and not kept.called
    busy.done()
    fabric.run(1.0)
    assert busy.got == [b"first", b"kept"]
    busy.done()
    fabric.run(0.1)
    assert fabric.bob.sessions.counters["inbound-refused"] == 0
    assert fabric.bob.associations.get(fabric.alice.handle).receiver.idle
    assert fabric.bob.datagrams.services.counters["withdrawn"] == 3


def test_what_is_given_up_for_time_is_dropped_too(fabric: Any, outcomes: Outcomes, busy: Busy) -> None:
    """Its sender was told that it failed."""
    send(fabric, outcomes, b"late", timeout=2.0)
    fabric.run(3.0)
    assert outcomes == ["timed-out"]
    busy.done()
    fabric.run(1.0)
    assert busy.got == [b"first"]


def test_what_is_given_up_for_time_after_it_found_no_room_is_dropped_too(
    fabric: Any, outcomes: Outcomes, busy: Busy
) -> None:
    """It was sent again before its time ended, and came in: the last that its sender heard is no matter."""
    fabric.decide = lambda kind, header, frame: ()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"late", timeout=2.0))
    sender = fabric.alice.associations.get(fabric.bob.handle).reliable
    fabric.run(0.005)
    for number in list(sender._queue._flying):
        sender.ending(MessageOutcome(number, Outcome.BUSY))
    fabric.decide = lambda kind, header, frame: () if header.source == fabric.bob.handle else (DELAY,)
    fabric.run(2.5)
    assert outcomes == ["busy"]
    fabric.decide = lambda kind, header, frame: (DELAY,)
    fabric.run(1.0)
    busy.done()
    fabric.run(3.0)
    assert busy.got == [b"first"]


def test_what_was_handed_over_is_dealt_with(fabric: Any, outcomes: Outcomes) -> None:
    """The receiver hears nothing of it, and what it comes to is confirmed."""
    program = Busy(fabric.bob)
    send(fabric, outcomes, b"first").cancel()
    fabric.run(1.0)
    assert program.got == [b"first"] and outcomes == ["cancelled"]
    program.done()
    fabric.run(1.0)
    assert fabric.bob.associations.get(fabric.alice.handle).receiver.idle


def test_what_is_under_way_is_not_handed_over_when_it_comes(
    fabric: Any, outcomes: Outcomes, talking: list[bytes]
) -> None:
    """A copy of it may be slower than the word that it is given up."""
    fabric.decide = lambda kind, header, frame: (1.0,)
    sent = fabric.alice.datagrams.send("bob", "log", b"slow")
    outcomes.watch(sent)
    fabric.decide = lambda kind, header, frame: (DELAY,)
    sent.cancel()
    fabric.run(3.0)
    assert talking == [] and outcomes == ["cancelled"]


def test_a_key_for_which_another_call_waits_is_handed_over(
    fabric: Any, outcomes: Outcomes, busy: Busy
) -> None:
    """The second call is a retry of the first: it is the same message."""
    first = send(fabric, outcomes, b"keyed", key="k")
    send(fabric, outcomes, b"keyed", key="k")
    first.cancel()
    fabric.run(0.1)
    busy.done()
    fabric.run(0.5)
    assert busy.got == [b"first", b"keyed"]
    busy.done()
    fabric.run(0.5)
    assert outcomes[0] == "cancelled" and len(outcomes) == 3


@pytest.mark.parametrize("again", [False, True])
def test_a_word_that_is_lost_lets_nobody_wait(
    fabric: Any, outcomes: Outcomes, busy: Busy, again: bool
) -> None:
    """It is said once: the message is handed over, also for a call that sends it again, and forgotten."""
    given_up = send(fabric, outcomes, b"keyed", timeout=100, key="k")
    fabric.decide = lambda kind, header, frame: ()
    given_up.cancel()
    assert outcomes == ["cancelled"]
    fabric.run(0.1)
    fabric.decide = lambda kind, header, frame: (DELAY,)
    if again:
        send(fabric, outcomes, b"keyed", key="k")
    busy.done()
    fabric.run(0.5)
    assert busy.got == [b"first", b"keyed"]
    busy.done()
    fabric.run(2.0)
    assert len(outcomes) == 2 + again and outcomes.count("cancelled") == 1
    assert fabric.bob.associations.get(fabric.alice.handle).receiver.idle
    assert len(fabric.alice.associations.get(fabric.bob.handle).reliable) == 0


def test_a_key_that_was_given_up_is_new(fabric: Any, outcomes: Outcomes, busy: Busy) -> None:
    """Nobody has seen it."""
    send(fabric, outcomes, b"keyed", key="k").cancel()
    fabric.run(0.1)
    send(fabric, outcomes, b"keyed", key="k")
    busy.done()
    fabric.run(0.5)
    assert busy.got == [b"first", b"keyed"]


def test_what_waits_for_a_first_receiver_is_dropped(
    fabric: Any, outcomes: Outcomes, talking: list[bytes]
) -> None:
    """After a start of the far node."""
    fabric.bob.datagrams.hold(10.0, 3.0)
    sent = outcomes.watch(fabric.alice.datagrams.send("bob", "late", b"x"))
    fabric.run(0.1)
    sent.cancel()
    fabric.run(0.1)
    assert fabric.bob.serve("late") == []


def test_it_is_dropped_at_home_too(fabric: Any, outcomes: Outcomes) -> None:
    """A message of a node to itself."""
    program = Busy(fabric.bob)
    for data in (b"1", b"2"):
        sent = outcomes.watch(fabric.bob.datagrams.send("bob", "log", data))
    sent.cancel()
    program.done()
    fabric.run(0.1)
    assert program.got == [b"1"]


def test_many_at_once_are_told_in_few_seals(fabric: Any, outcomes: Outcomes, busy: Busy) -> None:
    """As when a program goes that had so many under way."""
    sent = [fabric.alice.datagrams.send("bob", "log", b"", timeout=50) for _ in range(200)]
    for each in sent:
        each.addErrback(lambda failure: None)
    fabric.run(1.0)
    before = len(fabric.frames(Kind.E2E_DATA))
    for each in sent:
        each.cancel()
    fabric.clock.advance(0)
    assert len(fabric.frames(Kind.E2E_DATA)) - before <= 2


def test_a_peer_that_names_a_message_twice(fabric: Any, outcomes: Outcomes) -> None:
    """It counts once, and what follows is not disturbed."""
    program = Busy(fabric.bob)
    send(fabric, outcomes, b"first")
    fabric.run(1.0)
    (number,) = fabric.bob.associations.get(fabric.alice.handle).receiver.numbers.held
    batch = fabric.bob.associations.get(fabric.alice.handle).batch
    for kind in (Inner.TAKEN, Inner.DELIVERED, Inner.CANCELLED):
        batch.put(pack_frame(kind, MessageNumbers((number, number)).encode()))
    fabric.run(0.1)
    assert len(outcomes) == 1 and len(fabric.alice.associations.get(fabric.bob.handle).reliable) == 0
    program.done()
    send(fabric, outcomes, b"second")
    program.done()
    fabric.run(0.5)
    assert len(outcomes) == 2 and program.got == [b"first", b"second"]
