# SPDX-License-Identifier: MIT
"""
How long groups of decisions wait for the order of all who decide, and how long they hold it.

Where only this daemon decides there is nobody to wait for; on a shared database these tell whether it is the
others or the database that is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import Histogram
from prometheus_client.core import Metric

__all__ = ["OrderTimes"]

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 20.0)


class OrderTimes:
    """
    Two histograms, in the writer's thread.

    @param seconds: monotonic time.
    @ivar time: Unix seconds as the database counts them, by the last turn; None where it counts none.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._ahead: float | None = None
        self._waited, self._held = (
            Histogram(f"gmesh_authority_order_{name}_seconds", text, buckets=_BUCKETS, registry=None)
            for name, text in (
                ("wait", "That a group of decisions waited for its turn, or until it gave up."),
                ("held", "From its turn to the end of its commit."),
            )
        )

    @property
    def time(self) -> int | None:
        return None if self._ahead is None else int(self._seconds() + self._ahead)

    @contextmanager
    def turn(self) -> Iterator[Callable[[tuple[int, int] | None], None]]:
        """
        Asked for on entry, over at the exit.

        @return: to be called when it has begun, with what the database's C{begin} told.
        """
        asked, taken = self._seconds(), None

        def begun(times: tuple[int, int] | None) -> None:
            nonlocal taken
            taken = self._seconds()
            self._waited.observe(taken - asked)
            if times is not None:
                self._ahead = times[1] - taken

        try:
            yield begun
        finally:
            if taken is None:
                self._waited.observe(self._seconds() - asked)
            else:
                self._held.observe(self._seconds() - taken)

    def collect(self) -> Iterable[Metric]:
        """Both."""
        yield from self._waited.collect()
        yield from self._held.collect()
