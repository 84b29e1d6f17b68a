# SPDX-License-Identifier: MIT
"""
Local ports that lead to services of other nodes: each connection is joined to a stream.

A port that cannot be had costs one line, and the others are served; the next reload tries it again.
Tests: C{tests/node/gateways/test_forwards.py}, C{tests/live/test_streams_by_programs.py}.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.daemon.listen import ListenService
from gmesh.errors import ConfigurationError, RequestRefused
from gmesh.interfaces import IStreams
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.node.gateways.settings import Forward
from gmesh.node.limits import MAX_FORWARDED, MAX_FORWARDED_ALL
from gmesh.streams.join import JoinEnd, TransportJoin

__all__ = ["Forwarded", "ForwardFactory", "Forwards"]


class ForwardFactory(Factory):
    """
    Dials one stream for each connection of one forward.

    @param all_open: how many connections all forwards have.
    @param count: counts a cause.
    @ivar joins: those that are open or being opened.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        clock: Any,
        streams: IStreams,
        forward: Forward,
        all_open: Callable[[], int] = lambda: 0,
        count: Callable[[str], object] = lambda cause: None,
    ) -> None:
        self._all_open = all_open
        self._count = count
        self._clock = clock
        self._streams = streams
        self._forward = forward
        self._lines = SpacedLog()
        self.joins: set[TransportJoin] = set()

    def buildProtocol(self, addr: IAddress | None) -> JoinEnd:
        """The near end of a join; its far end is being dialled, unless there are too many."""
        if len(self.joins) >= MAX_FORWARDED or self._all_open() >= MAX_FORWARDED_ALL:
            return self._one_too_many()
        dialling: list[Deferred[Any]] = []

        def over() -> None:
            self.joins.discard(join)
            for dial in dialling:
                dial.cancel()

        join = TransportJoin(self._clock, over, f"forward {self._forward.listen}")
        self.joins.add(join)
        dialling.append(self._streams.dial(self._forward.node, self._forward.service, lambda peer: join.far))
        dialling[0].addErrback(self._refused, join)
        return join.near

    def _one_too_many(self) -> JoinEnd:
        """What breaks a connection as soon as it is there."""
        self._count("forward-full")
        self._warn("full", f"{len(self.joins)} connections are open, {self._all_open()} of all forwards")
        join = TransportJoin(self._clock)
        join.far.give_up()
        return join.near

    def _refused(self, failure: Failure, join: TransportJoin) -> None:
        join.far.give_up()
        if join in self.joins:  # else the program has hung up, and it was cancelled
            self._warn("dial", str(failure.value))

    def _warn(self, what: str, cause: str) -> None:
        self._lines.write(
            self._log.warn,
            self._clock.seconds(),
            what,
            self._forward.to,
            "forward {listen} to {to}: {cause}",
            listen=self._forward.listen,
            to=self._forward.to,
            cause=cause,
        )


class Forwarded:
    """
    One forward.

    @ivar number: its id.
    @ivar trouble: why its port is not open; empty while it is.
    @ivar lasting: it stands in the configuration file.
    @ivar removed: fires with None once it is no more.
    @ivar ended_by: why it is no more, if its program may not have it.
    """

    def __init__(self, number: int, forward: Forward, factory: ForwardFactory, lasting: bool) -> None:
        self.number = number
        self.forward = forward
        self.factory = factory
        self.lasting = lasting
        self.trouble = ""
        self.service: ListenService | None = None
        self.removed: Deferred[None] = Deferred()
        self.ended_by = ""

    @property
    def joins(self) -> set[TransportJoin]:
        """Its connections."""
        return self.factory.joins

    def row(self) -> dict[str, Any]:
        """For programs of this host."""
        return {
            "id": self.number,
            "listen": self.forward.listen,
            "to": self.forward.to,
            "lasting": self.lasting,
            "trouble": self.trouble or None,
            "open": len(self.factory.joins),
        }


