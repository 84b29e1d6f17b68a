# SPDX-License-Identifier: MIT
"""However large messages are, what is under way beyond the window is bounded in bytes."""

from __future__ import annotations

from typing import Any

import pytest
from endtoend.producers import Source
from endtoend.rig import DELAY

from gmesh.endtoend import limits

HEADS = 100 * 64
"""Bytes of the heads of inner frames and of questions, at most."""


class Watched(Source):
    """Notes after each message how far beyond the window is what is under way."""

    def __init__(self, flow: Any, size: int, batch: Any) -> None:
        self.in_flight, self.beyond = batch._in_flight, 0.0
        super().__init__(flow, size, eager=100_000)

    def produce(self, count: int) -> None:
        for _ in range(count):
            if self.paused:
                return
            window = self.in_flight.control.cwnd
            super().produce(1)
            self.beyond = max(self.beyond, self.in_flight.sent - self.in_flight.reached - window)


@pytest.mark.parametrize("size", [100, 8_000, 16_000, 20_000, limits.MAX_DATAGRAM - 4])
def test_messages_go_beyond_the_window_by_no_more_than_one_of_them(fabric: Any, flow: Any, size: int) -> None:
    """A producer is paused before it writes another: small ones by what shares a seal, large ones by one."""
    batch = fabric.alice.associations.get(fabric.bob.handle).batch
    source = Watched(flow, size, batch)
    source.produce(100_000)
    for _ in range(10):
        fabric.run(DELAY)
    assert source.paused and len(source.sent) * size > 4 * limits.INITIAL_WINDOW
    assert 0 < source.beyond <= max(limits.OVERSHOOT, size) + HEADS


def test_segments_go_beyond_the_window_by_no_more_than_one_of_them(fabric: Any, flow: Any) -> None:
    """Also those that share a write: the window is asked before each."""
    batch = fabric.alice.associations.get(fabric.bob.handle).batch
    fabric.run(1.0)
    piece = bytes(limits.MAX_SEGMENT)
    sent = 0
    while batch.segment([piece], len(piece)):
        sent += 1
    batch.leave()
    in_flight = batch._in_flight
    assert sent and in_flight.full
    assert in_flight.sent - in_flight.reached <= in_flight.control.cwnd + limits.MAX_SEGMENT
