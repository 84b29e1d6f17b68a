# SPDX-License-Identifier: MIT
"""
Who receives what: one receiver per service, and a bounded queue before each.

Who hears that a service has another receiver, and in which order, is
L{gmesh.endtoend.datagrams.Datagrams}.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from gmesh.endtoend import limits
from gmesh.endtoend.application_faults import Faults
from gmesh.errors import ConfigurationError, GmeshError
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.names import is_service
from gmesh.wire.limits import MAX_SERVICE
from gmesh.wire.messages import Outcome

__all__ = ["Message", "Receiver", "Registration", "Services", "Take", "is_reserved", "valid_service"]


class Message(NamedTuple):
    """
    A datagram as its receiver gets it.

    @ivar source_name: name of the node that sealed it, as the authority certified.
    @ivar source_id: its node_id.
    @ivar roles: its certified roles.
    """

    source_name: str
    source_id: str
    roles: tuple[str, ...]
    service: str
    data: bytes

    def __repr__(self) -> str:
        return f"<Message from {self.source_name} to {self.service}, {len(self.data)} bytes>"


Receiver = Callable[[Message], Deferred[Any] | Coroutine[Deferred[Any], Any, Any] | None]
"""
Takes a message. What it does reaches nobody but itself:

 - it returns None: the message is taken;
 - it returns a Deferred or a coroutine: the message is taken, and the receiver is busy until that is done;
   its result means nothing, its failure is counted (C{receiver-failed}) and logged;
 - it returns anything else, True and False too: as None, counted (C{receiver-odd}) and logged;
 - it raises L{GmeshError}: the message is refused, which is counted (C{receiver-refused});
 - it raises anything else, C{SystemExit} too: the message is refused, which is counted
   (C{receiver-failed}) and logged.

