# SPDX-License-Identifier: MIT
"""After a start messages wait a little for programs that are on their way."""

from __future__ import annotations

from typing import Any

import pytest
from endtoend.rig import Outcomes

from gmesh.endtoend import limits
from gmesh.endtoend.reliable_queue import Delivered
from gmesh.endtoend.services import Message
from gmesh.wire.messages import Outcome

ONE = limits.AWAITED_COST + limits.MESSAGE_COST + 1
"""What a service costs that one message of one byte names."""

MOST_AWAITED = limits.SERVICE_TOTAL_BYTES // ONE
MOST_OF_A_PEER = limits.SERVICE_QUEUE_BYTES // ONE


def message(service: str, source: str) -> Message:
    """One byte of a node."""
    return Message(source, source, (), service, b"x")


def test_a_message_waits_for_the_first_receiver_after_a_start(
    fabric: Any, outcomes: Outcomes, talking: list[bytes]
) -> None:
    """Also with a key, and in several fragments; what is not acknowledged does not wait."""
    alice, bob, got = fabric.alice.datagrams, fabric.bob.datagrams, list[bytes]()
    large = bytes(20_000)
    bob.hold(10.0, 3.0)
    outcomes.watch(alice.send("bob", "late", b"1"))
    outcomes.watch(alice.send("bob", "late", b"2", key="k"))
    outcomes.watch(alice.send("bob", "late", large))
    alice.post("bob", "late", b"lost")
    fabric.run(1.0)
    assert outcomes == [] and bob.services.names == ["_echo", "log"]
    bob.register("late", lambda message: got.append(message.data))
    fabric.run(0.2)
    assert sorted(got) == sorted([b"1", b"2", large])
    assert len(outcomes) == 3 and not any(isinstance(outcome, str) for outcome in outcomes)


def test_what_is_not_acknowledged_does_not_wait_at_home_either(fabric: Any) -> None:
    """A message of a node to itself, which nobody serves."""
    bob, got = fabric.bob.datagrams, list[bytes]()
    bob.hold(10.0, 3.0)
    bob.post("bob", "late", b"lost")
    bob.register("late", lambda message: got.append(message.data))
    fabric.run(0.2)
    assert got == []


def test_nobody_comes(fabric: Any, outcomes: Outcomes, talking: list[bytes]) -> None:
    """Within the patience of the node the sender waits, then it hears so; once the window is over at once."""
    alice = fabric.alice.datagrams
    fabric.bob.datagrams.hold(10.0, 3.0)
    outcomes.watch(alice.send("bob", "never", b"1"))
    fabric.run(2.9)
    assert outcomes == []
    fabric.run(0.3)
    assert outcomes == ["no-such-service"]
    fabric.run(7.0)
    outcomes.watch(alice.send("bob", "never", b"2"))
    fabric.run(0.1)
    assert outcomes == ["no-such-service"] * 2


def test_how_many_services_are_awaited_is_bounded(fabric: Any) -> None:
    """One more has no receiver, whoever names it."""
    services = fabric.bob.datagrams.services
    services.hold(10.0, 3.0)
    for number in range(MOST_AWAITED - 1):
        assert services.refusal(f"s{number}", 1, f"peer {number}", waits=True) is None
        services.deliver(message(f"s{number}", f"peer {number}"), lambda outcome, said, answer: None)
    services.deliver(message("s0", "another"), lambda outcome, said, answer: None)
    assert services.refusal("s0", 1, "another", waits=True) is None
    assert services.refusal("more", 1, "another", waits=True) is Outcome.NO_SUCH_SERVICE
    services.stop()


def test_one_peer_takes_a_part_of_them(fabric: Any, outcomes: Outcomes, talking: list[bytes]) -> None:
    """Of the names and of the bytes: others find room for theirs."""
    alice, bob = fabric.alice.datagrams, fabric.bob.datagrams
    bob.hold(10.0, 3.0)
    for number in range(MOST_OF_A_PEER + 1):
        outcomes.watch(alice.send("bob", f"s{number}", b"x"))
    fabric.run(0.5)
    assert outcomes == ["no-such-service"]
    peer, left = alice.own.node_id, limits.SERVICE_QUEUE_BYTES - MOST_OF_A_PEER * ONE - limits.MESSAGE_COST
    assert bob.services.refusal("s0", left, peer, waits=True) is None
    assert bob.services.refusal("s0", left + 1, peer, waits=True) is not None
    assert bob.services.refusal("s0", left + 1, "another", waits=True) is None
    assert bob.services.refusal("another", 1, "another", waits=True) is None


@pytest.mark.parametrize("sender", ["alice", "bob"])
def test_a_hub_or_the_programs_of_a_host_meet_no_bound(
    fabric: Any, outcomes: Outcomes, talking: list[bytes], sender: str
) -> None:
    """Just after a start, many programs of the appliance are on their way; its own host sends most of all."""
    count = 100 if sender == "alice" else MOST_OF_A_PEER + 1
    fabric.bob.datagrams.hold(10.0, 3.0)
    for number in range(count):
        outcomes.watch(getattr(fabric, sender).datagrams.send("bob", f"s{number}", b"x"))
    fabric.run(0.5)
    for number in range(count):
        fabric.bob.serve(f"s{number}")
    fabric.run(0.5)
    assert [type(outcome) for outcome in outcomes] == [Delivered] * count


def test_a_name_that_is_served_is_not_counted_any_more(
    fabric: Any, outcomes: Outcomes, talking: list[bytes]
) -> None:
    """Its program has come, and its peer may name another."""
    alice, bob = fabric.alice.datagrams, fabric.bob.datagrams
    bob.hold(10.0, 3.0)
    for number in range(MOST_OF_A_PEER):
        outcomes.watch(alice.send("bob", f"s{number}", b"x"))
    fabric.run(0.5)
    got = fabric.bob.serve("s3")
    outcomes.watch(alice.send("bob", "more", b"y"))
    fabric.run(0.5)
    assert got == [b"x"] and "no-such-service" not in outcomes


def test_a_node_that_stops_lets_them_go(fabric: Any, outcomes: Outcomes, talking: list[bytes]) -> None:
    """Their sender keeps them for the next one of its name, and nothing is left on the clock."""
    fabric.bob.datagrams.hold(10.0, 3.0)
    outcomes.watch(fabric.alice.datagrams.send("bob", "late", b"1"))
    fabric.run(0.5)
    fabric.bob.datagrams.services.stop()
    fabric.run(5.0)
    assert outcomes == []
