# SPDX-License-Identifier: MIT
"""
The messages of a service as JSON lines, each until the program is done with it.

Without acknowledgements a program is done with a message when its line is written to its connection; with
them when it names the C{id} of the line to C{POST /v1/receive/ack}.  Either way a program that does not keep
up makes the senders wait.

Tests: C{tests/node/api/test_message_lines.py}.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.http import Request

from gmesh.endtoend.service_queue import Message
from gmesh.errors import SendRefused
from gmesh.node.api.json_lines import JsonLines, json_line

__all__ = ["Acknowledgements", "MessageLines"]

_SECRET = 8
"""Bytes in the beginning of an identifier, so that no program guesses those of another."""


class Acknowledgements:
    """
    Messages that programs have and have not acknowledged.

    @param entropy: as C{os.urandom}.
    """

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._open: dict[str, tuple[object, Deferred[bytes]]] = {}

    def prefix(self) -> str:
        """For the identifiers of one connection."""
        return self._entropy(_SECRET).hex()

    def expect(self, identifier: str, owner: object) -> Deferred[bytes]:
        """A message went to a program of C{owner}. @return: fires when it is acknowledged."""
        given: Deferred[bytes] = Deferred()
        self._open[identifier] = owner, given
        return given

    def forget(self, identifiers: Iterable[str]) -> None:
        """Their program has gone."""
        for identifier in identifiers:
            self._open.pop(identifier, None)

    def settle(
        self, identifiers: Iterable[str], owner: object, refused: str | None, answer: bytes = b""
    ) -> list[str]:
        """
        A program is done with these messages.

        @param refused: why it refuses them, for their senders; None if it ended well.
        @param answer: what it gives back to their senders.
        @return: those that are not waited for: acknowledged before, given to another program since, or none.
        """
        unknown = []
        for identifier in identifiers:
            whose, given = self._open.get(identifier, (None, None))
            if given is None or whose != owner:
                unknown.append(identifier)
                continue
            del self._open[identifier]
            if refused is None:
                given.callback(answer)
            else:
                given.errback(SendRefused("refused", refused))
        return unknown


class MessageLines(JsonLines):
    """
    The messages of one service: C{{"from": NAME, "service": NAME, "data": BASE64}}, and where there are any
    C{"id"}, C{"key"} and C{"redelivered"}.

    @param acknowledgements: to wait for; None to be done with what is written.
    @param owner: whose program reads.
    """

    def __init__(
        self, request: Request, acknowledgements: Acknowledgements | None = None, owner: object = None
    ) -> None:
        super().__init__(request)
        self._acknowledgements = acknowledgements
        self._owner = owner
        self._prefix = "" if acknowledgements is None else acknowledgements.prefix()
        self._number = 0
        self._given: list[str] = []
        self._queue: deque[tuple[bytes, Deferred[bytes] | None]] = deque()
        self._paused = True  # until the headers are written

    def begin(self) -> None:
        """Send the headers, and what came before them."""
        super().begin()
        self.resumeProducing()

    def message(self, message: Message) -> Deferred[bytes] | None:
        """Hand one message to the reader. @return: fires when it is done with it; None if it is now."""
        row: dict[str, Any] = {
            "from": message.source_name,
            "service": message.service,
            "data": base64.b64encode(message.data).decode("ascii"),
        }
        if message.key:
            row["key"] = message.key
        if message.redelivered:
            row["redelivered"] = True
        done: Deferred[bytes] | None = None
        if self._acknowledgements is not None:
            self._number += 1
            row["id"] = identifier = f"{self._prefix}.{self._number}"
            done = self._acknowledgements.expect(identifier, self._owner)
            self._given.append(identifier)
            done.addBoth(self._over, identifier)
        line = json_line(row)
        if not self._paused:
            self._request.write(line)
            return done
        written: Deferred[bytes] | None = None
        if done is None:
            done = written = Deferred()
        self._queue.append((line, written))
        return done

    def _over(self, result: Any, identifier: str) -> Any:
        self._given.remove(identifier)
        return result

    def resumeProducing(self) -> None:
        """Write what is queued, until the next pause."""
        super().resumeProducing()
        while self._queue and not self._paused:
            line, written = self._queue.popleft()
            self._request.write(line)
            if written is not None:
                written.callback(b"")

    def end(self) -> None:
        """Forget what is queued, and what is not acknowledged: it is handed to whoever comes next."""
        super().end()
        self._queue.clear()
        if self._acknowledgements is not None:
            self._acknowledgements.forget(self._given)
        self._given.clear()
