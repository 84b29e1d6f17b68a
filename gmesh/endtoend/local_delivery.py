# SPDX-License-Identifier: MIT
"""
An acknowledged message from this node to a service of its own: the same promises, without a frame.

Tests: C{tests/endtoend/test_outcomes.py}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.endtoend.limits import BUSY_PAUSE, MAX_BUSY_PAUSE
from gmesh.endtoend.reliable_queue import Delivered
from gmesh.endtoend.service_queue import Delivery, Message
from gmesh.endtoend.services import Services
from gmesh.errors import SendRefused
from gmesh.wire.messages import Outcome

__all__ = ["LocalDelivery"]


class LocalDelivery:
    """
    One message, handed over when there is room for it.

    @ivar result: Deferred of L{Delivered}; fails with L{SendRefused}.
    """

    def __init__(self, services: Services, message: Message, timeout: float, clock: IReactorTime) -> None:
        self.result: Deferred[Delivered] = Deferred(lambda _: self._refuse("cancelled", "the caller gave up"))
        self._services = services
        self._message = message
        self._clock = clock
        self._began = clock.seconds()
        self._pause = BUSY_PAUSE
        self._reason = "timed-out"
        self._again: IDelayedCall | None = None
        self._waits: Delivery | None = None
        self._timer = clock.callLater(timeout, self._late)
        self._offer()

    def stop(self) -> None:
        """The node is stopping."""
        self._refuse("stopped", "this node is stopping")

    def _offer(self) -> None:
        self._reason = "timed-out"
        self._waits = self._services.deliver(self._message, self._done)

    def _done(self, outcome: Outcome, said: str, answer: bytes) -> None:
        if self.result.called:
            return
        if outcome is Outcome.BUSY:
            self._reason = "busy"
            self._again = self._clock.callLater(self._pause, self._offer)
            self._pause = min(2 * self._pause, MAX_BUSY_PAUSE)
        elif outcome is Outcome.DELIVERED:
            self._stop()
            self.result.callback(Delivered(self._clock.seconds() - self._began, answer))
        else:
            text = f"this node answers {outcome.slug} for {self._message.service}"
            self._refuse(outcome.slug, f"{text}: {said}" if said else text)

    def _late(self) -> None:
        self._refuse(
            self._reason, f"the receiver of {self._message.service} was not done with the message in time"
        )

    def _refuse(self, reason: str, detail: str) -> None:
        self._stop()
        if self._waits is not None:
            self._services.withdraw(self._waits)
        if not self.result.called:
            self.result.errback(SendRefused(reason, detail))

    def _stop(self) -> None:
        for call in (self._timer, self._again):
            if call is not None and call.active():
                call.cancel()
