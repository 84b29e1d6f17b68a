# SPDX-License-Identifier: MIT
"""
Who receives what: the receivers of each service, and a bounded queue before them.

Who hears that a service has another receiver, and in which order, is
L{gmesh.endtoend.datagrams.Datagrams}.

Tests: C{tests/endtoend/test_services.py}, C{tests/endtoend/test_outcomes.py}.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from gmesh.endtoend import limits
from gmesh.endtoend.application_faults import Faults
from gmesh.endtoend.awaited_services import AwaitedServices
from gmesh.endtoend.message_keys import KeyState, MessageKeys
from gmesh.endtoend.service_queue import Delivery, Done, Keeper, Message, Receiver, ServiceQueue, Taker
from gmesh.errors import ConfigurationError, GmeshError
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.names import is_service
from gmesh.wire.limits import MAX_ANSWER, MAX_SERVICE
from gmesh.wire.messages import Outcome

__all__ = ["Message", "Receiver", "Registration", "Services", "Take", "is_reserved", "valid_service"]

_DELIVERED = Outcome.DELIVERED  # a member of an Enum is looked up by a function in Python 3.11

Take = Callable[[bytes], None]
"""Hands the data of one message over, nobody waiting for the outcome."""

_KEY_LOST = "it is done, but this node could not store its key: sent again it is handed over again"


def valid_service(name: str) -> bool:
    """True if C{name} can name a service on the wire and in a policy."""
    return len(name) <= MAX_SERVICE and is_service(name)


def is_reserved(name: str) -> bool:
    """True for services of gmesh itself, which no policy cuts: C{_echo}, C{_authority}."""
    return name.startswith("_")


class Registration:
    """A receiver in its place, until L{unregister} or L{gone}."""

    def __init__(self, services: Services, service: str, taker: Taker, changed: Callable[[], None]) -> None:
        self._services = services
        self.service = service
        self.taker = taker
        self.changed = changed

    def unregister(self, unread: Sequence[Delivery] = ()) -> None:
        """
        Take no more; what it is busy with it may still end. Queued messages are refused if it is the last
        receiver. May be called twice.

        @param unread: of what it is busy with, what it has never seen: queued again.
        """
        self._services.remove(self, unread)

    def gone(self) -> None:
        """
        The program behind it has ended, perhaps to come back: what it was busy with, and what is queued,
        waits for another receiver of the same owner. May be called twice.
        """
        self._services.gone(self)


def _ignore(outcome: Outcome, said: str, answer: bytes) -> None:
    """Nobody waits for it."""


class Services:
    """
    The receivers of this node.

    @param keys: the keys of messages that were seen; without it nothing is known of any.
    @param own_id: as of L{AwaitedServices}.
    @ivar hold: L{AwaitedServices.hold}.
    @ivar counters: how often what happened, by slug.
    """

    def __init__(self, clock: IReactorTime, keys: MessageKeys | None = None, own_id: str = "") -> None:
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._keys = keys
        self._places: dict[str, ServiceQueue] = {}
        self._awaited = AwaitedServices(
            clock, lambda place: self._refuse_waiting(place, Outcome.NO_SUCH_SERVICE), own_id
        )
        self.hold = self._awaited.hold
        self._keyed: dict[tuple[str, str, str], Delivery] = {}
        self._stopped = False

    @property
    def names(self) -> list[str]:
        """Every service that has a receiver, or had one just now, sorted."""
        return sorted(self._places)

    def register(
        self,
        service: str,
        receiver: Receiver | Keeper,
        *,
        concurrent: int = limits.SERVICE_CONCURRENT,
        reserved: bool = False,
        owner: object = None,
        shared: bool = False,
        keeps: bool = False,
        changed: Callable[[], None] = lambda: None,
    ) -> Registration:
        """
        Hand messages to C{service} to C{receiver}.

        @param concurrent: how many messages the receiver may be busy with; more wait in a bounded queue.
            With 1 they are handed over in order, each when the one before is done.
        @param reserved: True to take a name that begins with C{_}, for gmesh itself.
        @param owner: whose service it is; while it waits for a receiver to come back it is nobody else's.
        @param shared: other receivers of the same owner, which say so too, may share its messages.
        @param keeps: the receiver is a L{Keeper}.
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
        place = self._places.get(service)
        if place is not None and (place.owner != owner or (place.takers and not (shared and place.shared))):
            raise ConfigurationError(
                "service-taken", f"the service {service} has a receiver on this node already"
            )
        if place is None:
            if len(self._places) >= limits.MAX_SERVICES:
                raise ConfigurationError(
                    "too-many-services", f"this node has {limits.MAX_SERVICES} services already"
                )
            place = self._places[service] = self._awaited.claim(service, owner)
        place.cancel()
        place.shared = shared
        taker = Taker(receiver, concurrent, Faults(service, self.counters), keeps)
        place.takers.append(taker)
        changed()
        self._drain(place)
        return Registration(self, service, taker, changed)

    def remove(self, registration: Registration, unread: Sequence[Delivery] = ()) -> None:
        """End a registration; if it was the last one, messages queued for the service are refused."""
        place = self._places.get(registration.service)
        if place is None or registration.taker not in place.takers:
            return
        place.takers.remove(registration.taker)
        for delivery in reversed(unread):
            del registration.taker.pending[delivery]
            delivery.hands -= 1
            place.wait(delivery, first=True)
        if not place.takers:
            del self._places[registration.service]
        registration.changed()
        if not place.takers:
            self._refuse_waiting(place, Outcome.NO_SUCH_SERVICE)
        elif unread:
            self._drain(place)

    def gone(self, registration: Registration) -> None:
        """End a registration whose program may come back."""
        place, taker = self._places.get(registration.service), registration.taker
        interrupted, taker.pending = list(taker.pending), {}
        if place is None or taker not in place.takers:
            self._interrupted(place, interrupted)
            return
        place.takers.remove(taker)
        for delivery in reversed(interrupted):
            if delivery.hands < limits.MAX_HANDS:
                place.wait(delivery, first=True)
        if not place.takers and not self._stopped:
            place.ends = self._clock.callLater(limits.RECEIVER_RETURNS, self._expire, place, registration)
        registration.changed()
        for delivery in interrupted:
            if delivery.hands >= limits.MAX_HANDS:
                self._end(delivery, Outcome.RECEIVER_GONE)
        self._drain(place)

    def _interrupted(self, place: ServiceQueue | None, deliveries: list[Delivery]) -> None:
        """A program has gone that took no more already: what it had is for those who serve there now."""
        for delivery in reversed(deliveries):
            if place is not None and delivery.hands < limits.MAX_HANDS:
                place.wait(delivery, first=True)
            else:
                self._end(delivery, Outcome.RECEIVER_GONE)
        if place is not None:
            self._drain(place)

    def _expire(self, place: ServiceQueue, registration: Registration) -> None:
        """Nobody came back."""
        del self._places[place.service]
        registration.changed()
        self._refuse_waiting(place, Outcome.RECEIVER_GONE)

    def stop(self) -> None:
        """Queued messages are answered C{busy}: this node takes no more, the next one of this name may."""
        self._stopped = True
        for place in list(self._places.values()):
            place.cancel()
            self._refuse_waiting(place, Outcome.BUSY)
        for place in self._awaited.stop():
            self._refuse_waiting(place, Outcome.BUSY)

    def refusal(self, service: str, size: int, source_id: str, waits: bool = False) -> Outcome | None:
        """
        Why a message of this size from that node would not be taken now, or None.

        @param waits: somebody waits for its outcome, so it may wait for a receiver that is on its way.
        """
        place = self._places.get(service)
        if place is None:
            there = waits and self._awaited.has_room(service, source_id, size)
            return None if there else Outcome.NO_SUCH_SERVICE
        return None if place.has_room(source_id, size) else Outcome.BUSY

    def known(self, source_id: str, service: str, key: str) -> bool:
        """True if a message with this key was acknowledged."""
        keys = self._keys
        return keys is not None and keys.find(source_id, service, key) is KeyState.ACKNOWLEDGED

    def deliver(
        self, message: Message, done: Done, handed: Callable[[], None] | None = None, waits: bool = True
    ) -> Delivery | None:
        """
        Hand C{message} over, now or when a receiver is free again.

        @param done: called once with the outcome; DELIVERED means that the receiver is done with it.
        @param handed: called when it is handed over.
        @param waits: as of L{refusal}.
        @return: what waits, if it does: for L{withdraw}.
        """
        place = self._places.get(message.service)
        if message.key:
            if self.known(message.source_id, message.service, message.key):
                self.counters["key-known"] += 1
                done(Outcome.DELIVERED, "", b"")
                return None
            known = self._keyed.get(_keyed(message))
            if known is not None:
                self.counters["key-known"] += 1
                known.waiting += (done,)
                return None
        delivery = Delivery(message, done, handed)
        if place is None:
            return self._await(delivery, waits)
        taker = place.free()
        if taker is None and not place.has_room(message.source_id, len(message.data)):
            done(Outcome.BUSY, "", b"")
            return None
        if message.key:
            self._keyed[_keyed(message)] = delivery
        if taker is not None:
            self._hand(place, taker, delivery)
            return None
        place.wait(delivery)
        return delivery

    def _await(self, delivery: Delivery, waits: bool) -> Delivery | None:
        """There is no receiver: after a start one may be on its way."""
        message = delivery.message
        if not (waits and self._awaited.has_room(message.service, message.source_id, len(message.data))):
            delivery.done(Outcome.NO_SUCH_SERVICE, "", b"")
            return None
        if message.key:
            self._keyed[_keyed(message)] = delivery
        self._awaited.wait(delivery)
        return delivery

    def withdraw(self, delivery: Delivery) -> bool:
        """
        Hand a message over no more that its sender has given up, and tell nobody what became of it.

        @return: False if it was handed over already, or another waits for it too, which has its key.
        """
        service = delivery.message.service
        place = self._places.get(service) or self._awaited.get(service)
        if delivery.hands or delivery.waiting or place is None or not place.drop(delivery):
            return False
        if delivery.message.key:
            del self._keyed[_keyed(delivery.message)]
        self.counters["withdrawn"] += 1
        return True

    def taker(self, peer: Peer, service: str, refused: Callable[[Outcome], None]) -> Take:
        """
        The fast path for messages of C{peer} to a service that has a receiver, until services change.

        @param refused: called with the outcome of a message that was not taken.
        """
        place = self._places[service]
        only = place.takers[0] if len(place.takers) == 1 else None
        counters = self.counters
        name, node_id, roles, new = peer.name, peer.node_id, peer.roles, tuple.__new__

        def done(outcome: Outcome, said: str, answer: bytes) -> None:
            if outcome is not Outcome.DELIVERED:
                refused(outcome)

        def take(data: bytes) -> None:
            message = new(Message, (name, node_id, roles, service, data, "", False))
            if only is None or only.keeps or len(only.pending) >= only.concurrent:
                self.deliver(message, done)
                return
            try:
                result = only.receiver(message)
            except BaseException:
                self._raised(only)
                refused(Outcome.REFUSED)
                return
            counters["handed"] += 1
            if result is not None:
                delivery = Delivery(message, _ignore)
                delivery.hands = 1
                self._answered(place, only, delivery, result)

        return take

    def purge(self, source_id: str) -> None:
        """Drop queued messages of a node that is not believed any more. Their keys are new if it returns."""
        for place in (*self._places.values(), *self._awaited):
            for delivery in place.queue:
                if delivery.message.source_id == source_id:
                    self._keyed.pop(_keyed(delivery.message), None)
            self.counters["purged"] += place.purge(source_id)

    def _hand(self, place: ServiceQueue, taker: Taker, delivery: Delivery) -> None:
        message = delivery.message
        if message.key and self._keys is not None:
            who = _keyed(message)
            known = self._keys.find(*who) is KeyState.HANDED
            if known and not message.redelivered:
                message = message._replace(redelivered=True)
            if not known:
                self._keys.handed(*who)
        if delivery.hands and not message.redelivered:
            message = message._replace(redelivered=True)
        delivery.hands += 1
        delivery.message = message
        if taker.keeps:
            delivery.taker = taker
            taker.pending[delivery] = None
        try:
            result = taker.receiver(delivery if taker.keeps else message)
        except BaseException:
            taker.pending.pop(delivery, None)
            self._end(delivery, Outcome.REFUSED, self._raised(taker))
            return
        self.counters["handed"] += 1
        if delivery.handed is not None:
            delivery.handed()
        if taker.keeps:
            return
        if result is None:
            self._end(delivery, _DELIVERED)
        else:
            self._answered(place, taker, delivery, result)

    def _raised(self, taker: Taker) -> str:
        """
        A receiver raised, which is how it refuses a message when it is one of our errors.

        @return: what its sender is told.
        """
        error = sys.exc_info()[1]
        if isinstance(error, GmeshError):
            self.counters["receiver-refused"] += 1
            return error.detail
        taker.faults.failed("receiver", Failure())
        return ""

    def _answered(self, place: ServiceQueue, taker: Taker, delivery: Delivery, answer: object) -> None:
        """What a receiver returned: it is busy until that is done, if that can be waited for."""
        try:
            deferred = ensureDeferred(cast(Coroutine[Deferred[Any], Any, Any], answer))
        except BaseException:  # it is neither, or a proxy that raises when it is asked what it is
            taker.faults.odd(answer)
            self._end(delivery, Outcome.DELIVERED)
            return
        taker.pending[delivery] = None
        about = place, taker, delivery
        deferred.addCallbacks(self._free, self._failed, callbackArgs=about, errbackArgs=about)

    def ended(self, delivery: Delivery, answer: bytes) -> None:
        """A L{Keeper} is done with a message; what it says once the message was taken from it is ignored."""
        if delivery.taker is not None:
            self._free(answer, self._places.get(delivery.message.service), delivery.taker, delivery)

    def refused(self, delivery: Delivery, error: GmeshError) -> None:
        """A L{Keeper} refuses it."""
        if delivery.taker is not None:
            self.counters["receiver-failed"] += 1
            place = self._places.get(delivery.message.service)
            self._free(_Refusal(error), place, delivery.taker, delivery)

    def _failed(self, failure: Failure, place: ServiceQueue, taker: Taker, delivery: Delivery) -> None:
        if failure.check(GmeshError):
            self.counters["receiver-failed"] += 1
        else:
            taker.faults.failed("receiver", failure)
        self._free(_Refusal(failure.value), place, taker, delivery)

    def _free(self, result: object, place: ServiceQueue | None, taker: Taker, delivery: Delivery) -> None:
        """A receiver is done with one message, unless another has it by now."""
        if delivery not in taker.pending:
            return
        del taker.pending[delivery]
        if isinstance(result, _Refusal):
            self._end(delivery, Outcome.REFUSED, result.said)
        elif not isinstance(result, bytes):
            self._end(delivery, _DELIVERED)
        elif len(result) <= MAX_ANSWER:
            self._end(delivery, _DELIVERED, "", result)
        else:
            self.counters["answer-too-large"] += 1
            self._end(delivery, Outcome.REFUSED, f"its answer has more than {MAX_ANSWER} bytes")
        if place is not None and place.queue:
            self._drain(place)

    def _drain(self, place: ServiceQueue) -> None:
        """Hand over what waits, in this one loop also messages that are done at once."""
        if place.draining:
            return
        place.draining = True
        try:
            while place.queue:
                taker = place.free()
                if taker is None:
                    return
                self._hand(place, taker, place.next())
        finally:
            place.draining = False

    def _refuse_waiting(self, place: ServiceQueue, outcome: Outcome) -> None:
        while place.queue:
            self._end(place.next(), outcome)

    def _end(self, delivery: Delivery, outcome: Outcome, said: str = "", answer: bytes = b"") -> None:
        """What became of a message; of one with a key when that is on disk."""
        keys = self._keys
        if not delivery.message.key:
            delivery.done(outcome, said, answer)
            return
        if keys is None:
            self._tell(delivery, outcome, said, answer)
            return
        key = _keyed(delivery.message)
        if outcome is Outcome.DELIVERED:
            keys.acknowledged(*key).addCallbacks(
                lambda _: self._tell(delivery, outcome, said, answer),
                lambda _: self._tell(delivery, Outcome.REFUSED, _KEY_LOST),
            )
            return
        if outcome is Outcome.REFUSED:
            keys.refused(*key)
        self._tell(delivery, outcome, said)

    def _tell(self, delivery: Delivery, outcome: Outcome, said: str, answer: bytes = b"") -> None:
        self._keyed.pop(_keyed(delivery.message), None)
        waiting, delivery.waiting = delivery.waiting, ()
        for done in (delivery.done, *waiting):
            done(outcome, said, answer)


class _Refusal:
    """A receiver failed. @ivar said: what the sender is told of it."""

    def __init__(self, error: BaseException | None) -> None:
        self.said = error.detail if isinstance(error, GmeshError) else ""


def _keyed(message: Message) -> tuple[str, str, str]:
    return message.source_id, message.service, message.key
