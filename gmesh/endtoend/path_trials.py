# SPDX-License-Identifier: MIT
"""
How much of what goes to one peer by the path of now is answered: a relay may drop one frame in ten. Pure.

Congestion is no loss here: a relay without room says so, and what it names is not counted.
Tests: C{tests/endtoend/test_path_trials.py}.
"""

from __future__ import annotations

from gmesh.endtoend.limits import LOSSES_BEFORE_BLAME, LOSSY_SHARE, TRIALS_REMEMBERED

__all__ = ["PathTrials"]

Path = tuple[bytes, ...]


class PathTrials:
    """Counts the transmissions along the path of now."""

    __slots__ = ("_all", "_lost", "_path")

    def __init__(self) -> None:
        self._path: Path | None = None
        self._all = self._lost = 0

    def answered(self, path: Path) -> None:
        """A transmission along C{path} was answered."""
        if path != self._path:
            self._path, self._all, self._lost = path, 0, 0
        self._all += 1
        if self._all >= TRIALS_REMEMBERED:
            self._all //= 2
            self._lost //= 2

    def lost(self, path: Path) -> bool:
        """One was not answered in time. @return: True if the path loses too many."""
        self.answered(path)  # as far as it counts
        self._lost += 1
        return self._lost >= LOSSES_BEFORE_BLAME and self._lost > self._all * LOSSY_SHARE

    def late(self, path: Path) -> None:
        """One that counted as lost was answered after all."""
        if path == self._path and self._lost:
            self._lost -= 1
