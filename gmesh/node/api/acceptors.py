# SPDX-License-Identifier: MIT
"""
Programs that accept streams: to listen is to keep a connection waiting, which becomes the stream.

There is no token and no registration: a service belongs to the user whose program waits for it, and for a
moment after the last such program is gone, so that one that has just been given a stream may come back.
Programs of one user share the work in turn.  Tests: C{tests/node/api/test_acceptors.py}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime

from gmesh.addresses import MeshAddress
from gmesh.endtoend.services import is_reserved, valid_service
from gmesh.errors import RequestRefused
from gmesh.node.api.access import AccessControl, Credentials, Permission, ServiceGroups
from gmesh.node.limits import MAX_ACCEPTING, MAX_OFFERS, NAME_KEPT
from gmesh.streams.listeners import BENCH_SERVICE

__all__ = ["Acceptor", "Acceptors", "check_acceptable"]


def check_acceptable(service: str) -> None:
    """@raise RequestRefused: C{bad-service}, if no program may serve C{service}."""
    if not valid_service(service) or is_reserved(service):
        raise RequestRefused(
            "bad-service", "a service is a-z, 0-9 and -, with a letter or digit at both ends"
        )
    if service == BENCH_SERVICE:
        raise RequestRefused("bad-service", f"{service} is a service of gmesh itself")


class Acceptor:
    """
    One waiting connection.

    @param begun: called once it waits, before it is given anything.
    @param build: makes the protocol of the stream that it is given.
    @param refuse: called with a L{RequestRefused} if it may not wait any longer.
    """

    def __init__(
        self,
        credentials: Credentials | None,
        begun: Callable[[], object],
        build: Callable[[MeshAddress], IProtocol],
        refuse: Callable[[RequestRefused], object],
    ) -> None:
        self.credentials = credentials
        self.begun = begun
        self.build = build
        self.refuse = refuse

    @property
    def owner(self) -> int | None:
        """Its user; all that cannot be told apart are one."""
        return None if self.credentials is None else self.credentials.uid


class _Place:
    """A service that programs of one user accept."""

    def __init__(self, service: str, owner: int | None) -> None:
        self.service = service
        self.owner = owner
        self.waiting: deque[Acceptor] = deque()
        self.offers: deque[Any] = deque()
        self.listening: Any = None
        self.closing: IDelayedCall | None = None


class Acceptors:
    """
    Who accepts what.

    @param streams: an L{gmesh.interfaces.IStreams}.
    @param control: who may write at all.
    @param groups: who of those may accept a service.
    """

    def __init__(
        self, streams: Any, control: AccessControl, groups: ServiceGroups, clock: IReactorTime
    ) -> None:
        self._streams = streams
        self._control = control
        self._groups = groups
        self._clock = clock
        self._places: dict[str, _Place] = {}

    def wait(self, service: str, acceptor: Acceptor) -> Callable[[], None]:
        """
        Have C{acceptor} given a stream to C{service}, when its turn comes.

        @return: what takes it away again; harmless once it has its stream.
        @raise GmeshError: C{bad-service}, C{forbidden}, C{service-taken}, C{busy}, or what
            L{gmesh.interfaces.IStreams} refuses.
        """
        self.admit(service, acceptor.credentials)
        place = self._place(service, acceptor.owner)
        if len(place.waiting) >= MAX_ACCEPTING:
            raise RequestRefused("busy", f"{MAX_ACCEPTING} programs wait for {service} already")
        if place.closing is not None:
            place.closing.cancel()
            place.closing = None
        place.waiting.append(acceptor)
        acceptor.begun()
        self._serve(place)
        return lambda: self._left(place, acceptor)

    def admit(self, service: str, credentials: Credentials | None) -> None:
        """@raise RequestRefused: if a program of this user may not accept C{service}, whoever else does."""
        check_acceptable(service)
        self._control.admit(credentials, Permission.WRITE)
        self._groups.admit(credentials, service)

    def regroup(self, groups: ServiceGroups) -> None:
        """Judge by these from now on, also those that wait."""
        self._groups = groups
        self.judge()

    def judge(self) -> None:
        """Ask again who of those that wait may, and what was admitted before."""
        for place in list(self._places.values()):
            for acceptor in list(place.waiting):
                try:
                    self.admit(place.service, acceptor.credentials)
                except RequestRefused as error:
                    self._left(place, acceptor)
                    acceptor.refuse(error)
        self._control.admitted.judge()

    def stop(self) -> None:
        """Accept nothing more; whoever waits goes on waiting."""
        for place in list(self._places.values()):
            if place.closing is not None:
                place.closing.cancel()
            self._free(place)

    def _place(self, service: str, owner: int | None) -> _Place:
        place = self._places.get(service)
        if place is None:
            place = _Place(service, owner)
            self._places[service] = place
            try:
                place.listening = self._streams.listen(service, lambda offer: self._offered(place, offer))
            except BaseException:
                del self._places[service]
                raise
        elif place.owner != owner:
            raise RequestRefused("service-taken", f"a program of another user accepts {service}")
        return place

    def _offered(self, place: _Place, offer: Any) -> None:
        if not place.waiting and len(place.offers) >= MAX_OFFERS:
            offer.refuse("busy", f"the programs of {place.service} do not keep up")
            return
        offer.gone.addCallback(lambda _: _drop(place.offers, offer))
        place.offers.append(offer)
        self._serve(place)

    def _serve(self, place: _Place) -> None:
        while place.waiting and place.offers:
            offer, acceptor = place.offers.popleft(), place.waiting.popleft()
            if not offer.accept(acceptor.build(offer.peer)):
                place.waiting.appendleft(acceptor)
        self._look(place)

    def _left(self, place: _Place, acceptor: Acceptor) -> None:
        _drop(place.waiting, acceptor)
        self._look(place)

    def _look(self, place: _Place) -> None:
        """Free the name in a while, if nobody waits for its streams."""
        if not place.waiting and place.closing is None and self._places.get(place.service) is place:
            place.closing = self._clock.callLater(NAME_KEPT, self._free, place)

    def _free(self, place: _Place) -> None:
        place.closing = None
        if self._places.get(place.service) is not place:
            return
        del self._places[place.service]
        place.listening.stopListening()
        for offer in list(place.offers):
            offer.refuse("no-such-service", f"the programs of {place.service} are gone")
        place.offers.clear()


def _drop(queue: deque[Any], item: object) -> None:
    if item in queue:
        queue.remove(item)
