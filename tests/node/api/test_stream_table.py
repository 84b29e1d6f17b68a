# SPDX-License-Identifier: MIT
"""The table of open streams, and the end of one of them."""

from __future__ import annotations

import pytest
from streams.rigs import MemoryRig, Recorder
from twisted.internet.defer import Deferred

from gmesh.errors import RequestRefused
from gmesh.node.api.stream_table import StreamTable
from gmesh.stream_errors import StreamLost


class Node(MemoryRig):
    """Node a has dialled node b."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = Recorder(self), Recorder(self)
        Deferred.fromCoroutine(self.connect(self.near, self.far))
        self.tables = [StreamTable(node.open_streams, self.clock.seconds) for node in self.streams]


def test_each_end_has_a_row() -> None:
    """Who is at the other end, which way it was opened, and what went through it."""
    node = Node()
    node.near.transport.write(b"12345")
    node.far.transport.write(b"123")
    node.clock.advance(2)
    ours, theirs = (table.rows()[0] for table in node.tables)
    peer = node.near.transport.getPeer()
    assert ours == {
        "id": node.near.transport.stream,
        "peer": "b",
        "node_id": peer.node_id,
        "service": "web",
        "direction": "out",
        "local": None,
        "state": "open",
        "sent": 5,
        "received": 3,
        "age": pytest.approx(2.02, abs=0.02),
    }
    assert (theirs["peer"], theirs["direction"], theirs["sent"], theirs["received"]) == ("a", "in", 3, 5)


def test_what_is_followed_changes_with_the_state_alone() -> None:
    """Bytes that pass are no news."""
    node = Node()
    before = node.tables[0].followed()
    node.near.transport.write(b"12345")
    node.clock.advance(2)
    assert node.tables[0].followed() == before
    node.near.transport.loseWriteConnection()
    [row] = node.tables[0].followed().values()
    assert row["state"] == "half-closed"


def test_a_stream_is_ended_at_the_word_of_a_program() -> None:
    """Broken for both ends, which hear why; then it is in no table."""
    node = Node()
    with pytest.raises(RequestRefused) as caught:
        node.tables[0].end(999)
    assert caught.value.reason == "unknown-stream"
    node.tables[0].end(node.near.transport.stream)
    node.clock.advance(1)
    for end in (node.near, node.far):
        assert end.lost is not None
        assert isinstance(end.lost.value, StreamLost)
        assert end.lost.value.reason == "aborted"
    assert node.tables[0].rows() == node.tables[1].rows() == []
