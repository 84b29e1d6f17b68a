# SPDX-License-Identifier: MIT
"""
Large documents on their way here, in pieces: one of a type at a time, a few pieces asked ahead.

Links keep order, so pieces come in the order in which they were asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from gmesh.mesh.channel import Channel
from gmesh.mesh.network_limits import ASSEMBLY_STALL, DOCUMENT_WINDOW
from gmesh.wire.limits import MAX_DOCUMENT_CHUNK
from gmesh.wire.messages import DocumentAssembler, DocumentPush, DocumentRequest

__all__ = ["DocumentPulls"]


@dataclass(slots=True)
class _Pull:
    channel: Channel
    assembler: DocumentAssembler
    deadline: float
    asked: int = 0


class DocumentPulls:
    """
    What is being pulled, by type.

    @param ask: sends a request for a piece.
    """

    def __init__(self, clock: IReactorTime, ask: Callable[[Channel, str, DocumentRequest], None]) -> None:
        self._clock = clock
        self._ask = ask
        self._pulls: dict[str, _Pull] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._pulls

    def begin(self, channel: Channel, name: str, push: DocumentPush) -> None:
        """Pull what was announced."""
        pull = _Pull(channel, DocumentAssembler(push), self._clock.seconds() + ASSEMBLY_STALL)
        self._pulls[name] = pull
        self._ask_ahead(name, pull)

    def comes_from(self, channel: Channel, name: str) -> bool:
        """Whether this type is being pulled from this neighbour."""
        pull = self._pulls.get(name)
        return pull is not None and pull.channel is channel

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

    def of(self, channel: Channel) -> list[str]:
        """The types pulled from this neighbour."""
        return [name for name, pull in self._pulls.items() if pull.channel is channel]

    def drop(self, name: str) -> Channel:
        """Give up. @return: the neighbour it came from."""
        return self._pulls.pop(name).channel

    def _ask_ahead(self, name: str, pull: _Pull) -> None:
        wanted = pull.assembler.request
        pull.asked = max(pull.asked, wanted.offset)
        until = min(wanted.offset + DOCUMENT_WINDOW * MAX_DOCUMENT_CHUNK, pull.assembler.total)
        while pull.asked < until:
            self._ask(pull.channel, name, DocumentRequest(wanted.number, wanted.digest, pull.asked))
            pull.asked += MAX_DOCUMENT_CHUNK
