# SPDX-License-Identifier: MIT
"""
How much of an unbroken stream of bytes is under way: counted here, asked of the far end now and then. Pure.

The question travels in the stream itself, so its answer says that all before it has left the network.
"""

from __future__ import annotations

from collections import deque

from gmesh.endtoend.limits import LANE_WINDOW, MAX_QUESTIONS, QUESTIONS_A_WINDOW
from gmesh.endtoend.pace import Pace

__all__ = ["Window"]


class Window:
    """
    Bytes sent and bytes known to be there.

    @ivar pace: the window's size, and how long an answer may take.
    @ivar sent: bytes in all.
    @ivar reached: bytes that have left the network, or are taken for lost.
    """

    __slots__ = ("_asked", "_questions", "pace", "reached", "sent")

    def __init__(self) -> None:
        self.pace = Pace(LANE_WINDOW)
        self.sent = self.reached = self._asked = 0
        self._questions: deque[tuple[int, float]] = deque()

    @property
    def full(self) -> bool:
        """True if no more should be under way."""
        return self.sent - self.reached >= self.pace.window

    def send(self, size: int) -> bool:
        """So many bytes leave. @return: True if the far end is to be asked with them."""
        self.sent += size
        return self.sent - self._asked >= self.pace.window / QUESTIONS_A_WINDOW

    def question(self, now: float) -> int:
        """The far end is asked now. @return: the mark it is to repeat."""
        self._asked = self.sent
        if len(self._questions) >= MAX_QUESTIONS:
            self._questions.popleft()
        self._questions.append((self.sent, now))
        return self.sent

    def answer(self, mark: int, now: float) -> bool:
        """The far end has all before C{mark}. @return: False if that is no news."""
        if not self.reached < mark <= self.sent:
            return False
        asked = None
        while self._questions and self._questions[0][0] <= mark:
            number, at = self._questions.popleft()
            if number == mark:
                asked = now - at
        self.pace.answered(mark - self.reached, asked)
        self.reached = mark
        return True

    def silent(self) -> None:
        """No answer came in time: all that is under way is lost, and the next frame asks."""
        self.pace.timed_out()
        self.forget()
        self._asked = self.sent - LANE_WINDOW

    def forget(self) -> None:
        """Nothing is under way."""
        self.reached = self._asked = self.sent
        self._questions.clear()
