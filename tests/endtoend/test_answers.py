# SPDX-License-Identifier: MIT
"""What a member can make a far node answer: little, whatever it packs into a sealed frame."""

from __future__ import annotations

from typing import Any

import pytest

from gmesh.endtoend import limits
from gmesh.endtoend.echo import ECHO_SERVICE
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.limits import MAX_NUMBERS
from gmesh.wire.messages import Datagram, EchoMessage, Inner, Mark, MessageNumbers

RULES = [{"effect": "allow", "from": ["*"], "to": ["*"], "services": ["log"]}]


@pytest.fixture
def seal(fabric: Any) -> Any:
    """Seals a plaintext of alice's making for bob, once they have keys."""
    fabric.bob.serve()
    fabric.alice.datagrams.send("bob", "log", b"first")
    fabric.run(1)
    keys = fabric.alice.associations.get(fabric.bob.handle).keys
    return lambda plaintext: fabric.alice.associations._sealer.send(keys, plaintext)


def from_bob(fabric: Any) -> int:
    """Sealed frames that bob sent, as the relay saw them."""
    return sum(frame[7:15] == fabric.bob.handle for frame in fabric.frames(Kind.E2E_DATA))


def datagram(service: str, number: int, data: bytes = b"", want_ack: bool = True) -> bytes:
    return pack_frame(Inner.DATAGRAM, Datagram(service, number, data, want_ack).encode())


def test_c4_questions_that_share_a_seal_share_the_answer(fabric: Any, seal: Any) -> None:
    """The last one tells how far the frame got."""
    before = from_bob(fabric)
    seal(b"".join(pack_frame(Inner.ASK, Mark(number).encode()) for number in range(1000)))
    fabric.run(0.5)
    assert from_bob(fabric) - before == 1


def test_c4_messages_that_share_a_seal_are_answered_together(fabric: Any, seal: Any) -> None:
    """A thousand receipts are one reply, beside that to the first of a turn."""
    before = from_bob(fabric)
    seal(b"".join(datagram("log", 2**40 + number) for number in range(500)))
    fabric.run(0.5)
    assert from_bob(fabric) - before <= 3


def test_c4_a_member_without_rights_is_told_so_now_and_then(fabric: Any, seal: Any) -> None:
    """However much it sends, and whatever services it invents."""
    fabric.offer(fabric.network.policy(2, rules=RULES))
    before = from_bob(fabric)
    for turn in range(100):
        seal(b"".join(datagram(f"s{number}", 2**40 + turn * 100 + number) for number in range(100)))
        fabric.run(0.01, step=0.01)
    assert fabric.bob.sessions.counters["inbound-denied"] == 10_000
    assert from_bob(fabric) - before <= 2 * (limits.DENIAL_BURST + limits.DENIAL_RATE)
    assert len(fabric.bob.associations.get(fabric.alice.handle).receiver._takes) < 100


def test_c4_work_for_one_peer_is_bounded(fabric: Any, seal: Any) -> None:
    """What is above the budget of a second is dropped unread; another second brings more."""
    counters = fabric.bob.sessions.counters
    question = pack_frame(Inner.ASK, Mark(0).encode())
    for _ in range(60):
        seal(question * 1000)
    fabric.run(0.05, step=0.05)
    looked = counters["answers-spent"]
    assert 60 - looked == pytest.approx(limits.ANSWER_BURST / 1000, abs=2)
    fabric.run(1)
    got = fabric.bob.serve("late")
    seal(datagram("late", 2**41, b"x"))
    fabric.run(0.5)
    assert counters["answers-spent"] == looked
    assert got == [b"x"]


def test_c4_each_message_that_is_asked_about_costs_an_answer(fabric: Any, seal: Any) -> None:
    """However many numbers a frame lists: what is above the budget of a second is not answered."""
    counters, answered = fabric.alice.sessions.counters, fabric.bob.sessions.counters
    size = 100
    asked = int(2 * limits.ANSWER_BURST) // (10 * size)
    for turn in range(asked):
        first = 2**40 + 10 * size * turn
        lists = (range(at, at + size) for at in range(first, first + 10 * size, size))
        seal(b"".join(pack_frame(Inner.WAITING, MessageNumbers(tuple(one)).encode()) for one in lists))
    fabric.run(0.05, step=0.05)
    assert answered["answers-spent"] > asked / 3
    fabric.run(0.05, step=0.05)
    burst = limits.ANSWER_BURST + 0.1 * limits.ANSWER_RATE
    assert 0.9 * limits.ANSWER_BURST < counters["stray-receipt"] <= burst


def test_c4_a_list_of_numbers_costs_as_it_is_long(fabric: Any, seal: Any) -> None:
    """Sixteen numbers as much as another frame: lists cannot make more work than frames."""
    counters = fabric.bob.sessions.counters
    listed = pack_frame(Inner.TAKEN, MessageNumbers(tuple(range(MAX_NUMBERS))).encode())
    for _ in range(300):
        seal(listed * 15)
    fabric.run(0.05, step=0.05)
    assert counters["stray-receipt"] / MAX_NUMBERS == pytest.approx(limits.ANSWER_BURST / 9, rel=0.1)


@pytest.mark.parametrize(
    ("kind", "cost"),
    [
        (Inner.TAKEN, 9),
        (Inner.DELIVERED, 9),
        (Inner.SETTLED, 9),
        (Inner.CANCELLED, 33),  # four numbers as much as another frame, for each is remembered
        (Inner.WAITING, 9 + MAX_NUMBERS),  # each is answered
    ],
)
def test_c4_each_list_of_numbers_costs_what_it_makes_work(
    fabric: Any, seal: Any, kind: Inner, cost: int
) -> None:
    """In frames of the budget: so the whole of it is a fifth of a core, whatever it is spent on."""
    receiver = fabric.bob.associations.get(fabric.alice.handle).receiver
    bucket = receiver._budget.work.__self__
    for first in range(2**40, 2**40 + 10 * MAX_NUMBERS, MAX_NUMBERS):
        numbers = tuple(range(first, first + MAX_NUMBERS))
        seal(pack_frame(kind, MessageNumbers(numbers).encode()))
    fabric.run(0.05, step=0.05)
    assert limits.ANSWER_BURST - bucket._tokens == 10 * cost


def test_c4_an_echo_flood_is_not_echoed(fabric: Any, seal: Any) -> None:
    """A peer gets so many answers; another is answered as ever."""
    question = datagram(ECHO_SERVICE, 0, EchoMessage(False, 1, 1).encode(), want_ack=False)
    before = from_bob(fabric)
    for _ in range(50):
        seal(question * 500)
        fabric.run(0.02, step=0.02)
    counters = fabric.bob.sessions.counters
    assert counters["echo-flood"] >= 25_000 - limits.ECHO_PEER_BURST - 2 * limits.ECHO_PEER_RATE
    assert from_bob(fabric) - before <= limits.ECHO_PEER_BURST + 2 * limits.ECHO_PEER_RATE


def test_messages_nobody_takes_cost_a_look(fabric: Any, seal: Any) -> None:
    """Unacknowledged ones for a service without receiver are only counted, until there is one."""
    for _ in range(3):
        seal(datagram("nobody", 0, b"x", want_ack=False) * 3)
        fabric.run(0.2)
    assert fabric.bob.sessions.counters["inbound-no-such-service"] == 9
    got = fabric.bob.serve("nobody")
    seal(datagram("nobody", 0, b"x", want_ack=False))
    fabric.run(0.2)
    assert got == [b"x"]
