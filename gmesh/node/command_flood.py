# SPDX-License-Identifier: MIT
"""
Operators' commands over links: whoever has one passes it on, once, to everybody but its source.

A command is judged before it is passed on, so that nobody can flood what no operator signed.
What a neighbour missed while it was away it asks for when the link comes up.
Tests: C{tests/node/test_control.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from gmesh.errors import DocumentRefused
from gmesh.interfaces import IFrameReceiver, IFrameReceiverFactory, ILink
from gmesh.mesh.channel import Channel
from gmesh.mesh.counters import Counters
from gmesh.node.limits import (
    MAX_COMMAND_BYTES_HELD,
    MAX_COMMAND_LIFE,
    MAX_COMMANDS_HELD,
    MAX_COMMANDS_WAITING,
)
from gmesh.trust.documents import Command, Document, parse_document
from gmesh.trust.state import TrustState
from gmesh.wire.frames import Kind
from gmesh.wire.limits import FRAME_HEADER
from gmesh.wire.messages import CommandRequest, DocumentPush

__all__ = ["CommandFlood", "CommandProtocol"]

_LATER = frozenset({"unknown-key", "forbidden-role"})
"""What a newer genesis or policy may change."""


@dataclass(frozen=True, slots=True)
class _Held:
    document: Document[Command]
    encoded: bytes


@implementer(IFrameReceiver)
class CommandProtocol:
    """Commands on one link."""

    def __init__(self, flood: CommandFlood, link: ILink) -> None:
        self._flood = flood
        self._channel = Channel(link, flood.clock, flood.counters)

    def link_up(self) -> None:
        """Ask for what came while we were apart."""
        self._flood.channels[self._channel] = None
        self._channel.send(Kind.COMMAND_REQ, CommandRequest(self._flood.floor).encode())

    def link_down(self, reason: str) -> None:
        """The neighbour is gone."""
        self._flood.channels.pop(self._channel, None)
        self._channel.stop()

    def frame_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """A command, or the wish for some. @raise FrameRefused: if it is malformed."""
        body = record[start + FRAME_HEADER : end]
        if kind == Kind.COMMAND:
            push = DocumentPush.decode(body)
            if push.whole:
                self._flood.received(self._channel, push.data)
            else:
                self._channel.failed("command-in-pieces")
        else:
            request = CommandRequest.decode(body)
            if self._channel.may_ask():
                self._flood.answer(self._channel, request.since)


@implementer(IFrameReceiverFactory)
class CommandFlood:
    """
    The commands this node knows of and that have not expired, and everybody it tells.

    @param obey: called with each command that is new here and that somebody may give.
    @param refuse: called with each that nobody may give under the policy in force, and why.
    @ivar channels: every neighbour.
    @param floor: commands up to this number are neither taken nor asked for.
    """

    log = Logger()
    kinds = frozenset({Kind.COMMAND, Kind.COMMAND_REQ})

    def __init__(
        self,
        trust: TrustState,
        clock: IReactorTime,
        wall: Callable[[], float],
        counters: Counters,
        obey: Callable[[Document[Command]], object],
        refuse: Callable[[Document[Command], str], object],
        floor: int,
    ) -> None:
        self.channels: dict[Channel, None] = {}
        self.floor = floor
        self.clock = clock
        self.counters = counters
        self._trust = trust
        self._wall = wall
        self._obey = obey
        self._refuse = refuse
        self._held: dict[str, _Held] = {}
        self._waiting: dict[str, Document[Command]] = {}

    def build_receiver(self, link: ILink) -> CommandProtocol:
        """A receiver for this link."""
        return CommandProtocol(self, link)

    # -- in

    def received(self, channel: Channel, data: bytes) -> None:
        """A neighbour passed on a command; one that nobody signed as it says counts against the neighbour."""
        try:
            document = parse_document(data, Command)
            self.offer(document, channel)
        except DocumentRefused as error:
            if error.reason in ("expired", "unknown-key", "forbidden-role", "old"):
                self.counters.count(f"command-{error.reason}")
            else:
                channel.failed(f"command-{error.reason}")

    def offer(self, document: Document[Command], source: Channel | None = None) -> bool:
        """
        Judge a command; if it is new and may be given, tell neighbours and obey it.

        @return: False if it is known already.
        @raise DocumentRefused: as L{TrustState.judge_command}; C{invalid-life}, C{old}.  What a newer
            genesis or policy may allow is kept and judged again by L{again}.
        """
        body, now = document.body, self._wall()
        if document.digest in self._held:
            self.counters.count("command-known")
            return False
        if body.number <= self.floor:
            raise DocumentRefused("old", f"command {body.number} where those up to {self.floor} are over")
        if body.expires_at - body.issued_at > MAX_COMMAND_LIFE:
            raise DocumentRefused("invalid-life", f"a command lives at most {MAX_COMMAND_LIFE} s")
        try:
            self._trust.judge_command(document, now)
        except DocumentRefused as error:
            self._keep_for_later(document, error)
            raise
        self._waiting.pop(document.digest, None)
        held = self._held[document.digest] = _Held(document, document.encode())
        self._bound(now)
        push = DocumentPush.of(body.number, held.encoded).encode()
        for channel in self.channels:
            if channel is not source:
                channel.send(Kind.COMMAND, push)
        self._obey(document)
        return True

    def again(self) -> None:
        """Genesis or policy changed: judge what waits."""
        waiting, self._waiting = self._waiting, {}
        for document in waiting.values():
            try:
                self.offer(document)
            except DocumentRefused as error:
                self.counters.count(f"command-{error.reason}")

    def answer(self, channel: Channel, since: int) -> None:
        """Send a neighbour what is held above a number, oldest first."""
        self._expire(self._wall())
        for held in sorted(self._held.values(), key=lambda held: held.document.body.number):
            number = held.document.body.number
            if number > since:
                channel.send(Kind.COMMAND, DocumentPush.of(number, held.encoded).encode())

    # -- bounds

    def _keep_for_later(self, document: Document[Command], error: DocumentRefused) -> None:
        if error.reason not in _LATER or document.digest in self._waiting:
            return
        self._expire(self._wall())
        if len(self._waiting) >= MAX_COMMANDS_WAITING:
            return
        self._waiting[document.digest] = document
        self.log.warn(
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
            self.floor = max(self.floor, oldest.body.number)

    def _bytes(self) -> int:
        return sum(len(held.encoded) for held in self._held.values())

    def _expire(self, now: float) -> None:
        self._held = {
            digest: held for digest, held in self._held.items() if now <= held.document.body.expires_at
        }
        self._waiting = {
            digest: document for digest, document in self._waiting.items() if now <= document.body.expires_at
        }
