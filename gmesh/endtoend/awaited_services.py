# SPDX-License-Identifier: MIT
"""
Services that nobody serves yet: for a while after the start of a node their programs are on their way back.

Tests: C{tests/endtoend/test_awaited_services.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.service_queue import Delivery, ServiceQueue

__all__ = ["AwaitedServices"]


class AwaitedServices:
    """
    What waits for a first receiver.

    @param missed: called with a queue for which nobody came.
    """

    def __init__(self, clock: IReactorTime, missed: Callable[[ServiceQueue], object]) -> None:
        self._clock = clock
        self._missed = missed
        self._until = -inf
        self._patience = 0.0
        self._places: dict[str, ServiceQueue] = {}
        self.get = self._places.get
        self._asked: dict[str, str] = {}  # who asked first, by service

    def __iter__(self) -> Iterator[ServiceQueue]:
        return iter(list(self._places.values()))

    def hold(self, window: float, patience: float) -> None:
        """For C{window} seconds from now, let messages wait C{patience} seconds at most."""
        self._until, self._patience = self._clock.seconds() + window, patience

    def has_room(self, service: str, source_id: str, size: int) -> bool:
        """True if a message to C{service}, which has no receiver, may wait for one."""
        if self._clock.seconds() >= self._until:
            return False
        places, place = self._places.values(), self._places.get(service)
        if place is None:
            mine = list(self._asked.values()).count(source_id)
            if len(places) >= limits.MAX_AWAITED or mine >= limits.MAX_PEER_AWAITED:
                return False
            place = ServiceQueue(service, None)
        return (
            sum(each.bytes for each in places) + size <= limits.SERVICE_TOTAL_BYTES
            and sum(each.bytes_of(source_id) for each in places) + size <= limits.SERVICE_QUEUE_BYTES
            and place.has_room(source_id, size)
        )

    def wait(self, delivery: Delivery) -> None:
        """Keep a message for which there is room."""
        service = delivery.message.service
        place = self._places.get(service)
        if place is None:
            place = self._places[service] = ServiceQueue(service, None)
            self._asked[service] = delivery.message.source_id
            place.ends = self._clock.callLater(self._patience, self._expire, place)
        place.wait(delivery)

    def claim(self, service: str, owner: object) -> ServiceQueue:
        """The queue of a service that has a receiver now."""
        place = self._places.pop(service, None)
        if place is None:
            return ServiceQueue(service, owner)
        del self._asked[service]
        place.cancel()
        place.owner = owner
        return place

    def stop(self) -> list[ServiceQueue]:
        """Nobody will come. @return: what waited."""
        self._until = -inf
        places = list(self)
        self._places.clear()
        self._asked.clear()
        for place in places:
            place.cancel()
        return places

    def _expire(self, place: ServiceQueue) -> None:
        del self._places[place.service], self._asked[place.service]
        self._missed(place)
