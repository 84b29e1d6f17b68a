# SPDX-License-Identifier: MIT
"""
Operators' commands over links: a node that has one passes it on, once, to every neighbour but its source.

A command is judged before it is passed on, so that no node can flood what the authority did not
countersign.  What a node missed while it was away it asks for when the link comes up, and what it could
not judge yet when the document comes that was lacking.
Tests: C{tests/node/test_control.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from twisted.logger import Logger
from zope.interface import implementer

from gmesh.errors import DocumentRefused
from gmesh.interfaces import IFrameReceiver, IFrameReceiverFactory
from gmesh.mesh.counters import Counters
from gmesh.mesh.neighbour import Neighbour, NeighbourObserver
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.node.limits import (
    MAX_COMMAND_BYTES_HELD,
    MAX_COMMAND_LIFE,
    MAX_COMMANDS_HELD,
    MAX_COMMANDS_WAITING,
    MAX_COMMANDS_WAITING_A_SIGNER,
)
from gmesh.trust.documents import Command, Document, parse_document
from gmesh.trust.state import TrustState
from gmesh.trust.verify import authority_keys
from gmesh.wire.frames import Kind
from gmesh.wire.limits import FRAME_HEADER
from gmesh.wire.messages import CommandRequest, DocumentPush

__all__ = ["CommandFlood", "CommandProtocol"]

_LATER = frozenset({"unknown-key", "forbidden-role"})
"""What a newer policy may change of a command that the authority has countersigned: it waits for one."""

_ASK_AGAIN = {"not-countersigned": "genesis", "ahead": "status"}
"""What a newer document of that kind may change: nothing waits, but neighbours are asked for it then."""

_BLAMELESS = _LATER | _ASK_AGAIN.keys() | {"expired", "old"}
"""Refusals that an honest neighbour may cause."""


@dataclass(frozen=True, slots=True)
class _Held:
    document: Document[Command]
    encoded: bytes

    def signed_by(self, keys: Container[str]) -> bool:
        return any(signer in keys for signer, _ in self.document.signatures)


@implementer(IFrameReceiver)
class CommandProtocol:
    """The commands of one neighbour."""

    def __init__(self, flood: CommandFlood, neighbour: Neighbour) -> None:
        self._flood = flood
        self._neighbour = neighbour

    def frame_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """A command, or the wish for some. @raise FrameRefused: if it is malformed."""
        body = record[start + FRAME_HEADER : end]
        if kind == Kind.COMMAND:
            push = DocumentPush.decode(body)
            if push.whole:
                self._flood.received(self._neighbour, push.data)
            else:
                self._neighbour.failed("command-in-pieces")
        else:
            request = CommandRequest.decode(body)
            if self._neighbour.may_ask():
                self._flood.answer(self._neighbour, request.since)


@implementer(IFrameReceiverFactory)
class CommandFlood(NeighbourObserver):
    """
    The commands this node knows of and that have not expired.

    @param obey: called with each command that is new here and whose signer may give it.
    @param refuse: called with each whose signer may not give it under the policy in force, and why.
    @param floor: commands up to this number are neither taken nor asked for.
    """

    log = Logger()
    kinds = frozenset({Kind.COMMAND, Kind.COMMAND_REQ})

    def __init__(
        self,
        trust: TrustState,
        neighbours: Neighbours,
        wall: Callable[[], float],
        counters: Counters,
        obey: Callable[[Document[Command]], object],
        refuse: Callable[[Document[Command], str], object],
        floor: int,
    ) -> None:
        self.counters = counters
        self._floor = floor
        self._trust = trust
        self._neighbours = neighbours
        self._wall = wall
        self._lines = SpacedLog()
        self._obey = obey
        self._refuse = refuse
        self._held: dict[str, _Held] = {}
        self._waiting: dict[str, Document[Command]] = {}
        self._missed: set[str] = set()

    @property
    def floor(self) -> int:
        """Commands up to this number are neither taken nor asked for."""
        return self._trust.command_floor(self._floor)

    def build_receiver(self, neighbour: Neighbour) -> CommandProtocol:
        """A receiver of this neighbour's commands."""
        return CommandProtocol(self, neighbour)

    def link_up(self, neighbour: Neighbour) -> None:
        """Ask for what came while we were apart."""
        neighbour.send(Kind.COMMAND_REQ, CommandRequest(self.floor).encode())

    # -- in

    def received(self, neighbour: Neighbour, data: bytes) -> None:
        """A neighbour passed on a command; one with a wrong signature counts against the neighbour."""
        try:
            document = parse_document(data, Command)
            self.offer(document, neighbour)
        except DocumentRefused as error:
            if error.reason in _BLAMELESS:
                self.counters.count(f"command-{error.reason}")
            else:
                neighbour.failed(f"command-{error.reason}")

    def offer(self, document: Document[Command], source: Neighbour | None = None) -> bool:
        """
        Judge a command; if it is new and may be given, pass it to the neighbours and obey it.

        @return: False if it is known already.
        @raise DocumentRefused: as L{TrustState.judge_command}; C{invalid-life}, C{old}.  What a newer
            policy may allow is kept, and judged again by L{trust_changed}.
        """
        body, now = document.body, self._wall()
        if document.digest in self._held:
            self.counters.count("command-known")
            return False
        if body.number <= self.floor:
            raise DocumentRefused("old", f"command {body.number} where those up to {self.floor} have ended")
        if body.expires_at - body.issued_at > MAX_COMMAND_LIFE:
            raise DocumentRefused("invalid-life", f"a command lives at most {MAX_COMMAND_LIFE} s")
        try:
            self._trust.judge_command(document, now)
        except DocumentRefused as error:
            if error.reason in _ASK_AGAIN:
                self._missed.add(_ASK_AGAIN[error.reason])
            self._keep_for_later(document, error)
            raise
        self._waiting.pop(document.digest, None)
        held = self._held[document.digest] = _Held(document, document.encode())
        self._bound(now)
        push = DocumentPush.of(body.number, held.encoded).encode()
        for neighbour in self._neighbours:
            if neighbour is not source:
                neighbour.send(Kind.COMMAND, push)
        self._obey(document)
        return True

    def trust_changed(self, kind: str) -> None:
        """
        Judge the commands that wait for a policy, and ask for those that could not be judged before.

        Those held that only a key signed which the genesis no longer lists are dropped.
        @param kind: as of L{TrustState}.
        """
        if kind == "genesis":
            keys = authority_keys(self._trust.genesis.body)
            self._held = {digest: held for digest, held in self._held.items() if held.signed_by(keys)}
        if kind in ("genesis", "policy"):
            waiting, self._waiting = self._waiting, {}
            for document in waiting.values():
                try:
                    self.offer(document)
                except DocumentRefused as error:
                    self.counters.count(f"command-{error.reason}")
        if kind in self._missed:
            self._missed.discard(kind)
            for neighbour in self._neighbours:
                self.link_up(neighbour)

    def answer(self, neighbour: Neighbour, since: int) -> None:
        """Send a neighbour what is held above a number, oldest first."""
        self._expire(self._wall())
        for held in sorted(self._held.values(), key=lambda held: held.document.body.number):
            number = held.document.body.number
            if number > since:
                neighbour.send(Kind.COMMAND, DocumentPush.of(number, held.encoded).encode())

    # -- bounds

    def _keep_for_later(self, document: Document[Command], error: DocumentRefused) -> None:
        if error.reason not in _LATER:
            return
        self._expire(self._wall())
        if document.digest in self._waiting:
            self._waiting[document.digest] = document  # its newest signatures: the older may be no operator's
            return
        alike = sum(_giver(one) == _giver(document) for one in self._waiting.values())
        if len(self._waiting) >= MAX_COMMANDS_WAITING or alike >= MAX_COMMANDS_WAITING_A_SIGNER:
            return
        self._waiting[document.digest] = document
        self._lines.write(
            self.log.warn,
            self._wall(),
            "command-waits",
            _giver(document),
            "Command {command} {number} is not obeyed: {cause}",
            command=document.body.command,
            number=document.body.number,
            cause=error.detail,
        )
        if error.reason == "forbidden-role":
            self._refuse(document, error.detail)

    def _bound(self, now: float) -> None:
        self._expire(now)
        while len(self._held) > MAX_COMMANDS_HELD or self._bytes() > MAX_COMMAND_BYTES_HELD:
            oldest = min(self._held.values(), key=lambda held: held.document.body.number).document
            del self._held[oldest.digest]
            self._floor = max(self.floor, oldest.body.number)

    def _bytes(self) -> int:
        return sum(len(held.encoded) for held in self._held.values())

    def _expire(self, now: float) -> None:
        self._held = {
            digest: held for digest, held in self._held.items() if now <= held.document.body.expires_at
        }
        self._waiting = {
            digest: document for digest, document in self._waiting.items() if now <= document.body.expires_at
        }


def _giver(document: Document[Command]) -> object:
    return document.body.operator or frozenset(signer for signer, _ in document.signatures)
