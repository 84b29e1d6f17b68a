# SPDX-License-Identifier: MIT
"""
Nodes a and b in a process of their own, joined in memory, with local APIs at C{a.sock} and C{b.sock} in DIR.

    python -m client.two_nodes DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

from node.api.stream_programs import LocalNodes
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.python.failure import Failure


class UntilClosed(Protocol):
    """Whoever started this still wants it."""

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)


async def main(clock: object, directory: str) -> None:
    """Listen, say so, and go on until standard input ends."""
    nodes = LocalNodes(Path(directory))
    await nodes.start()
    wanted = UntilClosed()
    StandardIO(wanted, reactor=reactor)
    wanted.transport.write(b"ready\n")
    await wanted.closed


if __name__ == "__main__":
    react(main, sys.argv[1:])
