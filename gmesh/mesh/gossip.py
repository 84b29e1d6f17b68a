# SPDX-License-Identifier: MIT
"""
Gossip of genesis, CRL, policy and status: a node that gets a newer one announces it to its neighbours.

A document is verified and applied before it is passed on.  On connect the numbers of the HELLOs
are compared, so that a new or healed link is never behind.  Large documents are announced and
pulled in pieces (L{gmesh.mesh.document_pulls}).
Tests: C{tests/mesh/test_gossip.py}, C{tests/mesh/test_gossip_pulls.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.errors import DocumentRefused
from gmesh.mesh.counters import Counters
from gmesh.mesh.document_pulls import DocumentPulls
from gmesh.mesh.document_reader import DocumentReader, Read
from gmesh.mesh.limits import STATUS_ASK_INTERVAL, WANTED_INTERVAL
from gmesh.mesh.neighbour import Neighbour
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.trust.documents import Crl, Document, Genesis, Policy, Status
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.state import TrustState
from gmesh.wire.frames import Kind
from gmesh.wire.messages import NO_DIGEST, DocumentPush, DocumentRequest

__all__ = ["PUSHES", "REQUESTS", "DocumentGossip"]

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
    @param random: decides between sources of a document that are alike.
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
        random: Random,
    ) -> None:
        self._reader = reader
        self._trust = trust
        self._clock = clock
        self._wall = wall
        self._counters = counters
        self._neighbours = neighbours
        self._lines = SpacedLog()
        self._pulls = DocumentPulls(
            neighbours, clock, random, counters, self._would_take, self._named, self._request
        )
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
        self._pulls.left(neighbour)
        for name in [name for name, found in self._pending.items() if found[0] is neighbour]:
            del self._pending[name]

    def housekeeping(self) -> None:
        """Ask for what is missing; ask for a fresher status in time."""
        now = self._clock.seconds()
        for name in _STRUCTS:
            self._pulls.look(name)
            self._ask_for_missing(name)
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
        if name == GENESIS and push.number > self._held(GENESIS) + 1:
            self.ask_genesis(neighbour)
        else:
            self._pulls.announced(neighbour, name, push)

    def _piece(self, neighbour: Neighbour, name: str, push: DocumentPush) -> None:
        document = self._pulls.take(neighbour, name, push)
        if document is not None:
            pulls = self._pulls
            self._judge(
                neighbour, name, document, lambda good: pulls.judged(neighbour, name, push.digest, good)
            )

    def _would_take(self, name: str, number: int) -> bool:
        """Whether a document of this number is news; of genesis documents the next one is."""
        held = self._held(name)
        return number == held + 1 if name == GENESIS else number > held

    def _named(self, name: str) -> int:
        """The number of the document that the status names and that is missing here, or 0."""
        status, held = self._trust.status, self._held(name)
        if status is None or name == STATUS:
            return 0
        body = status.body
        number = {GENESIS: body.genesis.version, "crl": body.crl.number, "policy": body.policy.version}[name]
        if number <= held:
            return 0
        return held + 1 if name == GENESIS else number

    def _ask_for_missing(self, name: str) -> None:
        """Two neighbours at a time, in turn, for what the status names and nobody has announced."""
        number = self._named(name)
        if number and not self._pulls.under_way(name, number):
            for _ in range(min(2, len(self._neighbours))):
                self._ask(self._next_neighbour(), name, number)

    def _ask(self, neighbour: Neighbour, name: str, number: int) -> None:
        self._request(neighbour, name, DocumentRequest(number))

    def _request(self, neighbour: Neighbour, name: str, request: DocumentRequest) -> None:
        neighbour.send(_REQUEST_KIND[name], request.encode())

    # -- judging

    def _judge(
        self,
        neighbour: Neighbour,
        name: str,
        data: bytes,
        then: Callable[[bool | None], object] = lambda good: None,
    ) -> None:
        """
        Read it, perhaps beside the reactor, and believe it or not.

        @param then: does the rest; False for what nobody who verifies it would have passed on, None if that
            did not come out, as when what is believed could not be stored.
        """

        def judge(found: Read) -> None:
            good: bool | None = None
            try:
                good = self._believe(neighbour, name, data, found)
            finally:
                then(good)

        self._reader.read(neighbour.handle, _STRUCTS[name], data, judge, lambda: then(None))

    def _believe(self, neighbour: Neighbour, name: str, data: bytes, found: Read) -> bool:
        try:
            if isinstance(found, DocumentRefused):
                raise found
            applied = self._trust.offer(found, self._wall())
        except DocumentRefused as error:
            self._refused(neighbour, name, data, error)
            return error.reason in ("rollback", "version-gap")
        if not applied:
            return True
        self._counters.count(f"{name}-applied")
        self.log.info("Took a newer {name} from {peer}", name=name, peer=neighbour.link.peer.name)
        if name == GENESIS:
            self._pulls.forgive_refused()
            pending, self._pending = self._pending, {}
            for other, (source, waiting) in pending.items():
                self._judge(source, other, waiting)
            if neighbour.numbers[GENESIS] > self._held(GENESIS):
                self.ask_genesis(neighbour)
        elif name == STATUS:
            self._ask_named(neighbour)
        return True

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
            self._lines.write(
                self.log.warn,
                self._clock.seconds(),
                f"{name}-refused",
                neighbour.peer.node_key,
                "Refused a {name} from {peer}: {reason}: {detail}",
                name=name,
                peer=neighbour.link.peer.name,
                reason=error.reason,
                detail=error.detail,
            )
            neighbour.failed(f"{name}-refused")

    def _ask_named(self, neighbour: Neighbour) -> None:
        """A new status says what may be missing: who gave it has it, or at least another one."""
        for name in _STRUCTS:
            number = self._named(name)
            if number:
                for source in dict.fromkeys((neighbour, self._next_neighbour())):
                    self._ask(source, name, number)
                self._pulls.look(name)

    # -- sending

    def announce(self, name: str) -> None:
        """A document changed: send or announce it to every neighbour that has an older one."""
        self._pulls.settled(name)
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
