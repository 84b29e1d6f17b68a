# SPDX-License-Identifier: MIT
"""
Who takes the streams that are opened to which service of this node.

Services share one name space with messages, and one rule of the policy: a name may have a receiver, a
taker or both.
Tests: C{tests/streams/test_dialling.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from gmesh.endtoend.limits import MAX_SERVICES
from gmesh.endtoend.services import is_reserved, valid_service
from gmesh.errors import ConfigurationError
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.stream_errors import StreamCode
from gmesh.streams.offers import StreamOffer, Take
from gmesh.wire.limits import MAX_SERVICE

__all__ = ["BENCH_SERVICE", "StreamListener", "StreamListeners", "no_such_service"]

BENCH_SERVICE = "gmesh-bench"
"""What C{gmesh bench} talks to: of gmesh itself, but under the policy, which reserved names are not."""


class StreamListener:
    """A taker in its place, until L{stopListening}."""

    def __init__(self, listeners: StreamListeners, service: str, take: Take) -> None:
        self._listeners = listeners
        self.service = service
        self.take = take

    def stopListening(self) -> None:
        """Refuse what comes from now on; open streams go on. May be called twice."""
        self._listeners.remove(self)


class StreamListeners:
    """
    The takers of this node.

    @param changed: called when there are others than before.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._listeners: dict[str, StreamListener] = {}
        self._held: dict[str, dict[StreamOffer, IDelayedCall]] = {}
        self._lines = SpacedLog()
        self._hold_until = self._patience = 0.0

    @property
    def names(self) -> list[str]:
        """Every service that has a taker, sorted."""
        return sorted(self._listeners)

    def listen(self, service: str, take: Take, builtin: bool) -> StreamListener:
        """
        Have C{take} called with each stream that is opened to C{service}.

        @param builtin: True to take a name of gmesh itself.
        @raise ConfigurationError: C{bad-service}, C{reserved-service}, C{service-taken} or
            C{too-many-services}.
        """
        if not valid_service(service):
            raise ConfigurationError(
                "bad-service",
                f"{service[:64]!r} is not a service name: a-z, 0-9 and -, at most {MAX_SERVICE}",
            )
        if (is_reserved(service) or service == BENCH_SERVICE) is not builtin:
            raise ConfigurationError("reserved-service", f"{service} is a service of gmesh itself")
        if service in self._listeners:
            raise ConfigurationError("service-taken", f"streams to {service} are taken on this node already")
        if len(self._listeners) >= MAX_SERVICES:
            raise ConfigurationError("too-many-services", f"this node has {MAX_SERVICES} services already")
        listener = self._listeners[service] = StreamListener(self, service, take)
        self._changed()
        for offer, late in list(self._held.pop(service, {}).items()):
            late.cancel()
            self._give(listener, offer)
        return listener

    def remove(self, listener: StreamListener) -> None:
        """Its streams are refused from now on."""
        if self._listeners.get(listener.service) is listener:
            del self._listeners[listener.service]
            self._changed()

    def hold(self, window: float, patience: float) -> None:
        """As L{IStreams.hold<gmesh.interfaces.IStreams.hold>}."""
        self._hold_until, self._patience = self._clock.seconds() + window, patience

    def has(self, service: str) -> bool:
        """True if a stream to C{service} may be offered now: taken, or held for a taker to come."""
        return service in self._listeners or self._clock.seconds() < self._hold_until

    def offer(self, offer: StreamOffer) -> None:
        """A far node has opened a stream."""
        service = offer.peer.service
        listener = self._listeners.get(service)
        if listener is not None:
            self._give(listener, offer)
            return
        held = self._held.setdefault(service, {})
        held[offer] = self._clock.callLater(self._patience, self._let_go, offer, True)
        offer.gone.addCallback(lambda _: self._let_go(offer, False))

    def stop(self) -> None:
        """Hold no stream any more."""
        for held in list(self._held.values()):
            for offer in list(held):
                self._let_go(offer, False)

    def _let_go(self, offer: StreamOffer, refuse: bool) -> None:
        """It waits no more: nobody came for it, or it has ended."""
        held = self._held.get(offer.peer.service, {})
        late = held.pop(offer, None)
        if late is None:
            return
        if not held:
            del self._held[offer.peer.service]
        if late.active():
            late.cancel()
        if refuse:
            offer.refuse(*no_such_service(offer.peer.service))

    def _give(self, listener: StreamListener, offer: StreamOffer) -> None:
        try:
            listener.take(offer)
        except Exception:
            self._lines.write(
                self._log.failure,
                self._clock.seconds(),
                "taker-failed",
                listener.service,
                "what takes the streams to {service} failed",
                service=listener.service,
            )
            offer.refuse(StreamCode.REFUSED.slug, "the service failed")


def no_such_service(service: str) -> tuple[str, str]:
    """Why a stream to a service that nobody takes is refused."""
    return StreamCode.NO_SUCH_SERVICE.slug, f"nothing takes streams to {service} there"
