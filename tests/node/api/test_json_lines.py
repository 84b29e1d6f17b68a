# SPDX-License-Identifier: MIT
"""Answers that go on as JSON lines, to a reader that does not keep up."""

from __future__ import annotations

from typing import Any

import pytest

from gmesh.errors import SendRefused
from gmesh.node.api.json_lines import MessageLines
from gmesh.node.limits import RECEIVE_QUEUE_BYTES


class _Request:
    """The three calls of a request that a stream makes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.producer: Any = None

    def setHeader(self, name: bytes, value: bytes) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer


def test_a_slow_reader_is_bounded() -> None:
    """While paused messages wait in order up to the cap; beyond it they are refused, not lost silently."""
    request: Any = _Request()
    stream = MessageLines(request, "log")
    stream.begin()
    stream.pauseProducing()
    taken = 0
    with pytest.raises(SendRefused) as refused:
        while True:
            stream.message("a", b"x" * 10_000)
            taken += 1
    assert refused.value.reason == "busy"
    assert 0 < taken * 10_000 < RECEIVE_QUEUE_BYTES
    assert request.written == [b""]
    stream.resumeProducing()
    assert len(request.written) == taken + 1
    stream.end()
