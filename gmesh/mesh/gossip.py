# SPDX-License-Identifier: MIT
"""
Gossip of genesis, CRL, policy and status: a node that gets a newer one announces it to its neighbours.

A document is verified and applied before it is passed on.  On connect the numbers of the HELLOs
are compared, so that a new or healed link is never behind.  Large documents are announced and
pulled in pieces, one of a type at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.errors import DocumentRefused
from gmesh.mesh.counters import Counters
from gmesh.mesh.document_reader import DocumentReader, Read
from gmesh.mesh.limits import (
    ASSEMBLY_STALL,
    DOCUMENT_WINDOW,
    STATUS_ASK_INTERVAL,
    WANTED_INTERVAL,
)
from gmesh.mesh.neighbour import Neighbour
from gmesh.mesh.neighbours import Neighbours
from gmesh.trust.documents import Crl, Document, Genesis, Policy, Status
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.state import TrustState
from gmesh.wire.frames import Kind
from gmesh.wire.limits import MAX_DOCUMENT_CHUNK
from gmesh.wire.messages import NO_DIGEST, DocumentAssembler, DocumentPush, DocumentRequest

__all__ = ["PUSHES", "REQUESTS", "DocumentGossip", "DocumentPulls"]

GENESIS = "genesis"
STATUS = "status"

_STRUCTS: dict[str, Any] = {GENESIS: Genesis, "crl": Crl, "policy": Policy, STATUS: Status}
"""In the order in which one may be needed to judge the next."""

PUSHES = {Kind.GENESIS: GENESIS, Kind.CRL: "crl", Kind.POLICY: "policy", Kind.STATUS: STATUS}
REQUESTS = {
    Kind.GENESIS_REQ: GENESIS,
    Kind.CRL_REQ: "crl",
    Kind.POLICY_REQ: "policy",
    Kind.STATUS_REQ: STATUS,
}
_PUSH_KIND = {name: kind for kind, name in PUSHES.items()}
_REQUEST_KIND = {name: kind for kind, name in REQUESTS.items()}


class DocumentGossip:
    """
    Signed documents between this node and its neighbours.

    @param wall: Unix seconds.
    """

    log = Logger()

    def __init__(
        self,
        trust: TrustState,
        neighbours: Neighbours,
        clock: IReactorTime,
        wall: Callable[[], float],
        counters: Counters,
        reader: DocumentReader,
    ) -> None:
        self._reader = reader
        self._trust = trust
        self._clock = clock
        self._wall = wall
        self._counters = counters
        self._neighbours = neighbours
        self._pulls = DocumentPulls(clock, self._request)
        self._pending: dict[str, tuple[Neighbour, bytes]] = {}
        self._served: dict[tuple[str, int], tuple[Document[Any], bytes, bytes]] = {}
        self._pins = self._status_pins()
        self._asked = -1
        self._asked_at = float("-inf")
        self._wanted_at = float("-inf")

    # -- neighbours

    def link_up(self, neighbour: Neighbour) -> None:
        """Send a new neighbour what its HELLO says it lacks."""
        hello = neighbour.link.hello
        neighbour.numbers = {
            GENESIS: hello.genesis,
            "crl": hello.crl,
            "policy": hello.policy,
            STATUS: hello.status,
        }
        for name in _STRUCTS:
            self._push(neighbour, name)

    def link_down(self, neighbour: Neighbour) -> None:
        """A neighbour is gone, and what it was sending."""
        for name in self._pulls.of(neighbour):
            self._give_up(name)
        for name in [name for name, found in self._pending.items() if found[0] is neighbour]:
            del self._pending[name]

    def housekeeping(self) -> None:
        """Let another neighbour send what one has stopped sending; ask for a fresher status in time."""
        now = self._clock.seconds()
        for name in self._pulls.stalled():
            self._counters.count("document-stalled")
            self._give_up(name)
        status = self._trust.status
        if status is not None and len(self._neighbours) and now - self._asked_at >= STATUS_ASK_INTERVAL:
            body = status.body
            if 2 * self._wall() > body.issued_at + body.expires_at:
                self._asked_at = now
                self._ask(self._next_neighbour(), STATUS, body.number + 1)

    def ask_genesis(self, neighbour: Neighbour) -> None:
        """A neighbour sent what no authority key known here has signed: perhaps it has a newer genesis."""
        self._ask(neighbour, GENESIS, self._held(GENESIS) + 1)

    def wanted(self, name: str, number: int) -> None:
        """A far node says that there is a newer document: ask one neighbour, rarely, since it may lie."""
        now = self._clock.seconds()
        if number > self._held(name) and len(self._neighbours) and now - self._wanted_at >= WANTED_INTERVAL:
            self._wanted_at = now
            self._ask(self._next_neighbour(), name, self._held(name) + 1)

    def _next_neighbour(self) -> Neighbour:
        handles = sorted(self._neighbours.by_handle)
        self._asked = (self._asked + 1) % len(handles)
        return self._neighbours.by_handle[handles[self._asked]]

    # -- frames

    def push_received(self, neighbour: Neighbour, name: str, push: DocumentPush) -> None:
        """
        A document, a piece of one, or the news of one.

        @raise FrameRefused: if pieces do not make the document announced.
        """
        neighbour.numbers[name] = max(push.number, neighbour.numbers.get(name, 0))
        if push.total > DOCUMENT_LIMITS[name]:
            neighbour.failed("document-too-large")
        elif push.whole and not push.offset:
            self._judge(neighbour, name, push.data)
        elif push.announcement:
            self._announced(neighbour, name, push)
        else:
            self._piece(neighbour, name, push)
        if push.number < self._held(name):
            neighbour.numbers[name] = push.number
            self._push(neighbour, name)

    def request_received(self, neighbour: Neighbour, name: str, request: DocumentRequest) -> None:
        """Answer with the piece asked for, if we hold something that fits."""
        document = self._find(name, request.number)
        if document is None or not neighbour.may_ask():
            return
        encoded, digest = self._encoded(name, document)
        number = _number(document)
        if request.digest not in (NO_DIGEST, digest):
            neighbour.send(_PUSH_KIND[name], DocumentPush.first(number, encoded).encode())
        elif request.offset < len(encoded):
            push = DocumentPush.of(number, encoded, request.offset, digest)
            neighbour.send(_PUSH_KIND[name], push.encode())

    def _announced(self, neighbour: Neighbour, name: str, push: DocumentPush) -> None:
        if push.number > self._held(name) and name not in self._pulls and name not in self._reader:
            self._pulls.begin(neighbour, name, push)

    def _piece(self, neighbour: Neighbour, name: str, push: DocumentPush) -> None:
        if not push.offset:
            self._announced(neighbour, name, push)
        if not self._pulls.comes_from(neighbour, name):
            return
        document = self._pulls.add(name, push)
        if document is not None:
            self._judge(neighbour, name, document, lambda: self._try_others(name))

    def _give_up(self, name: str) -> None:
        self._pulls.drop(name).numbers[name] = 0
        self._try_others(name)

    def _try_others(self, name: str) -> None:
        held = self._held(name)
        best = max(self._neighbours, key=lambda each: each.numbers.get(name, 0), default=None)
        if best is not None and best.numbers.get(name, 0) > held:
            self._ask(best, name, held + 1)

    def _ask(self, neighbour: Neighbour, name: str, number: int) -> None:
        self._request(neighbour, name, DocumentRequest(number))

    def _request(self, neighbour: Neighbour, name: str, request: DocumentRequest) -> None:
        neighbour.send(_REQUEST_KIND[name], request.encode())

    # -- judging

    def _judge(
        self, neighbour: Neighbour, name: str, data: bytes, then: Callable[[], object] = lambda: None
    ) -> None:
        """Read it, perhaps beside the reactor, and believe it or not; C{then} do the rest."""

        def judge(found: Read) -> None:
            self._believe(neighbour, name, data, found)
            then()

        self._reader.read(neighbour.handle, name, _STRUCTS[name], data, judge)

    def _believe(self, neighbour: Neighbour, name: str, data: bytes, found: Read) -> None:
        try:
            if isinstance(found, DocumentRefused):
                raise found
            applied = self._trust.offer(found, self._wall())
        except DocumentRefused as error:
            self._refused(neighbour, name, data, error)
            return
        if not applied:
            return
        self._counters.count(f"{name}-applied")
        self.log.info("Took a newer {name} from {peer}", name=name, peer=neighbour.link.peer.name)
        if name == GENESIS:
            pending, self._pending = self._pending, {}
            for other, (source, waiting) in pending.items():
                self._judge(source, other, waiting)
            if neighbour.numbers[GENESIS] > self._held(GENESIS):
                self.ask_genesis(neighbour)
        elif name == STATUS:
            self._ask_named(neighbour)

    def _refused(self, neighbour: Neighbour, name: str, data: bytes, error: DocumentRefused) -> None:
        if error.reason in ("unknown-key", "version-gap"):
            if name != GENESIS:
                self._pending[name] = (neighbour, data)
            if error.reason == "unknown-key":
                neighbour.failed(f"{name}-unknown-key")
            else:
                self._counters.count(f"{name}-{error.reason}")
            if neighbour.numbers.get(GENESIS, 0) > self._held(GENESIS):
                self.ask_genesis(neighbour)
        elif error.reason in ("rollback", "digest-mismatch", "crl-fork"):
            # The authority signed it, so it is no fault of the neighbour's; what contradicts raised an alarm.
            self._counters.count(f"{name}-{error.reason}")
        else:
            self.log.warn(
                "Refused a {name} from {peer}: {reason}: {detail}",
                name=name,
                peer=neighbour.link.peer.name,
                reason=error.reason,
                detail=error.detail,
            )
            neighbour.failed(f"{name}-refused")

    def _ask_named(self, neighbour: Neighbour) -> None:
        """A new status says what may be missing."""
        status = self._trust.status
        if status is None:
            return
        body = status.body
        named = {GENESIS: body.genesis.version, "crl": body.crl.number, "policy": body.policy.version}
        for name, number in named.items():
            if number > self._held(name):
                self._ask(neighbour, name, self._held(GENESIS) + 1 if name == GENESIS else number)

    # -- sending

    def announce(self, name: str) -> None:
        """A document changed: send or announce it to every neighbour that has an older one."""
        if name == STATUS:
            pins, self._pins = self._pins, self._status_pins()
            if pins == self._pins:
                return
        for neighbour in self._neighbours:
            self._push(neighbour, name)

    def _push(self, neighbour: Neighbour, name: str) -> None:
        theirs, ours = neighbour.numbers.get(name, 0), self._held(name)
        if theirs >= ours:
            return
        neighbour.numbers[name] = ours
        documents = self._trust.genesis_after(theirs) if name == GENESIS else (getattr(self._trust, name),)
        for document in documents:
            encoded, _ = self._encoded(name, document)
            neighbour.send(_PUSH_KIND[name], DocumentPush.first(_number(document), encoded).encode())

    def _status_pins(self) -> tuple[object, ...]:
        """What a status names; one that names the same again travels by heartbeat only."""
        if self._trust.status is None:
            return ()
        body = self._trust.status.body
        return (body.genesis, body.policy, body.crl, body.commands)

    def _held(self, name: str) -> int:
        document = getattr(self._trust, name)
        return 0 if document is None else _number(document)

    def _find(self, name: str, number: int) -> Document[Any] | None:
        if name == GENESIS:
            return next((found for found in self._trust.genesis_chain if _number(found) == number), None)
        document: Document[Any] | None = getattr(self._trust, name)
        return document if document is not None and _number(document) >= number else None

    def _encoded(self, name: str, document: Document[Any]) -> tuple[bytes, bytes]:
        key = (name, _number(document) if name == GENESIS else 0)
        served = self._served.get(key)
        if served is None or served[0] is not document:
            encoded = document.encode()
            served = self._served[key] = (document, encoded, sha256(encoded).digest())
        return served[1], served[2]


def _number(document: Document[Any]) -> int:
    body = document.body
    number: int = body.version if isinstance(body, (Genesis, Policy)) else body.number
    return number


@dataclass(slots=True)
class _Pull:
    neighbour: Neighbour
    assembler: DocumentAssembler
    deadline: float
    asked: int = 0


class DocumentPulls:
    """
    Large documents on their way here, in pieces: one of a type at a time, a few pieces asked ahead.

    Links keep order, so pieces come in the order in which they were asked for.

    @param ask: sends a request for a piece.
    """

    def __init__(self, clock: IReactorTime, ask: Callable[[Neighbour, str, DocumentRequest], None]) -> None:
        self._clock = clock
        self._ask = ask
        self._pulls: dict[str, _Pull] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._pulls

    def begin(self, neighbour: Neighbour, name: str, push: DocumentPush) -> None:
        """Pull what was announced."""
        pull = _Pull(neighbour, DocumentAssembler(push), self._clock.seconds() + ASSEMBLY_STALL)
        self._pulls[name] = pull
        self._ask_ahead(name, pull)

    def comes_from(self, neighbour: Neighbour, name: str) -> bool:
        """Whether this type is being pulled from this neighbour."""
        pull = self._pulls.get(name)
        return pull is not None and pull.neighbour is neighbour

    def add(self, name: str, push: DocumentPush) -> bytes | None:
        """
        Take a piece.

        @return: the document, once that was the last.
        @raise FrameRefused: if the pieces do not make the document announced.
        """
        pull = self._pulls[name]
        before = pull.assembler.request.offset
        document = pull.assembler.add(push)
        if document is not None:
            del self._pulls[name]
        elif pull.assembler.request.offset > before:
            pull.deadline = self._clock.seconds() + ASSEMBLY_STALL
            self._ask_ahead(name, pull)
        return document

    def stalled(self) -> list[str]:
        """The types of which no piece has come for too long."""
        now = self._clock.seconds()
        return [name for name, pull in self._pulls.items() if pull.deadline <= now]

    def of(self, neighbour: Neighbour) -> list[str]:
        """The types pulled from this neighbour."""
        return [name for name, pull in self._pulls.items() if pull.neighbour is neighbour]

    def drop(self, name: str) -> Neighbour:
        """Give up. @return: the neighbour it came from."""
        return self._pulls.pop(name).neighbour

    def _ask_ahead(self, name: str, pull: _Pull) -> None:
        wanted = pull.assembler.request
        pull.asked = max(pull.asked, wanted.offset)
        until = min(wanted.offset + DOCUMENT_WINDOW * MAX_DOCUMENT_CHUNK, pull.assembler.total)
        while pull.asked < until:
            self._ask(pull.neighbour, name, DocumentRequest(wanted.number, wanted.digest, pull.asked))
            pull.asked += MAX_DOCUMENT_CHUNK
