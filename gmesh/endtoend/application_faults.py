# SPDX-License-Identifier: MIT
"""
What an application does wrong when it is called: counted and logged, and no affair of anybody else.

Applications are called from within the reading of a link, whose neighbour has no part in it: whatever is
raised there, C{SystemExit} too, would end that link.  Others decide how often a callback is called, so the
log has the first fault of one, the second, the fourth, and so on.
Tests: C{tests/node/test_receivers.py}, C{tests/endtoend/test_services.py}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Faults", "GuardedProducer"]


class Faults:
    """
    The faults of one callback.

    @param service: the service it is for, to name it in the log.
    @param counters: how often what happened, by slug.
    """

    __slots__ = ("_counters", "_number", "_service")

    log = Logger()

    def __init__(self, service: str, counters: Counter[str]) -> None:
        self._service = service
        self._counters = counters
        self._number = 0

    def failed(self, what: str, failure: Failure) -> None:
        """The C{what} (C{receiver}, C{producer}) of the service raised, or its Deferred failed."""
        self._counters[f"{what}-failed"] += 1
        if self._is_logged():
            self.log.failure(
                "The {what} of {service} failed (fault {number})",
                failure,
                what=what,
                service=self._service,
                number=self._number,
            )

    def odd(self, answer: object) -> None:
        """A receiver returned what means nothing. Its type is logged; its value may be a secret."""
        self._counters["receiver-odd"] += 1
        if self._is_logged():
            self.log.warn(
                "The receiver of {service} returns {type}, which is ignored (fault {number})",
                service=self._service,
                type=type(answer).__name__,
                number=self._number,
            )

    def _is_logged(self) -> bool:
        """True for the first fault and for each that doubles their number."""
        self._number += 1
        return self._number & (self._number - 1) == 0


@implementer(IPushProducer)
class GuardedProducer:
    """An application's producer, called whatever it does then."""

    __slots__ = ("_faults", "_producer")

    def __init__(self, producer: IPushProducer, faults: Faults) -> None:
        self._producer = producer
        self._faults = faults

    def pauseProducing(self) -> None:
        """There is no room, or no key."""
        self._call(self._producer.pauseProducing)

    def resumeProducing(self) -> None:
        """There is again."""
        self._call(self._producer.resumeProducing)

    def stopProducing(self) -> None:
        """The node is stopping."""
        self._call(self._producer.stopProducing)

    def _call(self, method: Callable[[], None]) -> None:
        try:
            method()
        except BaseException:
            self._faults.failed("producer", Failure())
