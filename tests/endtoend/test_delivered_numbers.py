# SPDX-License-Identifier: MIT
"""Numbers of messages: nothing is handed over twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gmesh.endtoend import limits
from gmesh.endtoend.delivered_numbers import DeliveredNumbers
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
