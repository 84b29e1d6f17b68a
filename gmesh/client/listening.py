# SPDX-License-Identifier: MIT
"""
A service that a program offers: one request to accept always waits at the daemon, and becomes the stream.

Nothing else is kept there, so a daemon that starts again finds its listeners by their asking again.
Tests: C{tests/client/test_listening.py}.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import CannotListenError, NoProtocol
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IReactorCore,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.addresses import MeshAddress
from gmesh.client.answers import AnswerRefused, upgrade_request
from gmesh.client.upgrade import StreamRequest
from gmesh.stream_errors import DialRefused

__all__ = ["ListenRefused", "MeshPort"]

#: Seconds until the daemon is asked again, at first and at most.
FIRST_RETRY, LAST_RETRY = 0.1, 5.0


class ListenRefused(CannotListenError):
    """
    The daemon does not let this program have the service.

    @ivar reason: a short slug: C{forbidden}, C{bad-service}, C{service-taken} ...
    @ivar detail: one sentence for people.
    """

    def __init__(self, reason: str, detail: str, service: str) -> None:
        super().__init__("gmesh", service, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


@implementer(IListeningPort)
class MeshPort:
    """
    @param socket: as of L{gmesh.client.upgrade.socket_endpoint}.
    @param factory: builds the protocol of each stream, for the L{MeshAddress} it comes from.
    @param jitter: a number from 0 to 1, another one each time.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        socket: str | IStreamClientEndpoint,
        service: str,
        factory: Factory,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._socket = socket
        self._service = service
        self._factory = factory
        self._jitter = jitter
        self._host = MeshAddress("", "", (), 0, service)
        self._wanted = self._told = False
        self._started: Deferred[IListeningPort] | None = None
        self._request: StreamRequest | None = None
        self._asking: Deferred[Any] = succeed(None)
        self._retry: IDelayedCall | None = None
        self._trigger: Any = None
        self._delay = FIRST_RETRY

    def getHost(self) -> MeshAddress:
        """This node, once the daemon has said who that is, and the service."""
        return self._host

    def startListening(self) -> None:
        """Ask, for ever."""
        if not self._wanted:
            self._wanted = True
            self._factory.doStart()
            if IReactorCore.providedBy(self._reactor):  # the clock of a test has no shutdown
                self._trigger = self._reactor.addSystemEventTrigger("before", "shutdown", self._shutdown)
            self._ask()

    def begin(self) -> Deferred[IListeningPort]:
        """
        Listen.

        @return: Deferred of this, once the daemon has the first request, however long that takes; fails with
            L{ListenRefused}.
        """

        def cancelled(_: object) -> None:
            self._started = None
            self.stopListening()

        started: Deferred[IListeningPort] = Deferred(cancelled)
        self._started = started
        self.startListening()
        return started

    def stopListening(self) -> Deferred[None]:
        """
        Ask no more; streams that are open stay so.

        @return: Deferred that fires when the daemon cannot hand over anything any more.
        """
        if not self._wanted:
            return succeed(None)
        self._wanted = False
        self._factory.doStop()
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._request is None:
            return succeed(None)
        request, asking = self._request, self._asking
        self._request = None
        asking.cancel()
        return request.closed

    def _shutdown(self) -> Deferred[None]:
        """The program ends, as every port does then: nothing is to be asked again, or told."""
        self._trigger = None
        return self.stopListening()

    def _ask(self) -> None:
        self._retry = None
        asked = upgrade_request("/v1/accept", service=self._service)
        request = StreamRequest(self._reactor, asked, self._service, self._build, self._waits)
        self._request = request
        self._asking = Deferred.fromCoroutine(request.ask(self._socket))
        self._asking.addCallbacks(self._taken, self._failed)

    def _build(self, peer: MeshAddress) -> IProtocol | None:
        """The request has become a stream, which outlives this."""
        self._request = None
        return self._factory.buildProtocol(peer)

    def _waits(self, host: MeshAddress) -> None:
        """The daemon has the request."""
        self._host = host
        self._delay = FIRST_RETRY
        if self._told:
            self._told = False
            self._log.info("the service {service} is offered again", service=self._service)
        started, self._started = self._started, None
        if started is not None:
            started.callback(self)

    def _taken(self, protocol: IProtocol) -> None:
        """A stream has come: wait for the next one."""
        if self._wanted:
            self._waits(self._host)
            self._ask()

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            return
        if isinstance(error, AnswerRefused | DialRefused):
            if self._started is not None and _is_final(error):
                started, self._started = self._started, None
                self._request = None
                self.stopListening()
                started.errback(ListenRefused(error.reason, error.detail, self._service))
            else:
                self._try_later(error.detail)
            return
        if not isinstance(error, NoProtocol):
            self._log.failure("a stream to {service} was not taken", failure, service=self._service)
        if self._wanted:
            self._retry = self._reactor.callLater(0, self._ask)

    def _try_later(self, why: str) -> None:
        if not self._told:
            self._told = True
            self._log.warn("the service {service} is not offered: {why}", service=self._service, why=why)
        self._retry = self._reactor.callLater(self._delay * (0.5 + self._jitter()), self._ask)
        self._delay = min(LAST_RETRY, 2 * self._delay)


def _is_final(error: AnswerRefused | DialRefused) -> bool:
    """Whether asking again would be answered alike: it is the fault of who asks."""
    if isinstance(error, AnswerRefused):
        return 400 <= error.status < 500
    return error.reason == "forbidden"
