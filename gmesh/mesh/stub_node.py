# SPDX-License-Identifier: MIT
"""
A node that keeps no table: it asks a neighbour for each path it needs, and believes signatures only.

The neighbour answers with the node records along its path.  They are judged like all others and make
a small graph, on which paths are found as everywhere: so a neighbour can hide links but not invent
them.  When an UNREACH proves that a link of it fell, the path is gone and the question
is asked again.
Tests: C{tests/node/test_stub_nodes.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from gmesh.interfaces import IRouteEngine
from gmesh.mesh.counters import Counters
from gmesh.mesh.flooding import Flooding
from gmesh.mesh.limits import (
    MAX_QUESTIONS,
    MAX_STUB_ORIGINS,
    MAX_STUB_PATHS,
    PATH_AGAIN,
    PATH_FRESH,
    PATH_PATIENCE,
)
from gmesh.mesh.neighbour import Neighbour
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.plumtree import Spreader
from gmesh.mesh.timers import cancel_calls
from gmesh.routing.engine import RouteEngine
from gmesh.routing.record import peek
from gmesh.routing.store import Key
from gmesh.wire.frames import Kind
from gmesh.wire.messages import NO_HANDLE, PathReply, PathRequest, RecordNumber, RecordSummary

__all__ = ["PathSeeker", "StubFlooding"]

_NOWHERE: frozenset[bytes] = frozenset()


class _OwnRecord(Spreader):
    """Our own record goes to every neighbour; nothing of others does."""

    def spread(self, key: Key, data: bytes, but: Neighbour | None = None) -> None:
        """To all, or to none."""
        if key[0] == self._engine.handle:
            super().spread(key, data, but)


@dataclass(slots=True, eq=False)
class _Question:
    """
    A path that is waited for.

    @ivar left: the neighbours to ask next.
    @ivar asked: the one asked last.
    """

    destination: bytes
    name: str
    left: list[Neighbour]
    asked: Neighbour | None = None
    number: int = 0
    timer: IDelayedCall | None = None
    waiting: list[Deferred[None]] = field(default_factory=list)


@implementer(IRouteEngine)
class PathSeeker:
    """
    Paths as needed.

    @param find_name: the certificates held, by node name.
    """

    def __init__(
        self,
        engine: RouteEngine,
        neighbours: Neighbours,
        find_name: Callable[[str], Peer | None],
        clock: IReactorTime,
        counters: Counters,
    ) -> None:
        self._found: Callable[[bytes], object] | None = None
        self._engine = engine
        self._neighbours = neighbours
        self._find_name = find_name
        self._clock = clock
        self._counters = counters
        self._questions: dict[tuple[bytes, str], _Question] = {}
        self._number = 0
        self._asked: dict[tuple[bytes, str], float] = {}

    def serve(self, found: Callable[[bytes], object]) -> None:
        """
        Serve the ends of this node, which ask for paths here and so are made after this.

        @param found: called with the handle of a node to which there is a path now.
        """
        self._found = found

    def path(
        self, destination: bytes, now: float, avoid: frozenset[bytes] = _NOWHERE
    ) -> tuple[bytes, ...] | None:
        """The path as far as is known; asked for if there is none, and now and then while it is used."""
        path = self._engine.path(destination, now, avoid)
        if path is None:
            self._ask(destination, "")
        elif now - self._asked.setdefault((destination, ""), now) >= PATH_FRESH:
            self._ask(destination, "", afresh=False)
        return path

    def seek(self, name: str) -> Deferred[None]:
        """
        Find the node of this name and a path to it.

        @return: Deferred that fires when that ended, found or not.
        """
        peer = self._find_name(name)
        handle = NO_HANDLE if peer is None else peer.handle
        if peer is not None and self._engine.path(handle, self._clock.seconds()) is not None:
            return succeed(None)
        question = self._ask(handle, name if peer is None else "")
        if question is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred(question.waiting.remove)
        question.waiting.append(waiting)
        return waiting

    def expects(self, neighbour: Neighbour, reply: PathReply) -> bool:
        """Whether this answers a question that this neighbour was asked last."""
        question = self._numbered(reply.request)
        return question is not None and question.asked is neighbour

    def ask_another(self, number: int) -> None:
        """The neighbour that was asked this question knows no path: the next one may."""
        question = self._numbered(number)
        if question is not None:
            self._next(question)

    def _numbered(self, number: int) -> _Question | None:
        return next((each for each in self._questions.values() if each.number == number), None)

    def stop(self) -> None:
        """Wait for nothing more."""
        for question in list(self._questions.values()):
            self._end(question)

    def _ask(self, destination: bytes, name: str, afresh: bool = True) -> _Question | None:
        """
        Begin to ask, unless that is under way or was done just now.

        @param afresh: what is known is useless, and is dropped when it is too much.
        @return: None where there is nothing to wait for, as without a neighbour to ask.
        """
        key, now = (destination, name), self._clock.seconds()
        question = self._questions.get(key)
        if question is not None:
            return question
        if len(self._questions) >= MAX_QUESTIONS or now - self._asked.get(key, -PATH_AGAIN) < PATH_AGAIN:
            self._counters.count("path-not-asked")
            return None
        relays = [neighbour for neighbour in self._neighbours if neighbour.peer.relay]
        itself = self._neighbours.by_handle.get(destination)
        question = _Question(destination, name, relays if itself is None else [itself])
        if afresh and self._engine.store.origins > MAX_STUB_ORIGINS:
            self._engine.forget(now)
            self._asked.clear()
        while len(self._asked) >= MAX_STUB_PATHS:
            del self._asked[next(iter(self._asked))]
        self._asked.pop(key, None)
        self._asked[key] = now
        self._questions[key] = question
        self._next(question)
        return self._questions.get(key)

    def _next(self, question: _Question) -> None:
        """Ask the next neighbour."""
        cancel_calls(question.timer)
        if not question.left:
            self._counters.count("path-not-found")
            self._end(question)
            return
        question.asked = question.left.pop(0)
        self._number = question.number = (self._number + 1) % 2**32
        self._counters.count("path-asked")
        question.timer = self._clock.callLater(PATH_PATIENCE, self._next, question)
        request = PathRequest(question.number, question.destination, question.name)
        question.asked.send(Kind.PATH_REQ, request.encode())

    def look(self) -> None:
        """Something is news: does it answer a question?"""
        now = self._clock.seconds()
        for question in list(self._questions.values()):
            peer = self._find_name(question.name) if question.name else None
            handle = question.destination if peer is None else peer.handle
            if handle != NO_HANDLE and self._engine.path(handle, now) is not None:
                self._asked[handle, ""] = now
                self._end(question)
                if self._found is not None:
                    self._found(handle)

    def _end(self, question: _Question) -> None:
        """Answered, or given up."""
        cancel_calls(question.timer)
        del self._questions[question.destination, question.name]
        waiting, question.waiting = question.waiting, []
        for deferred in waiting:
            deferred.callback(None)


class StubFlooding(Flooding):
    """
    Records of a node that keeps no table: it spreads its own, and takes what it asked for.

    @param seeker: asked for paths; it looks for them whenever a record is believed.
    """

    spreader = _OwnRecord

    def __init__(
        self,
        engine: RouteEngine,
        neighbours: Neighbours,
        clock: IReactorTime,
        wall: Callable[[], float],
        counters: Counters,
        sequence_used: Callable[[int], object],
        seeker: PathSeeker,
    ) -> None:
        super().__init__(engine, neighbours, clock, wall, counters, sequence_used)
        self._seeker = seeker

    def records_received(self, neighbour: Neighbour, records: Iterable[bytes]) -> None:
        """Unasked, only what is newer than something held. @raise FrameRefused: as in any other node."""
        store = self._engine.store
        for data in records:
            seen = peek(data)
            if seen is None or store.fragments(seen[0]):
                self._offer(neighbour, data)

    def path_answered(self, neighbour: Neighbour, reply: PathReply) -> None:
        """PATH_REP: its records prove the path. @raise FrameRefused: if one of them is not a record."""
        if not self._seeker.expects(neighbour, reply):
            self._counters.count("path-unasked")
        elif reply.path:
            super().records_received(neighbour, reply.records)
            self._seeker.look()
        else:
            self._seeker.ask_another(reply.request)

    def _learned(self) -> None:
        self._seeker.look()

    def named(self, neighbour: Neighbour, entries: Iterable[RecordNumber]) -> None:
        """IHAVE: nothing is wanted."""

    def listed(self, neighbour: Neighbour, entries: Iterable[RecordSummary]) -> None:
        """SYNC_LIST: nothing is wanted."""

    def resync(self) -> None:
        """There is no table to compare."""
