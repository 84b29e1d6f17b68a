# SPDX-License-Identifier: MIT
"""
Which acknowledged messages of one peer were taken, what became of them, and which are held still. Pure.

The upper half of a message number is another one for each sender and each start of a node, the lower half
counts: so numbers rise, and a window over them remembers what was taken already.

Tests: C{tests/endtoend/test_delivered_numbers.py}, C{tests/endtoend/test_outcome_model.py}.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from gmesh.endtoend import limits
from gmesh.endtoend.replay import ReplayWindow
from gmesh.wire.messages import MessageOutcome, Outcome

__all__ = ["DeliveredNumbers"]


@dataclass(slots=True)
class _Numbers:
    window: ReplayWindow = field(default_factory=lambda: ReplayWindow(limits.ACK_WINDOW))
    # But of those delivered, by their places in the window: a place has one number at a time.
    endings: dict[int, MessageOutcome] = field(default_factory=dict)
    # Of messages that were held until the window had left them behind.
    late: OrderedDict[int, MessageOutcome] = field(default_factory=OrderedDict)

    def find(self, message: int) -> MessageOutcome | None:
        place = self.endings.get(message % limits.ACK_WINDOW)
        return self.late.get(message) if place is None or place.message != message else place

    def remember(self, ending: MessageOutcome) -> None:
        message = ending.message
        if self.window.highest - (message & 0xFFFFFFFF) < limits.ACK_WINDOW:
            if ending.outcome is not Outcome.DELIVERED:
                self.endings[message % limits.ACK_WINDOW] = ending
            return
        self.late[message] = ending
        if len(self.late) > limits.MAX_HELD:
            self.late.popitem(last=False)


class DeliveredNumbers:
    """
    The numbers of one peer.

    @ivar held: messages that were taken and are not done with; one that is not here and was not settled
        was delivered.
    """

    __slots__ = ("_starts", "held")

    def __init__(self) -> None:
        self._starts: OrderedDict[int, _Numbers] = OrderedDict()
        self.held: set[int] = set()

    def __len__(self) -> int:
        return len(self._starts)

    def seen(self, message: int) -> bool:
        """True if this acknowledged message was taken, or is too old to know."""
        numbers = self._starts.get(message >> 32)
        return message in self.held or (
            numbers is not None and not numbers.window.fresh(message & 0xFFFFFFFF)
        )

    def ending(self, message: int) -> MessageOutcome | None:
        """What became of a message that was taken, if it is known yet, and still."""
        numbers = self._starts.get(message >> 32)
        if numbers is None or message in self.held:
            return None
        ending = numbers.find(message)
        if ending is None and numbers.window.marked(message & 0xFFFFFFFF):
            return MessageOutcome(message, Outcome.DELIVERED)
        return ending

    def outcome(self, message: int) -> Outcome | None:
        """What was answered about a message that was taken, if it is known yet."""
        ending = self.ending(message)
        return None if ending is None else ending.outcome

    def takes(self, message: int) -> bool:
        """L{take} it, unless it was L{seen}. @return: whether it was not."""
        numbers = self._starts.get(message >> 32)
        if numbers is not None and numbers.window.next(message & 0xFFFFFFFF):  # mostly
            self.held.add(message)
            return True
        new = not self.seen(message)
        if new:
            self.take(message)
        return new

    def take(self, message: int) -> None:
        """Never take this acknowledged message again; it is held until L{settle}."""
        start = message >> 32
        numbers = self._starts.get(start)
        if numbers is None:
            numbers = self._starts[start] = _Numbers()
            if len(self._starts) > limits.MAX_SENDER_STARTS:
                self._starts.popitem(last=False)
        numbers.window.mark(message & 0xFFFFFFFF)
        self.held.add(message)

    def delivered(self, message: int) -> None:
        """L{settle} it so: in the window nothing more is to be remembered."""
        numbers = self._starts.get(message >> 32)
        if numbers is not None and numbers.window.highest - (message & 0xFFFFFFFF) >= limits.ACK_WINDOW:
            self.settle(message, Outcome.DELIVERED)
        self.held.discard(message)

    def settle(self, message: int, outcome: Outcome, reason: str = "") -> MessageOutcome:
        """Remember what became of it, to answer so again."""
        self.held.discard(message)
        ending = MessageOutcome(message, outcome, reason)
        numbers = self._starts.get(message >> 32)
        if numbers is not None:
            numbers.remember(ending)
        return ending
