# SPDX-License-Identifier: MIT
"""
Answers to one peer whose frames come by another path than ours go: they go back the way those come.

So silence tells each end about its own path alone, there and back.
Tests: C{tests/endtoend/test_batching.py}, C{tests/node/test_silent_relay.py},
C{tests/node/test_dropping_relay.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from gmesh.endtoend.path_selector import Path
from gmesh.endtoend.sealing import Sealer
from gmesh.endtoend.session_set import SessionSet
from gmesh.errors import SendRefused

__all__ = ["WayBack"]


class WayBack:
    """
    Gathers the answers of one turn.

    @param put: sends a frame with all else; raises C{SendRefused} if there is no room.
    """

    __slots__ = ("_answers", "_keys", "_put", "_sealer", "_size")

    def __init__(self, sealer: Sealer, keys: SessionSet, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._sealer = sealer
        self._keys = keys
        self._answers: list[bytes] = []
        self._size = 0

    def path(self, now: float) -> Path | None:
        """The way back; None while it is the path of all else, or leads nowhere."""
        return self._sealer.paths.way_back(self._keys, now)

    def add(self, frame: bytes, limit: int) -> None:
        """One more; C{limit} bytes share a seal."""
        if self._size + len(frame) > limit:
            self.leave()
        self._answers.append(frame)
        self._size += len(frame)

    def leave(self) -> None:
        """Seal and send them; if they are lost, the peer asks again."""
        answers, back = self._answers, self._keys.back
        if not answers:
            return
        self.clear()
        if back is None:
            self._with_all_else(answers)
        elif not self._sealer.answer(self._keys, b"".join(answers), back):
            self._sealer.counters["reply-lost"] += len(answers)

    def _with_all_else(self, answers: list[bytes]) -> None:
        """The way back is gone."""
        for answer in answers:
            try:
                self._put(answer)
            except SendRefused:
                self._sealer.counters["reply-lost"] += 1

    def clear(self) -> None:
        """Nobody is to be answered any more."""
        self._answers = []
        self._size = 0
