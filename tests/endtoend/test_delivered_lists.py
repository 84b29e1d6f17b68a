# SPDX-License-Identifier: MIT
"""Messages whose receivers end well are told in lists; what was known to be held is confirmed."""

from __future__ import annotations

from typing import Any

import pytest
from endtoend.rig import DELAY, Outcomes

from gmesh.wire.messages import MessageOutcome, Outcome

COUNT = 200
"""More than one list holds, and fewer than may be held at once."""


@pytest.mark.parametrize("held", [0.0, 1.0])
def test_what_ends_in_one_turn_is_told_in_lists(fabric: Any, outcomes: Outcomes, held: float) -> None:
    """Each of them is delivered, in far fewer bytes than an OUTCOME each; all of it is confirmed."""
    given: list[Any] = []
    alice, bob = fabric.alice.datagrams, fabric.bob.datagrams
    bob.register("log", given.append, concurrent=COUNT, keeps=True)
    fabric.bob.serve("keys")
    outcomes.watch(alice.send("bob", "keys", b""))
    fabric.run(1.0)
    for _ in range(COUNT):
        outcomes.watch(alice.send("bob", "log", b"", timeout=60.0))
    fabric.run(2 * DELAY + held, step=DELAY / 10)
    assert len(given) == COUNT
    told = []
    fabric.decide = lambda kind, header, frame: told.append((header.source, len(frame))) or (DELAY,)
    assert bob.turn.hold()
    for delivery in given:
        bob.services.ended(delivery, b"")
    bob.turn.release()
    fabric.run(2.0)
    assert len(outcomes) == COUNT + 1 and not any(isinstance(outcome, str) for outcome in outcomes)
    size = len(MessageOutcome(0, Outcome.DELIVERED).encode())
    assert sum(length for source, length in told if source == fabric.bob.handle) < COUNT * size
    assert fabric.bob.associations.get(fabric.alice.handle).receiver.idle
    assert fabric.alice.sessions.counters["resent"] == fabric.bob.sessions.counters["outcome-repeated"] == 0


def test_a_repetition_is_answered_as_the_list_was(fabric: Any, outcomes: Outcomes) -> None:
    """Whose list was lost sends again, and hears the same without the message being handed over again."""
    got = fabric.bob.serve()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"keys"))
    fabric.run(1.0)
    fabric.decide = lambda kind, header, frame: () if header.source == fabric.bob.handle else (DELAY,)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"once"))
    fabric.run(0.1)
    fabric.decide = lambda kind, header, frame: (DELAY,)
    fabric.run(3.0)
    assert got == [b"keys", b"once"] and len(outcomes) == 2 and not isinstance(outcomes[1], str)
    assert fabric.bob.sessions.counters["repeated"] >= 1
