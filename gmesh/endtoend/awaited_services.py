# SPDX-License-Identifier: MIT
"""
Services that nobody serves yet: for a while after the start of a node their programs are on their way back.

Tests: C{tests/endtoend/test_awaited_services.py}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from math import inf

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.service_queue import Delivery, ServiceQueue

__all__ = ["AwaitedServices"]


class AwaitedServices:
    """
    What waits for a first receiver.

    What a node makes this one keep counts until its services are awaited no more: L{limits.AWAITED_COST} for
    each that it named first, and for each message its data and L{limits.MESSAGE_COST}.

    @param missed: called with a queue for which nobody came.
    @param own_id: node_id of this node, as whose messages come those of all programs here: only the whole
        bounds them.
    """

    def __init__(
        self, clock: IReactorTime, missed: Callable[[ServiceQueue], object], own_id: str = ""
    ) -> None:
        self._clock = clock
        self._missed = missed
        self._own_id = own_id
        self._until = -inf
        self._patience = 0.0
        self._places: dict[str, ServiceQueue] = {}
        self.get = self._places.get
        self._costs: dict[str, Counter[str]] = {}  # of each service, by node
        self._parts: Counter[str] = Counter()  # of each node
        self._total = 0

    def __iter__(self) -> Iterator[ServiceQueue]:
        return iter(list(self._places.values()))

    def hold(self, window: float, patience: float) -> None:
        """For C{window} seconds from now, let messages wait C{patience} seconds at most."""
        self._until, self._patience = self._clock.seconds() + window, patience

    def has_room(self, service: str, source_id: str, size: int) -> bool:
        """True if a message to C{service}, which has no receiver, may wait for one."""
        if self._clock.seconds() >= self._until:
            return False
        cost, place = self._cost(service, size), self._places.get(service)
        return (
            self._total + cost <= limits.SERVICE_TOTAL_BYTES
            and (source_id == self._own_id or self._parts[source_id] + cost <= limits.SERVICE_QUEUE_BYTES)
            and (place is None or place.has_room(source_id, size))
        )

    def wait(self, delivery: Delivery) -> None:
        """Keep a message for which there is room."""
        service, source_id = delivery.message.service, delivery.message.source_id
        cost, place = self._cost(service, len(delivery.message.data)), self._places.get(service)
        if place is None:
            place = self._places[service] = ServiceQueue(service, None)
            self._costs[service] = Counter()
            place.ends = self._clock.callLater(self._patience, self._expire, place)
        self._costs[service][source_id] += cost
        self._parts[source_id] += cost
        self._total += cost
        place.wait(delivery)

    def claim(self, service: str, owner: object) -> ServiceQueue:
        """The queue of a service that has a receiver now."""
        place = self._places.get(service)
        if place is None:
            return ServiceQueue(service, owner)
        self._over(place)
        place.cancel()
        place.owner = owner
        return place

    def stop(self) -> list[ServiceQueue]:
        """Nobody will come. @return: what waited."""
        self._until = -inf
        places = list(self)
        for place in places:
            self._over(place)
            place.cancel()
        return places

    def _cost(self, service: str, size: int) -> int:
        return size + limits.MESSAGE_COST + (0 if service in self._places else limits.AWAITED_COST)

    def _over(self, place: ServiceQueue) -> None:
        """It is awaited no more."""
        del self._places[place.service]
        for source_id, cost in self._costs.pop(place.service).items():
            self._total -= cost
            self._parts[source_id] -= cost
            if not self._parts[source_id]:
                del self._parts[source_id]

    def _expire(self, place: ServiceQueue) -> None:
        self._over(place)
        self._missed(place)
