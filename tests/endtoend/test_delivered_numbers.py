# SPDX-License-Identifier: MIT
"""Numbers of messages: nothing is handed over twice."""

from __future__ import annotations

from typing import Any

import pytest
from endtoend.rig import DELAY, Outcomes
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from gmesh.endtoend import limits
from gmesh.endtoend.delivered_numbers import DeliveredNumbers
from gmesh.endtoend.services import Message
from gmesh.wire.messages import Outcome


@given(st.lists(st.integers(0, 3 * limits.ACK_WINDOW), max_size=200))
def test_a_number_is_taken_once(numbers: list[int]) -> None:
    """However numbers come, none is new twice; one within the window that did not come is new."""
    delivered, taken = DeliveredNumbers(), set()
    start = 7 << 32
    for number in numbers:
        new = not delivered.seen(start | number)
        newest = max(taken, default=-1)
        assert new == (number not in taken and number > newest - limits.ACK_WINDOW)
        if new:
            delivered.take(start | number)
            taken.add(number)


def test_the_last_start_but_one_is_remembered() -> None:
    """A message of the sender's start before the last is still known; a restart begins at any number."""
    delivered = DeliveredNumbers()
    delivered.take(5 << 32 | 9)
    delivered.take(3 << 32 | 1)
    assert delivered.seen(5 << 32 | 9) and not delivered.seen(3 << 32 | 2)


def test_answers_are_remembered_as_long_as_numbers() -> None:
    """What was answered is said again, of as many messages as the window holds."""
    delivered = DeliveredNumbers()
    for number in range(limits.ACK_WINDOW + 1):
        delivered.take(1 << 32 | number)
        delivered.settle(1 << 32 | number, Outcome.DELIVERED)
    assert delivered.outcome(1 << 32) is None
    assert delivered.outcome(1 << 32 | 1) is Outcome.DELIVERED


def test_what_ends_behind_the_window_is_answered(
    fabric: Any, talking: list[bytes], outcomes: Outcomes
) -> None:
    """A message was held while more followed than the window has, and no answer came: it comes once."""
    alice, handed = fabric.alice.datagrams, list[Deferred[None]]()

    def slow(message: Message) -> Deferred[None]:
        handed.append(Deferred())
        return handed[-1]

    fabric.bob.datagrams.register("slow", slow)
    outcomes.watch(alice.send("bob", "slow", b"once", timeout=280.0))
    fabric.run(1)
    for _ in range(12):
        for _ in range(100):
            alice.send("bob", "log", b"x")
        fabric.run(0.5, step=0.05)
    fabric.decide = lambda *seen: ()
    handed[0].callback(None)
    fabric.run(limits.OUTCOME_LIFE + 10.0, step=0.1)
    fabric.decide = lambda *seen: (DELAY,)
    fabric.run(40, step=0.1)
    assert len(handed) == 1
    assert len(outcomes) == 1 and not isinstance(outcomes[0], str)


@pytest.mark.parametrize("outcome", [Outcome.DELIVERED, Outcome.REFUSED])
def test_what_was_held_behind_the_window_keeps_its_outcome(outcome: Outcome) -> None:
    """Whatever it is; the numbers that were never taken there have none."""
    delivered = DeliveredNumbers()
    delivered.take(1 << 32 | 7)
    delivered.take(1 << 32 | 5000)
    delivered.settle(1 << 32 | 7, outcome)
    assert delivered.outcome(1 << 32 | 7) is outcome
    assert delivered.outcome(1 << 32 | 8) is None


@pytest.mark.parametrize("others", [1, 41, 500])
def test_a_refused_message_in_the_window_is_never_told_as_delivered(others: int) -> None:
    """However many end badly after it, in the window and behind it."""
    delivered = DeliveredNumbers()
    for number in range(2000):
        delivered.take(1 << 32 | number)
    delivered.settle(1 << 32 | 1999, Outcome.REFUSED)
    for number in range(1998, 400, -1):
        delivered.settle(1 << 32 | number, Outcome.REFUSED)
    for number in range(2000, 2000 + others):
        delivered.take(1 << 32 | number)
        delivered.settle(1 << 32 | number, Outcome.REFUSED)
    assert delivered.outcome(1 << 32 | 1999) is Outcome.REFUSED
    assert delivered.outcome(1 << 32 | 1500) is Outcome.REFUSED