It may register and unregister services, itself too, and stop the node: that holds for the next message.
"""

Done = Callable[[Outcome], None]

Take = Callable[[bytes], None]
"""Hands the data of one message over, nobody waiting for the outcome."""


def valid_service(name: str) -> bool:
    """True if C{name} can name a service on the wire and in a policy."""
    return len(name) <= MAX_SERVICE and is_service(name)


def is_reserved(name: str) -> bool:
    """True for services of gmesh itself, which no policy cuts: C{_echo}, C{_authority}."""
    return name.startswith("_")


class Registration:
    """A receiver in its place, until L{unregister}."""

    def __init__(self, services: Services, service: str, changed: Callable[[], None]) -> None:
        self._services = services
        self.service = service
        self.changed = changed

    def unregister(self) -> None:
        """Take no more; queued messages are refused. May be called twice."""
        self._services.remove(self)


@dataclass(slots=True)
class _Waiting:
    message: Message
    done: Done


class _Place:
    """One service: its receiver, what it is busy with, what is queued for it."""

    __slots__ = ("busy", "bytes", "concurrent", "draining", "faults", "queue", "receiver", "registration")

    def __init__(
        self, registration: Registration, receiver: Receiver, concurrent: int, faults: Faults
    ) -> None:
        self.registration = registration
        self.receiver = receiver
        self.concurrent = concurrent
        self.faults = faults
        self.busy = 0
        self.draining = False
        self.queue: deque[_Waiting] = deque()
        self.bytes = 0

    def has_room(self, size: int) -> bool:
        return self.busy < self.concurrent or (
            len(self.queue) < limits.SERVICE_QUEUE_MESSAGES
            and self.bytes + size <= limits.SERVICE_QUEUE_BYTES
        )

    def wait(self, message: Message, done: Done) -> None:
        self.queue.append(_Waiting(message, done))
        self.bytes += len(message.data)


def _ignore(outcome: Outcome) -> None:
    """Nobody waits for it."""


class Services:
    """
    The receivers of this node.

    @ivar counters: how often what happened, by slug.
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._places: dict[str, _Place] = {}

    @property
    def names(self) -> list[str]:
        """Every service that has a receiver, sorted."""
        return sorted(self._places)

    def register(
        self,
        service: str,
        receiver: Receiver,
        *,
        concurrent: int = limits.SERVICE_CONCURRENT,
        reserved: bool = False,
        changed: Callable[[], None] = lambda: None,
    ) -> Registration:
        """
        Hand messages to C{service} to C{receiver}.

        @param concurrent: how many messages the receiver may be busy with; more wait in a bounded queue.
            With 1 they are handed over in order, each when the one before is done.
        @param reserved: True to take a name that begins with C{_}, for gmesh itself.
        @param changed: called now and when the registration ends, before anything else happens.
        @raise ConfigurationError: C{bad-service}, C{reserved-service}, C{service-taken} or
            C{too-many-services}.
        """
        if not valid_service(service):
            raise ConfigurationError(
                "bad-service",
                f"{service[:64]!r} is not a service name: a-z, 0-9 and -, at most {MAX_SERVICE}",
            )
        if is_reserved(service) is not reserved:
            raise ConfigurationError(
                "reserved-service", f"{service} is of gmesh itself; names with _ are reserved"
            )
        if service in self._places:
            raise ConfigurationError(
                "service-taken", f"the service {service} has a receiver on this node already"
            )
        if len(self._places) >= limits.MAX_SERVICES:
            raise ConfigurationError(
                "too-many-services", f"this node has {limits.MAX_SERVICES} services already"
            )
        registration = Registration(self, service, changed)
        self._places[service] = _Place(registration, receiver, concurrent, Faults(service, self.counters))
        changed()
        return registration

    def remove(self, registration: Registration) -> None:
        """End a registration; messages queued for it are refused."""
        place = self._places.get(registration.service)
        if place is None or place.registration is not registration:
            return
        del self._places[registration.service]
        registration.changed()
        self._refuse_waiting(place, Outcome.NO_SUCH_SERVICE)

    def stop(self) -> None:
        """Queued messages are answered C{busy}: this node takes no more, the next one of this name may."""
        for place in list(self._places.values()):
            self._refuse_waiting(place, Outcome.BUSY)

    def refusal(self, service: str, size: int) -> Outcome | None:
        """Why a message of this size would not be taken now, or None."""
        place = self._places.get(service)
        if place is None:
            return Outcome.NO_SUCH_SERVICE
        return None if place.has_room(size) else Outcome.BUSY

    def deliver(self, message: Message, done: Done) -> None:
        """
        Hand C{message} over, now or when the receiver is free again.

        @param done: called once with the outcome; DELIVERED means that the receiver has it.
        """
        place = self._places.get(message.service)
        if place is None:
            done(Outcome.NO_SUCH_SERVICE)
        elif place.busy < place.concurrent:
            self._hand(place, message, done)
        elif place.has_room(len(message.data)):
            place.wait(message, done)
        else:
            done(Outcome.BUSY)

    def taker(self, peer: Peer, service: str, refused: Done) -> Take:
        """
        The fast path for messages of C{peer} to a service that has a receiver, until services change.

        @param refused: called with the outcome of a message that was not taken.
        """
        place = self._places[service]
        receiver, concurrent, counters = place.receiver, place.concurrent, self.counters
        name, node_id, roles, new = peer.name, peer.node_id, peer.roles, tuple.__new__

        def take(data: bytes) -> None:
            message = new(Message, (name, node_id, roles, service, data))
            if place.busy < concurrent:
                try:
                    result = receiver(message)
                except BaseException:
                    self._raised(place)
                    refused(Outcome.REFUSED)
                    return
                counters["handed"] += 1
                if result is not None:
                    self._answered(place, result)
            elif place.has_room(len(data)):
                place.wait(message, _ignore)
            else:
                refused(Outcome.BUSY)

        return take

    def purge(self, source_id: str) -> None:
        """Drop queued messages of a node that is not believed any more."""
        for place in self._places.values():
            kept = deque(waiting for waiting in place.queue if waiting.message.source_id != source_id)
            self.counters["purged"] += len(place.queue) - len(kept)
            place.queue = kept
            place.bytes = sum(len(waiting.message.data) for waiting in kept)

    def _hand(self, place: _Place, message: Message, done: Done) -> None:
        try:
            result = place.receiver(message)
        except BaseException:
            self._raised(place)
            done(Outcome.REFUSED)
            return
        self.counters["handed"] += 1
        if result is not None:
            self._answered(place, result)
        done(Outcome.DELIVERED)

    def _raised(self, place: _Place) -> None:
        """A receiver raised, which is how it refuses a message when it is one of our errors."""
        if isinstance(sys.exc_info()[1], GmeshError):
            self.counters["receiver-refused"] += 1
        else:
            place.faults.failed("receiver", Failure())

    def _answered(self, place: _Place, answer: object) -> None:
        """What a receiver returned: it is busy until that is done, if that can be waited for."""
        try:
            deferred = ensureDeferred(cast(Coroutine[Deferred[Any], Any, Any], answer))
        except BaseException:  # it is neither, or a proxy that raises when it is asked what it is
            place.faults.odd(answer)
            return
        place.busy += 1
        deferred.addErrback(self._failed, place)
        deferred.addCallback(self._free, place)

    def _failed(self, failure: Failure, place: _Place) -> None:
        if failure.check(GmeshError):
            self.counters["receiver-failed"] += 1
        else:
            place.faults.failed("receiver", failure)

    def _free(self, _: object, place: _Place) -> None:
        """One message is done: the next ones go, in this one loop also those that are done at once."""
        place.busy -= 1
        if place.draining:
            return
        place.draining = True
        try:
            while place.queue and place.busy < place.concurrent:
                waiting = place.queue.popleft()
                place.bytes -= len(waiting.message.data)
                self._hand(place, waiting.message, waiting.done)
        finally:
            place.draining = False

    def _refuse_waiting(self, place: _Place, outcome: Outcome) -> None:
        while place.queue:
            waiting = place.queue.popleft()
            place.bytes -= len(waiting.message.data)
            waiting.done(outcome)
