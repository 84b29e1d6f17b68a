# SPDX-License-Identifier: MIT
"""Two nodes for each test that asks for them; their streams are over at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator

from node.gateways.rig import CLOCK, Nodes
from pytest_twisted import async_yield_fixture
from twisted.internet.task import deferLater


@async_yield_fixture
async def nodes() -> AsyncIterator[Nodes]:
    """Two nodes that reach each other."""
    made = Nodes()
    yield made
    for streams in (made.here, made.there):
        streams.break_all("stopped")
    for _ in range(4):
        await deferLater(CLOCK, 0)
