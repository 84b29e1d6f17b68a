# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.endtoend.inbox}: what a peer may make us hold, and what it can have handed over twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gmesh.endtoend import limits
from gmesh.endtoend.inbox import PIECE_COST, Inbox, Pool
from gmesh.wire.messages import Datagram, Outcome


def piece(message: int, index: int, count: int, data: bytes = b"x", service: str = "log") -> Datagram:
    """A fragment of an acknowledged datagram."""
    return Datagram(service, message, data, True, index, count)


def test_incomplete_datagrams_are_bounded_in_number() -> None:
    """The oldest incomplete datagram goes when one peer has too many; the newest can be completed."""
    inbox = Inbox(Pool())
    for message in range(limits.MAX_REASSEMBLIES + 1):
        assert inbox.assemble(piece(message, 0, 2), 0.0) is None
    assert inbox.assemble(piece(limits.MAX_REASSEMBLIES, 1, 2), 0.0) == b"xx"
    assert inbox.assemble(piece(1, 1, 2), 0.0) == b"xx"
    assert inbox.assemble(piece(0, 1, 2), 0.0) is None


def test_incomplete_datagrams_are_bounded_in_bytes() -> None:
    """Whatever one peer sends, no more than its share is held, small fragments at what they really cost."""
    inbox = Inbox(Pool())
    for message in range(100):
        for index in range(7):
            inbox.assemble(piece(message, index, 8, bytes(limits.FRAGMENT_SIZE)), 0.0)
            assert inbox.cost <= limits.MAX_REASSEMBLY_BYTES
    tiny = Inbox(Pool())
    for index in range(60):
        tiny.assemble(piece(1, index, 64, b""), 0.0)
    assert tiny.cost == 60 * PIECE_COST


def test_all_peers_together_are_bounded() -> None:
    """Many peers share one bound; what they held is given back when they are forgotten."""
    pool = Pool()
    inboxes = [Inbox(pool) for _ in range(100)]
    for inbox in inboxes:
        for message in range(8):
            for index in range(7):
                inbox.assemble(piece(message, index, 8, bytes(limits.FRAGMENT_SIZE)), 0.0)
                assert pool.used <= limits.MAX_REASSEMBLY_TOTAL
    for inbox in inboxes:
        inbox.clear()
        assert inbox.cost == 0
    assert pool.used == 0


def test_incomplete_datagrams_do_not_wait_for_ever() -> None:
    """After its time an incomplete datagram begins anew."""
    inbox = Inbox(Pool())
    inbox.assemble(piece(1, 0, 2), 0.0)
    assert inbox.assemble(piece(1, 1, 2), limits.REASSEMBLY_TIME) is None
    assert inbox.assemble(piece(1, 0, 2), limits.REASSEMBLY_TIME) == b"xx"


def test_fragments_that_contradict_each_other() -> None:
    """Another count or service under the same number costs the datagram, and nothing else."""
    inbox = Inbox(Pool())
    for other in (piece(1, 1, 3), piece(1, 1, 2, service="other")):
        inbox.assemble(piece(1, 0, 2), 0.0)
        assert inbox.assemble(other, 0.0) is None
        assert inbox.cost == 0
    assert inbox.assemble(piece(2, 0, 2, bytes(limits.MAX_DATAGRAM)), 0.0) is None
    assert inbox.assemble(piece(2, 1, 2), 0.0) is Outcome.TOO_LARGE


@given(st.lists(st.integers(0, 3 * limits.ACK_WINDOW), max_size=200))
def test_a_number_is_taken_once(numbers: list[int]) -> None:
    """However numbers come, none is new twice; one within the window that did not come is new."""
    inbox, taken = Inbox(Pool()), set()
    start = 7 << 32
    for number in numbers:
        new = not inbox.seen(start | number)
        newest = max(taken, default=-1)
        assert new == (number not in taken and number > newest - limits.ACK_WINDOW)
        if new:
            inbox.take(start | number)
            taken.add(number)


def test_the_last_start_but_one_is_remembered() -> None:
    """A message of the sender's start before the last is still known; a restart begins at any number."""
    inbox = Inbox(Pool())
    inbox.take(5 << 32 | 9)
    inbox.take(3 << 32 | 1)
    assert inbox.seen(5 << 32 | 9) and not inbox.seen(3 << 32 | 2)


def test_answers_are_remembered_as_long_as_numbers() -> None:
    """What was answered is said again, of as many messages as the window holds."""
    inbox = Inbox(Pool())
    for number in range(limits.ACK_WINDOW + 1):
        inbox.take(1 << 32 | number)
        inbox.settle(1 << 32 | number, Outcome.DELIVERED)
    assert inbox.outcome(1 << 32) is None
    assert inbox.outcome(1 << 32 | 1) is Outcome.DELIVERED
