# SPDX-License-Identifier: MIT
"""What is read together is answered together, and at once."""

from __future__ import annotations

from typing import Any

from gmesh.endtoend.turn_end import TurnEnd


def test_each_is_called_once_at_the_end_also_one_that_comes_of_another() -> None:
    """In the order in which they asked."""
    turn, called = TurnEnd(), list[str]()

    def second() -> None:
        called.append("second")

    def first() -> None:
        called.append("first")
        turn.then(second)

    assert turn.hold() and turn.held
    turn.then(first)
    turn.then(first)
    assert called == []
    turn.release()
    assert called == ["first", "second"] and not turn.held


def test_the_first_reader_alone_ends_it() -> None:
    """What is read of what was read belongs to it."""
    turn = TurnEnd()
    assert turn.hold()
    assert not turn.hold()
    turn.release()
    assert turn.hold()


def test_one_that_fails_keeps_no_other_from_leaving(flush_logged_errors: Any) -> None:
    """It is logged."""
    turn, called = TurnEnd(), list[str]()
    turn.hold()
    turn.then(lambda: 1 / 0)
    turn.then(lambda: called.append("other"))
    turn.release()
    assert called == ["other"] and not turn.held
    assert len(flush_logged_errors(ZeroDivisionError)) == 1


def test_messages_of_one_reader_share_a_seal_and_leave_when_it_is_done(
    fabric: Any, talking: list[bytes]
) -> None:
    """Without waiting for the next turn of the reactor; so do their outcomes."""
    before, turn = len(fabric.seen), fabric.alice.datagrams.turn
    turn.hold()
    sent = [fabric.alice.datagrams.send("bob", "log", bytes([number])) for number in range(20)]
    assert len(fabric.seen) == before
    turn.release()
    assert len(fabric.seen) == before + 1
    fabric.run(0.1)
    assert all(each.called for each in sent) and talking == [bytes([number]) for number in range(20)]
    assert len(fabric.seen) == before + 2
