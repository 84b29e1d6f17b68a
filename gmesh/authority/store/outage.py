# SPDX-License-Identifier: MIT
"""
A database that is away: told once when it goes and once when it is back, and tried again ever less often.

Tests: C{tests/authority/test_outage.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from gmesh.authority import limits
from gmesh.errors import StoreError

__all__ = ["Outage"]


class Outage:
    """
    Whether the database answers.

    @param reactor: C{IReactorTime}; None where the database is a file of this host, which never is away.
    @param again: tries it.
    @ivar trouble: what those are told who need it meanwhile; None when it answers.
    """

    log = Logger()

    def __init__(self, reactor: Any, again: Callable[[], object]) -> None:
        self._reactor = reactor
        self._again = again
        self._wait = limits.RETRY_SECONDS_MIN
        self._since = 0.0
        self._timer: Any = None
        self._ended = False
        self._waiting: dict[Deferred[None], Any] = {}
        self.trouble: StoreError | None = None

    @property
    def waits(self) -> bool:
        """Whether it is going to be tried again, and not before."""
        return self._timer is not None

    def gone(self, error: StoreError) -> StoreError:
        """It did not answer. @return: what to tell."""
        if self.trouble is None:
            self.trouble = error
            self._since = self._reactor.seconds()
            self.log.error("{what}: decisions wait, documents are served", what=error.detail)
        if self._timer is None and not self._ended:
            self._timer = self._reactor.callLater(self._wait, self._try)
            self._wait = min(2 * self._wait, limits.RETRY_SECONDS_MAX)
        return self.trouble

    def _try(self) -> None:
        self._timer = None
        self._again()

    def back(self) -> None:
        """It answered."""
        self._cancel()
        if self.trouble is not None:
            self.trouble = None
            self._wait = limits.RETRY_SECONDS_MIN
            seconds = round(self._reactor.seconds() - self._since)
            self.log.info("the database is back after {seconds} s", seconds=seconds)
            for waiter in list(self._waiting):
                self._release(waiter).callback(None)

    def over(self, until: float) -> Deferred[None]:
        """
        Fires when the database is back.

        @param until: how long to wait, by the reactor's time.
        @raise StoreError: C{unavailable}, when it took too long, or too many wait.
        """
        waiter: Deferred[None] = Deferred()
        left = until - self._reactor.seconds()
        if self._ended or left <= 0 or len(self._waiting) >= limits.WRITE_QUEUE_REQUESTS:
            return fail(self._refusal())
        self._waiting[waiter] = self._reactor.callLater(left, self._give_up, waiter)
        return waiter

    def _give_up(self, waiter: Deferred[None]) -> None:
        del self._waiting[waiter]
        waiter.errback(self._refusal())

    def _refusal(self) -> StoreError:
        return self.trouble or StoreError("unavailable", "the database did not answer in time")

    def _release(self, waiter: Deferred[None]) -> Deferred[None]:
        self._waiting.pop(waiter).cancel()
        return waiter

    def end(self) -> None:
        """Nothing is tried any more."""
        self._ended = True
        self._cancel()
        for waiter in list(self._waiting):
            self._release(waiter).errback(self._refusal())

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
