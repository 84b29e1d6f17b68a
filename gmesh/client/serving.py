# SPDX-License-Identifier: MIT
"""
What a Twisted program serves: its handler, and how it is told to the node.

Tests: C{tests/client/test_mesh.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from gmesh.client.message_frames import FrameType, GivenMessage, MessageFrame, pack_text

__all__ = ["Handler", "Serving"]

Handler = Callable[[GivenMessage], Any]
"""
Deals with a message.  It is acknowledged when what this returns is done, a Deferred or coroutine; bytes that
come of it go back to the sender.  What is raised refuses it, a L{GmeshError} with what its C{detail} says.
"""


class Serving:
    """
    A service that is served until L{stop}.

    @ivar ready: Deferred that fires once it is, or fails.
    @ivar last: the tag of the message that was read last.
    """

    def __init__(
        self, leave: Callable[[Serving], object], tag: int, service: str, handler: Handler, concurrency: int
    ) -> None:
        self._leave = leave
        self.tag = tag
        self.service = service
        self.handler = handler
        self.concurrency = concurrency
        self.ready: Deferred[None] = Deferred()
        self.last = 0

    def stop(self) -> None:
        """Take no more messages: what the handler has not been given is another receiver's, or is refused."""
        self._leave(self)

    def frame(self) -> MessageFrame:
        """What asks for it, of a node that has given it nothing."""
        self.last = 0
        body = self.concurrency.to_bytes(2, "big") + pack_text(self.service)
        return MessageFrame(FrameType.SERVE, self.tag, body)

    def leaving(self) -> MessageFrame:
        """What ends it."""
        return MessageFrame(FrameType.LEAVE, self.tag, self.last.to_bytes(4, "big"))
