# SPDX-License-Identifier: MIT
"""
Messages of programs for which there is no room now: they wait here as long as their senders allow.

To each service of a node they go in their order, whichever program sent them; one service does not wait for
another.  How many there may be is bounded by what each program may have under way.
Tests: C{tests/node/api/test_waiting_sends.py}.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.client.message_frames import SendRequest
from gmesh.endtoend.datagrams import Datagrams
from gmesh.endtoend.reliable_queue import ReliableMessage, Told
from gmesh.errors import SendRefused
from gmesh.node.limits import FULL_PAUSE

__all__ = ["UnderWay", "WaitingSends"]

_log = Logger()

UnderWay = Deferred[Any] | ReliableMessage
"""A message that was sent; C{cancel} gives it up."""


class _Waiting:
    """One message; cancelling its result takes it away, or cancels what it became."""

    __slots__ = ("ends", "request", "result", "sent")

    def __init__(self, request: SendRequest, ends: float) -> None:
        self.request = request
        self.ends = ends
        self.sent: Deferred[Any] | None = None
        self.result: Deferred[Any] = Deferred(self._cancelled)

    def _cancelled(self, result: Deferred[Any]) -> None:
        if self.sent is not None:
            self.sent.cancel()
        else:
            result.errback(SendRefused("cancelled", "the caller gave up"))


class WaitingSends:
    """
    The messages of all programs that wait for room.

    @param clock: says when to look again.
    """

    def __init__(self, datagrams: Datagrams, clock: IReactorTime) -> None:
        self._datagrams = datagrams
        self._clock = clock
        self._queues: dict[tuple[str, str], deque[_Waiting]] = {}
        self._timer: IDelayedCall | None = None

    def send(self, request: SendRequest) -> Deferred[Any]:
        """As L{Datagrams.send}; C{busy} only when there was no room in all the time."""
        place = request.node, request.service
        if self._queues and place in self._queues:
            return self._wait(request)
        sent = self._try(request, request.timeout)
        return self._wait(request) if sent is None else sent

    def begin(self, request: SendRequest, told: Told) -> UnderWay:
        """
        As L{send}, and without a Deferred where that can be.

        @param told: called once, perhaps at once.
        @return: what gives it up when it is cancelled.
        """
        node, service, data, timeout, key = request
        if not key and not (self._queues and (node, service) in self._queues):
            try:
                message = self._datagrams.begin(node, service, data, timeout, told)
            except SendRefused:  # busy
                message = None
            if message is not None:
                return message
        sent = self.send(request)
        sent.addCallbacks(told, _why, errbackArgs=(told,))
        return sent

    def _try(self, request: SendRequest, timeout: float) -> Deferred[Any] | None:
        """Send it; None if there is no room."""
        sent: Deferred[Any] = self._datagrams.send(
            request.node, request.service, request.data, timeout=timeout, key=request.key
        )
        if sent.called and isinstance(sent.result, Failure):
            error = sent.result.value
            if isinstance(error, SendRefused) and error.reason == "busy":
                sent.addErrback(lambda failure: None)
                return None
        return sent

    def _wait(self, request: SendRequest) -> Deferred[Any]:
        waiting = _Waiting(request, self._clock.seconds() + request.timeout)
        self._queues.setdefault((request.node, request.service), deque()).append(waiting)
        if self._timer is None:
            self._timer = self._clock.callLater(FULL_PAUSE, self._look)
        return waiting.result

    def _look(self) -> None:
        """Fill what room there is, each service by itself."""
        self._timer = None
        now = self._clock.seconds()
        for place, queue in list(self._queues.items()):
            full = False
            kept: list[_Waiting] = []
            for _ in range(len(queue)):  # what is sent meanwhile waits behind these
                waiting = queue.popleft()
                if waiting.result.called:  # cancelled
                    continue
                if waiting.ends - now <= 0:
                    waiting.result.errback(
                        SendRefused("busy", "there was no room for it in the time that was allowed")
                    )
                elif full or not self._begin(waiting, waiting.ends - now):
                    full = True
                    kept.append(waiting)
            queue.extendleft(reversed(kept))
            if not queue:
                del self._queues[place]
        if self._queues and self._timer is None:
            self._timer = self._clock.callLater(FULL_PAUSE, self._look)

    def _begin(self, waiting: _Waiting, timeout: float) -> bool:
        sent = self._try(waiting.request, timeout)
        if sent is None:
            return False
        waiting.sent = sent
        sent.chainDeferred(waiting.result)
        return True


def _why(failure: Failure, told: Told) -> None:
    if failure.check(CancelledError):
        told(SendRefused("cancelled", "the caller gave up"))
        return
    if isinstance(failure.value, SendRefused):
        told(failure.value)
        return
    _log.failure("a message could not be sent", failure)
    told(SendRefused("failed", "this node could not send it: its log says why"))
