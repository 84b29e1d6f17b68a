# SPDX-License-Identifier: MIT
"""The queue of acknowledged messages: lanes that do not wait for each other, and numbers used once."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gmesh.endtoend import limits
from gmesh.endtoend.reliable_queue import ReliableMessage, ReliableQueue
from gmesh.errors import SendRefused


def test_services_take_turns() -> None:
    """One message each, whoever came first."""
    queue = ReliableQueue(1)
    for service in "aaabbc":
        queue.add(ReliableMessage(service, b"", 10.0))
    sent = [queue.next(0.0) for _ in range(6)]
    assert [message.service for message in sent if message] == ["a", "b", "c", "a", "b", "a"]


def test_of_services_without_messages_so_many_are_remembered() -> None:
    """That one had no room just now is known as long as there is room for it here; then the oldest go."""
    queue = ReliableQueue(1)

    def goes(service: str) -> bool:
        message = ReliableMessage(service, b"", 10.0)
        queue.add(message)
        went = queue.next(0.0) is not None
        if went:
            queue.back(message, 0.0)
        queue.remove(message)
        return went

    services = [str(number) for number in range(limits.MAX_LANES)]
    assert [goes(service) for service in services] == [True] * limits.MAX_LANES
    assert not any(goes(service) for service in services)
    assert goes("one more") and goes(services[0]) and not goes(services[-1])


def test_what_found_no_room_goes_again_in_its_order_with_a_new_number() -> None:
    """After the pause, one first; each that is taken lets more go."""
    queue = ReliableQueue(1)
    for data in b"0123":
        queue.add(ReliableMessage("a", bytes([data]), 10.0))
    sent = [queue.next(0.0) for _ in range(4)]
    for message in (sent[2], sent[0], sent[3], sent[1]):
        assert message is not None
        queue.sent([message], [], 0.0)
        queue.back(message, 0.0)
    assert queue.next(0.0) is None
    assert queue.deadline(0.0) == pytest.approx(limits.BUSY_PAUSE)
    first = queue.next(limits.BUSY_PAUSE)
    assert first is sent[0] and first.number == (1 << 32) + 4
    assert queue.next(limits.BUSY_PAUSE) is None
    queue.taken([first], limits.BUSY_PAUSE)
    assert [queue.next(limits.BUSY_PAUSE) for _ in range(3)] == [sent[1], sent[2], None]


def test_all_services_together_are_bounded() -> None:
    """However many there are."""
    queue, taken = ReliableQueue(1), 0
    with pytest.raises(SendRefused):
        while True:
            queue.add(ReliableMessage(f"s{taken % 20}", b"", 10.0))
            taken += 1
    assert taken == limits.MAX_PEER_MESSAGES


class QueueModel(RuleBasedStateMachine):
    """Whatever the peer answers, each message is in one place, and what is counted is what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ReliableQueue(3)
        self.now = 0.0
        self.waiting: list[ReliableMessage] = []
        self.flying: list[ReliableMessage] = []
        self.held: list[ReliableMessage] = []
        self.numbers: set[int] = set()

    @rule(service=st.sampled_from("abc"), size=st.integers(0, 40_000))
    def add(self, service: str, size: int) -> None:
        message = ReliableMessage(service, bytes(size), self.now + 1000)
        self.queue.add(message)
        self.waiting.append(message)

    @rule(seconds=st.floats(0, 2))
    def passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def send(self) -> None:
        message = self.queue.next(self.now)
        if message is None:
            return
        self.waiting.remove(message)
        assert not [
            one for one in self.waiting if one.service == message.service and one.order < message.order
        ]
        assert message.number not in self.numbers
        self.numbers.add(message.number)
        self.queue.sent([message], [], self.now)
        self.flying.append(message)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), answer=st.sampled_from(["taken", "busy", "done", "gone"]))
    def answered(self, data: st.DataObject, answer: str) -> None:
        message = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        assert self.queue.flying(message.number) is message
        if answer == "taken":
            self.queue.taken([message], self.now)
            self.held.append(message)
        elif answer == "busy":
            self.queue.back(message, self.now)
            self.waiting.append(message)
        elif answer == "done":
            self.queue.answered([message], self.now)
        else:
            self.queue.remove(message)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), known=st.booleans())
    def ended(self, data: st.DataObject, known: bool) -> None:
        message = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if known:
            self.queue.answered([message], self.now)
        else:
            self.queue.lost(message)
            assert message.again
            self.waiting.append(message)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancelled(self, data: st.DataObject) -> None:
        self.queue.remove(self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1))))

    @invariant()
    def each_is_in_one_place(self) -> None:
        everything = [*self.held, *self.flying, *self.waiting]
        assert sorted(map(id, self.queue)) == sorted(map(id, everything))
        assert len(self.queue) == len(everything)
        assert self.queue.empty == (not everything)
        sizes = sum(message.size for message in everything)
        assert self.queue._bytes == sizes
        assert self.queue._flying_bytes == sum(message.size for message in self.flying)

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        """Where the windows are open, time alone lets the next message go."""
        if self.waiting and not self.flying:
            at = self.queue.deadline(self.now)
            assert at is not None
            later = max(self.now, *(lane.until for lane in self.queue._turn.values()))
            clone = any(lane.allowed > lane.flying for lane in self.queue._turn.values())
            assert clone and later - self.now <= limits.MAX_BUSY_PAUSE


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
