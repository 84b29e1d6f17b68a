# SPDX-License-Identifier: MIT
"""
One connection of a L{Mesh<gmesh.client.mesh.Mesh>} to the daemon, as long as it lasts.

Tests: C{tests/client/test_mesh.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.client.answers import MESSAGES_REQUEST, AnswerReader, AnswerRefused
from gmesh.client.message_frames import FrameType, MessageFrame, MessageFrameReader, done_frame
from gmesh.client.write_now import write_now
from gmesh.errors import FrameRefused, GmeshError

__all__ = ["MeshConnection"]

_WELCOME = FrameType.WELCOME  # a member of an Enum is looked up by a function in Python 3.11
_AT_ONCE = 64
"""So many frames leave together: the daemon begins with them while this program goes on."""

Lost = Callable[[str, AnswerRefused | None], object]
"""Called once it is over: why, for people, and the refusal if the daemon does not serve this program."""


class MeshConnection(Protocol):
    """
    @param welcomed: called with the body of WELCOME.
    @param heard: called with every other frame; raises L{FrameRefused} for one that may not come.
    @param lost: see L{Lost}.
    @ivar welcome: the daemon has said how much it allows.
    """

    transport: Any
    _log = Logger()

    def __init__(
        self, welcomed: Callable[[bytes], object], heard: Callable[[MessageFrame], object], lost: Lost
    ) -> None:
        self._welcomed = welcomed
        self._heard = heard
        self._lost = lost
        self._answers: AnswerReader | None = AnswerReader()
        self._reader = MessageFrameReader()
        self._refusal: AnswerRefused | None = None
        self._broken = ""
        self._over = False
        self._gathered: list[bytes] | None = None  # what is said while frames are read
        self.welcome = False

    def connectionMade(self) -> None:
        """Ask."""
        self.transport.write(MESSAGES_REQUEST)

    def dataReceived(self, data: bytes) -> None:
        """Of the answer, then of frames; what breaks the protocol ends the connection."""
        self._gathered = []
        try:
            if self._answers is not None:
                read = self._switched(self._answers, data)
                if read is None:
                    return
                data = read
            for frame in self._reader.feed(data):
                if frame[0] is _WELCOME:
                    self.welcome = True
                    self._welcomed(frame.body)
                else:
                    self._heard(frame)
        except FrameRefused as refusal:
            self._broken = refusal.detail
            self.hang_up()
        finally:
            self._leave()
            self._gathered = None

    def _switched(self, answers: AnswerReader, data: bytes) -> bytes | None:
        """What is behind the answer, once it has come and is the right one."""
        for answer in answers.feed(data):
            if answer.status == 101:
                self._answers = None
                return answers.rest
            if answer.status >= 200:
                self._refusal = answer.refusal()
                self.hang_up()
        return None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The daemon is gone, or has refused."""
        self._over = True
        if self._answers is not None and self._refusal is None and (answer := self._answers.end()):
            self._refusal = answer.refusal()
        why = self._refusal.detail if self._refusal is not None else self._broken
        self._lost(why or reason.getErrorMessage(), self._refusal)

    def hang_up(self) -> None:
        """End it."""
        if self.transport is not None:
            self.transport.abortConnection()

    def write(self, frame: MessageFrame) -> None:
        """
        Say something to the daemon.  Before its WELCOME nothing is: who is called then says all there is.

        @raise FrameRefused: if it is too long.
        """
        self.put(frame.encode())

    def put(self, octets: bytes) -> None:
        """The same, written already; what is said while frames are read leaves when they all were."""
        gathered = self._gathered
        if self._over or not self.welcome:
            return
        if gathered is None:
            self.transport.write(octets)
            return
        gathered.append(octets)
        if len(gathered) >= _AT_ONCE:
            self._leave()

    def _leave(self) -> None:
        if self._gathered and not self._over:
            octets = b"".join(self._gathered)
            self._gathered.clear()
            write_now(self.transport, octets)

    def done(self, result: Any, tag: int) -> None:
        """A handler has ended well. @param result: bytes go back to the sender."""
        self.put(done_frame(tag, result if isinstance(result, bytes) else b""))

    def refuse(self, failure: Failure, tag: int, service: str) -> None:
        """A handler has failed."""
        error = failure.value
        said = error.detail if isinstance(error, GmeshError) else "the receiver failed"
        if not isinstance(error, GmeshError):
            self._log.failure("the handler of {service} failed", failure, service=service)
        self.write(MessageFrame(FrameType.REFUSE, tag, said.encode("utf-8", "replace")[:200]))
