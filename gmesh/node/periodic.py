# SPDX-License-Identifier: MIT
"""
Something done again and again for as long as the node lives, each time saying when next.

Tests: C{tests/node/test_periodic.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["PeriodicTask"]


class PeriodicTask:
    """
    Runs C{step} now and then; never two at once, never after L{stop}.

    @param step: does it once and returns the seconds until the next time.
    @param after_error: seconds until the next time when C{step} fails by a bug, which is logged.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, step: Callable[[], Coroutine[Any, Any, float]], after_error: float
    ) -> None:
        self._clock = clock
        self._step = step
        self._after_error = after_error
        self._timer: IDelayedCall | None = None
        self._running: Deferred[Any] | None = None
        self._busy = False
        self._again = False
        self._stopped = False

    def start(self, delay: float = 0.0) -> None:
        """Do it after C{delay} seconds for the first time."""
        self._timer = self._clock.callLater(delay, self._run)

    def soon(self) -> None:
        """Do it at once, or again right after the one that runs."""
        if self._timer is not None:
            self._timer.reset(0.0)
        elif self._busy:
            self._again = True

    def within(self, delay: float) -> None:
        """Do it in C{delay} seconds, if it would not be done before."""
        if self._timer is not None:
            if self._timer.getTime() - self._clock.seconds() > delay:
                self._timer.reset(delay)
        elif self._busy:
            self._again = True

    def stop(self) -> Deferred[None]:
        """Cancel what is due or runs; fires when nothing of it is left."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._running is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._running.addBoth(lambda _: ended.callback(None))
        self._running.cancel()
        return ended

    def _run(self) -> None:
        self._timer = None
        self._busy = True
        step = Deferred.fromCoroutine(self._step())
        self._running = step
        step.addErrback(self._failed).addCallback(self._schedule)

    def _failed(self, failure: Failure) -> float:
        if not self._stopped:
            self._log.failure("a periodic task failed and goes on", failure=failure)
        return self._after_error

    def _schedule(self, delay: float) -> None:
        self._running = None
        self._busy = False
        if not self._stopped:
            self._timer = self._clock.callLater(0.0 if self._again else delay, self._run)
            self._again = False
