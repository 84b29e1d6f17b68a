# SPDX-License-Identifier: MIT
"""All streams with one peer over a channel that loses, copies and reorders: bytes intact, nothing left."""

from __future__ import annotations

import hashlib

import pytest
from streams.rigs import HalfCloser, Rig
from streams.two_ends import TwoEnds

MIB = 1024 * 1024
BYTES = bytes(range(256)) * 4096
RIG = Rig()


def test_a_megabyte_each_way_over_a_clean_channel_is_sent_once() -> None:
    """No segment is sent twice, and the payload dominates."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, other = two.open(near, far)
    stream.write(BYTES)
    other.write(BYTES[::-1])
    stream.loseWriteConnection()
    other.loseWriteConnection()
    two.until(lambda: near.lost and far.lost)
    assert near.clean
    assert far.clean
    assert (far.data, near.data) == (BYTES, BYTES[::-1])
    assert two.a.counters["segments-resent"] == two.b.counters["segments-resent"] == 0
    assert sum(map(len, two.a.channel.sent)) < 1.02 * MIB
    two.run(60)
    assert two.clock.getDelayedCalls() == []


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("jitter", [0.0, 0.05])
def test_bytes_are_whole_and_in_order_over_a_bad_channel(share: float, jitter: float) -> None:
    """Frames are lost, copied and overtake each other; the streams end cleanly all the same."""
    two = TwoEnds(seed=int(share * 100 + jitter * 1000))
    two.rough(share, copied=share, jitter=jitter)
    ends = []
    for _ in range(4):
        near, far = HalfCloser(RIG), HalfCloser(RIG)
        stream, other = two.open(near, far)
        stream.write(BYTES)
        other.write(BYTES[: MIB // 2])
        stream.loseWriteConnection()
        other.loseWriteConnection()
        ends.append((near, far))
    two.until(lambda: all(near.lost and far.lost for near, far in ends))
    for near, far in ends:
        assert near.clean
        assert far.clean
        assert hashlib.sha256(far.data).digest() == hashlib.sha256(BYTES).digest()
        assert near.data == BYTES[: MIB // 2]
    assert two.a.counters["segments-resent"] > 0
    two.run(700)
    assert two.clock.getDelayedCalls() == []
    for end in (two.a, two.b):
        assert end.credit.used == end.sends.used == 0
        assert not end.mux.active
