# SPDX-License-Identifier: MIT
"""
Large documents on their way here, in pieces: who is asked for one, and when somebody else is as well.

An announcement is a hint.  Four sources at a time are asked for the document that a verified status names,
and one for any other: its number is only claimed.  A source that falls behind a least rate gets company soon,
one that keeps it a little later; where all places are taken, the one that has longest to go gives way.  Who
lets others wait has to wait, each time longer (L{gmesh.mesh.standing}), so members that take turns run out.
Tests: C{tests/mesh/test_gossip_pulls.py}, C{tests/mesh/test_withheld_documents.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from random import Random

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.errors import FrameRefused
from gmesh.mesh.counters import Counters
from gmesh.mesh.limits import (
    ASSEMBLY_STALL,
    DOCUMENT_WINDOW,
    PULL_AGAIN,
    PULL_BESIDE,
    PULL_COMPANY,
    PULL_LEAST,
    PULL_PATIENCE_MOST,
    PULL_RATE,
    PULLS_CLAIMED,
    PULLS_NAMED,
)
from gmesh.mesh.neighbour import Neighbour
from gmesh.mesh.neighbours import Neighbours
from gmesh.wire.limits import MAX_DOCUMENT_CHUNK
from gmesh.wire.messages import DocumentAssembler, DocumentPush, DocumentRequest

__all__ = ["DocumentPulls"]


@dataclass(slots=True, eq=False)
class _Pull:
    """One document on its way from one neighbour."""

    neighbour: Neighbour
    assembler: DocumentAssembler
    begun: float
    progress: float
    again: float
    asked: int = 0

    @property
    def received(self) -> int:
        return self.assembler.request.offset

    def behind(self, now: float) -> bool:
        """Whether less came than from a source that keeps the rate."""
        return self.received < PULL_RATE * (now - self.begun - PULL_BESIDE)

    def overdue(self, now: float) -> bool:
        """Whether it is not worth waiting for, even if there is nobody else."""
        return now >= self.progress + ASSEMBLY_STALL or (
            now >= self.begun + ASSEMBLY_STALL + self.assembler.total / PULL_LEAST
        )

    def left(self, now: float) -> float:
        """Seconds to the end, at the pace so far."""
        pace = self.received / max(now - self.begun, PULL_BESIDE)
        return (self.assembler.total - self.received) / pace if pace else inf


class DocumentPulls:
    """
    What is pulled from whom.

    @param wanted: (type, number) -> whether such a document would be taken now.
    @param named: type -> the number that the verified status names and that is not held, or 0.
    @param ask: sends a request for a piece.
    """

    def __init__(
        self,
        neighbours: Neighbours,
        clock: IReactorTime,
        random: Random,
        counters: Counters,
        wanted: Callable[[str, int], bool],
        named: Callable[[str], int],
        ask: Callable[[Neighbour, str, DocumentRequest], None],
    ) -> None:
        self._neighbours = neighbours
        self._clock = clock
        self._random = random
        self._counters = counters
        self._wanted = wanted
        self._named = named
        self._ask = ask
        self._pulls: dict[str, list[_Pull]] = {}
        self._refused: dict[bytes, None] = {}
        self._judging: set[str] = set()
        self._gave_way: dict[str, int] = {}
        self._timer: IDelayedCall | None = None

    def under_way(self, name: str, number: int) -> bool:
        """Whether a document of this number is on its way from somebody."""
        return any(each.assembler.number == number for each in self._pulls.get(name, ()))

    def announced(self, neighbour: Neighbour, name: str, push: DocumentPush) -> None:
        """A neighbour says that it holds this: it may be asked for it from now on."""
        if not self._wanted(name, push.number) or push.digest in self._refused:
            return
        neighbour.offers[name] = DocumentPush(push.number, push.digest, push.total, 0, b"")
        pull = self._of(neighbour, name)
        if pull is not None and pull.assembler.digest != push.digest:
            self._pulls[name].remove(pull)
        self.look(name)

    def take(self, neighbour: Neighbour, name: str, push: DocumentPush) -> bytes | None:
        """
        A piece, which is an announcement as well if it is the first one.

        @return: the document, once that was the last; nobody else is asked for one until L{judged} is called.
        @raise FrameRefused: if the pieces do not make the document announced.
        """
        if not push.offset and self._of(neighbour, name) is None:
            self.announced(neighbour, name, push)
        pull, now = self._of(neighbour, name), self._clock.seconds()
        if pull is None:
            return None
        before = pull.received
        try:
            document = pull.assembler.add(push)
        except FrameRefused:
            self._failed(name, pull, now)
            raise
        if document is not None:
            self._pulls[name].remove(pull)
            self._judging.add(name)
        elif pull.received > before:
            pull.progress = now
            self._ask_ahead(name, pull)
        return document

    def judged(self, neighbour: Neighbour, name: str, digest: bytes, good: bool | None) -> None:
        """
        A document that a neighbour gave whole was judged.

        @param good: False if nobody who verifies it would have passed it on; None if it could not be judged,
            which says nothing of the neighbour, and is tried again when this type is looked at next.
        """
        self._judging.discard(name)
        if good is None:
            return
        if good:
            neighbour.standing.kept()
        else:
            neighbour.standing.broke(self._clock.seconds())
            self._refused[digest] = None
            while len(self._refused) > len(self._neighbours) + PULLS_NAMED:
                del self._refused[next(iter(self._refused))]
        self.look(name)

    def settled(self, name: str) -> None:
        """Another document is held: what is no longer wanted stops; who was behind has let us down."""
        now = self._clock.seconds()
        self._gave_way.pop(name, None)
        for pull in list(self._pulls.get(name, ())):
            if not self._wanted(name, pull.assembler.number):
                if pull.behind(now):
                    self._failed(name, pull, now)
                else:
                    self._pulls[name].remove(pull)
        self.look(name)

    def forgive_refused(self) -> None:
        """There are other keys now: what was refused may be good."""
        self._refused.clear()

    def left(self, neighbour: Neighbour) -> None:
        """A neighbour is gone; one that was behind with a document is remembered for it."""
        now = self._clock.seconds()
        for name in list(self._pulls):
            pull = self._of(neighbour, name)
            if pull is not None:
                self._pulls[name].remove(pull)
                if pull.behind(now):
                    neighbour.standing.broke(now)
                self.look(name)

    def look(self, name: str) -> None:
        """Give up what is overdue, ask again for what was lost, ask one more source where it is time."""
        now = self._clock.seconds()
        pulls = self._pulls.setdefault(name, [])
        for pull in list(pulls):
            if pull.overdue(now):
                self._failed(name, pull, now)
            elif now >= max(pull.progress, pull.again) + PULL_AGAIN:
                self._ask_again(name, pull, now)
        for is_named in (True, False) if name not in self._judging else ():
            self._begin_one(name, is_named, now)
        if not pulls:
            del self._pulls[name]
        self._arm()

    # -- who is asked

    def _begin_one(self, name: str, is_named: bool, now: float) -> None:
        named = self._named(name)
        running = [each for each in self._pulls[name] if (each.assembler.number == named) is is_named]
        waiting = [
            each
            for each in self._neighbours
            if self._is_open(each, name, now) and (each.offers[name].number == named) is is_named
        ]
        if not waiting or (running and not self._is_time(name, running, is_named, now)):
            return
        if len(running) >= (PULLS_NAMED if is_named else PULLS_CLAIMED):
            self._failed(name, max(running, key=lambda each: each.left(now)), now)
            if is_named:
                self._gave_way[name] = self._gave_way.get(name, 0) + 1
        self._begin(min(waiting, key=self._rank), name, now)

    def _is_open(self, neighbour: Neighbour, name: str, now: float) -> bool:
        offer = neighbour.offers.get(name)
        return (
            offer is not None
            and self._wanted(name, offer.number)
            and offer.digest not in self._refused
            and neighbour.standing.paused_until <= now
            and self._of(neighbour, name) is None
        )

    def _is_time(self, name: str, running: list[_Pull], is_named: bool, now: float) -> bool:
        """Whether one more source is asked beside these; with each that gave way the others get more time."""
        full = is_named and len(running) >= PULLS_NAMED
        patience = min(2.0 ** self._gave_way.get(name, 0), PULL_PATIENCE_MOST) if full else 1.0
        since = now - max(each.begun for each in running)
        slow = all(each.behind(now) for each in running)
        return since >= patience * (PULL_BESIDE if slow else PULL_COMPANY)

    def _rank(self, neighbour: Neighbour) -> tuple[int, bool, float, float]:
        standing = neighbour.standing
        return standing.let_down, not standing.delivered, standing.asked, self._random.random()

    # -- one pull

    def _begin(self, neighbour: Neighbour, name: str, now: float) -> None:
        neighbour.standing.asked = now
        pull = _Pull(neighbour, DocumentAssembler(neighbour.offers[name]), now, now, now)
        self._pulls[name].append(pull)
        self._ask_ahead(name, pull)

    def _failed(self, name: str, pull: _Pull, now: float) -> None:
        self._pulls[name].remove(pull)
        self._counters.count("document-stalled")
        pull.neighbour.standing.broke(now)

    def _of(self, neighbour: Neighbour, name: str) -> _Pull | None:
        return next((each for each in self._pulls.get(name, ()) if each.neighbour is neighbour), None)

    def _ask_ahead(self, name: str, pull: _Pull) -> None:
        wanted = pull.assembler.request
        pull.asked = max(pull.asked, wanted.offset)
        until = min(wanted.offset + DOCUMENT_WINDOW * MAX_DOCUMENT_CHUNK, pull.assembler.total)
        while pull.asked < until:
            self._ask(pull.neighbour, name, DocumentRequest(wanted.number, wanted.digest, pull.asked))
            pull.asked += MAX_DOCUMENT_CHUNK

    def _ask_again(self, name: str, pull: _Pull, now: float) -> None:
        """A neighbour answers so many questions a second, and lets the others go by."""
        pull.again = now
        pull.asked = pull.received
        self._ask_ahead(name, pull)

    # -- the timer

    def _arm(self) -> None:
        if self._timer is not None and self._timer.active():
            if not self._pulls:
                self._timer.cancel()
        elif self._pulls:
            self._timer = self._clock.callLater(PULL_BESIDE, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for name in list(self._pulls):
            self.look(name)