class Forwards(MultiService):
    """
    All of them.

    @param unit: the daemon, for the log.
    @param forwards: what the configuration file says at the start.
    @param count: counts a cause.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        streams: IStreams,
        unit: str,
        forwards: Iterable[Forward] = (),
        count: Callable[[str], object] = lambda cause: None,
    ) -> None:
        super().__init__()
        self._count = count
        self._reactor = reactor
        self._streams = streams
        self._unit = unit
        self._asked: tuple[Forward, ...] | None = tuple(forwards)
        self._forwarded: dict[int, Forwarded] = {}
        self._numbers = itertools.count(1)
        self._lock = DeferredLock()

    def privilegedStartService(self) -> None:
        """Open the ports that the file names, before privileges are dropped."""
        super().privilegedStartService()
        asked, self._asked = self._asked, None
        for forward in asked or ():
            Deferred.fromCoroutine(self._add(forward, lasting=True))

    def startService(self) -> None:
        """Serve, if no privileged start came before."""
        if self._asked is not None:
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> Any:
        """Close all ports, and break what is joined."""
        for forwarded in self._forwarded.values():
            for join in list(forwarded.factory.joins):
                join.abort()
        return super().stopService()

    async def follow(self, forwards: Iterable[Forward]) -> list[str]:
        """
        Have those that the configuration file names now; no connection is touched.

        @return: what cannot be had, one line each; the others are.
        """
        wanted = tuple(dict.fromkeys(forwards))
        await self._lock.acquire()
        try:
            return await self._follow(wanted)
        finally:
            self._lock.release()

    async def add(self, forward: Forward) -> Forwarded:
        """
        Have this too, until it is removed.

        @raise ConfigurationError: C{no-port}, if its port cannot be had.
        """
        forwarded = await self._add(forward, lasting=False)
        if forwarded.trouble:
            del self._forwarded[forwarded.number]
            raise ConfigurationError("no-port", forwarded.trouble)
        return forwarded

    def find(self, number: int) -> Forwarded:
        """@raise RequestRefused: C{no-such-forward}, if there is none of this id."""
        forwarded = self._forwarded.get(number)
        if forwarded is None:
            raise RequestRefused("no-such-forward", f"there is no forward {number}")
        return forwarded

    async def remove(self, forwarded: Forwarded) -> None:
        """Close its port; its connections stay. May be called twice."""
        if self._forwarded.get(forwarded.number) is forwarded:
            await self._remove(forwarded)

    def rows(self) -> list[dict[str, Any]]:
        """All of them, oldest first."""
        return [forwarded.row() for forwarded in self._forwarded.values()]

    async def _follow(self, wanted: tuple[Forward, ...]) -> list[str]:
        kept = set()
        for forwarded in [each for each in self._forwarded.values() if each.lasting]:
            if forwarded.forward in wanted and not forwarded.trouble:
                kept.add(forwarded.forward)
            else:
                await self._remove(forwarded)
        added = [await self._add(forward, lasting=True) for forward in wanted if forward not in kept]
        return [f"forward to {each.forward.to}: {each.trouble}" for each in added if each.trouble]

    async def _add(self, forward: Forward, lasting: bool) -> Forwarded:
        factory = ForwardFactory(self._reactor, self._streams, forward, self._open, self._count)
        forwarded = Forwarded(next(self._numbers), forward, factory, lasting)
        self._forwarded[forwarded.number] = forwarded
        try:
            service = ListenService(
                self._reactor, forward.listen, factory, f"forward to {forward.to}", self._unit
            )
            await service.open()
        except ConfigurationError as error:
            forwarded.trouble = error.detail
            if lasting:
                self._log.error("forward to {to}: {cause}", to=forward.to, cause=error.detail)
            return forwarded
        forwarded.service = service
        service.setServiceParent(self)
        return forwarded

    def _open(self) -> int:
        return sum(len(each.joins) for each in self._forwarded.values())

    async def _remove(self, forwarded: Forwarded) -> None:
        del self._forwarded[forwarded.number]
        if forwarded.service is not None:
            await forwarded.service.disownServiceParent()
            self._log.info("forward no more on {listen}", listen=forwarded.forward.listen)
        forwarded.removed.callback(None)
