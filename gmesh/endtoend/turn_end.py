# SPDX-License-Identifier: MIT
"""
What many messages make, and leaves once: when all that was read is dealt with, and not in the next turn.

Whoever reads much at once L{holds<TurnEnd.hold>} the end of the turn; who has something to send then asks to
be called there, and gathers.  Tests: C{tests/endtoend/test_turn_end.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from gmesh.interfaces import ILink

__all__ = ["TurnEnd", "together"]


def together(link: ILink | None, leave: Callable[[], object]) -> None:
    """Let what C{leave} sends share as few records of a link as hold it, and go at once."""
    began = link is not None and link.hold()
    try:
        leave()
    finally:
        if link is not None and began:
            link.release()


class TurnEnd:
    """
    The end of what one reader reads.

    @ivar held: it will come.
    @ivar number: of what is read now.
    """

    _log = Logger()

    def __init__(self) -> None:
        self.held = False
        self.number = 0
        self._calls: dict[Callable[[], object], None] = {}

    def hold(self) -> bool:
        """Much follows. @return: whether L{release} is to be called: no other reader has begun before."""
        if self.held:
            return False
        self.held = True
        self.number += 1
        return True

    def then(self, call: Callable[[], object]) -> None:
        """Call this once at the end, which is L{held}."""
        self._calls[call] = None

    def release(self) -> None:
        """All was read: what follows of it leaves, and what follows of that."""
        try:
            while self._calls:
                calls, self._calls = self._calls, {}
                for call in calls:
                    try:
                        call()
                    except Exception:
                        self._log.failure("what was to leave at the end of a turn failed")
        finally:
            self.held = False
