# SPDX-License-Identifier: MIT
"""
Time the authority may decide by: wall clock, held against the newest time ever seen.

The mark is persisted with each commit.  While the clock stands well below it nothing is issued,
because nonces older than the mark may be forgotten and numbers must not go back in time.  A jump
inside the process does not move the mark until the new time has lasted, so that one wrong hour
does not block the authority for as long.
Tests: C{tests/authority/test_store.py}, C{tests/authority/test_state.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from gmesh.authority import limits
from gmesh.errors import StoreError

__all__ = ["SteadyClock"]


class SteadyClock:
    """
    The wall clock, judged.

    @param wall: Unix time.
    @param seconds: monotonic time.
    @ivar seconds: the same.
    @param high_water: the newest time the database has seen.
    @param known: whether the time of this start is known to be right; if not, and it lies above what was
        seen, it is a jump like any other.
    """

    def __init__(
        self, wall: Callable[[], float], seconds: Callable[[], float], high_water: int = 0, known: bool = True
    ) -> None:
        self._wall = wall
        self.seconds = seconds
        self._mark = high_water
        self._offset = wall() - seconds()
        ahead = high_water > 0 and wall() > high_water + limits.CLOCK_BACKSTEP_SECONDS
        self._jumped_at: float | None = seconds() if ahead and not known else None
        self.started = wall()

    def now(self) -> int:
        """Unix seconds."""
        self._advance()
        return int(self._wall())

    def milliseconds(self) -> int:
        """Unix milliseconds."""
        return int(self._wall() * 1000)

    @property
    def high_water(self) -> int:
        """The newest time that was seen without a jump."""
        return self._mark

    @property
    def suspect(self) -> bool:
        """Whether the clock stands below what was seen before."""
        return self._wall() < self._mark - limits.CLOCK_BACKSTEP_SECONDS

    def check(self) -> None:
        """@raise StoreError: C{clock-suspect}."""
        if self.suspect:
            raise StoreError(
                "clock-suspect",
                f"this authority has seen a time {self._mark - int(self._wall())} s later than its clock"
                " says now: nothing is issued until the clock of the authority is right; if it is right now,"
                " and was wrong then, gmesh restore takes in this very database from now on",
            )

    def follow(self, high_water: int) -> None:
        """
        Go by the newest time that the database has seen.

        It may lie below what was seen here, where the database tells the time and the clock here was wrong:
        nothing was decided then.
        """
        self._mark = high_water

    def _advance(self) -> None:
        wall, seconds = self._wall(), self.seconds()
        drift = wall - seconds - self._offset
        if abs(drift) > limits.CLOCK_BACKSTEP_SECONDS:
            self._offset += drift
            self._jumped_at = seconds
        elif self._jumped_at is None or seconds - self._jumped_at > limits.CLOCK_SETTLE_SECONDS:
            self._jumped_at = None
            self._offset += drift
            self._mark = max(self._mark, int(wall))
