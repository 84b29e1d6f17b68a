# SPDX-License-Identifier: MIT
"""Two nodes of streams in memory, on the reactor, for gateways that have real sockets at their other end."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from gmesh.testing.memory_streams import MemoryStreams, joined

__all__ = ["CLOCK", "NETWORK", "Nodes"]

CLOCK: Any = reactor
NETWORK = "0123456789" + "ab" * 11


class Nodes:
    """
    Two nodes.

    @ivar here: the node with the gateway under test.
    @ivar there: the other.
    """

    def __init__(self) -> None:
        self.here, self.there = joined(CLOCK, names=("pump-07", "desk"))

    @property
    def own_id(self) -> str:
        """The node id of the one under test."""
        return self.here.address("").node_id

    async def dial(self, service: str, protocol: Any) -> MemoryStreams:
        """Have the other node dial a service of the one under test."""
        found: MemoryStreams = await self.there.dial("pump-07", service, lambda peer: protocol)
        return found
