# SPDX-License-Identifier: MIT
"""Messages as JSON lines: done with when they are written, or when they are acknowledged."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from gmesh.endtoend.services import Message
from gmesh.node.api.message_lines import Acknowledgements, MessageLines


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

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written if line]


def message(data: bytes = b"x", **more: Any) -> Message:
    return Message("a", "aa" * 16, (), "log", data)._replace(**more)


def opened(acknowledgements: Acknowledgements | None = None) -> tuple[MessageLines, Any]:
    request: Any = _Request()
    lines = MessageLines(request, acknowledgements, 1000)
    lines.begin()
    return lines, request


def outcomes(*given: Deferred[None] | None) -> list[str]:
    told: list[str] = []
    for deferred in given:
        assert deferred is not None
        deferred.addCallbacks(
            lambda _: told.append("done"), lambda failure: told.append(failure.value.detail)
        )
    return told


def test_what_is_written_is_done() -> None:
    """At once, while the reader keeps up."""
    lines, request = opened()
    assert lines.message(message(key="k", redelivered=True)) is None
    assert request.rows == [{"from": "a", "service": "log", "data": "eA==", "key": "k", "redelivered": True}]


def test_a_slow_reader_makes_its_senders_wait() -> None:
    """While it is paused nothing is done with, and nothing lost; then all in order."""
    lines, request = opened()
    lines.pauseProducing()
    told = outcomes(*(lines.message(message(b"%d" % number)) for number in range(100)))
    assert request.written == [b""] and told == []
    lines.resumeProducing()
    assert [row["data"] for row in request.rows] == [row["data"] for row in sorted_rows(100)]
    assert told == ["done"] * 100


def sorted_rows(count: int) -> list[dict[str, Any]]:
    lines, request = opened()
    for number in range(count):
        lines.message(message(b"%d" % number))
    return list(request.rows)


def test_nothing_is_written_before_the_headers() -> None:
    """What comes while the program is being registered waits for them."""
    request: Any = _Request()
    lines = MessageLines(request)
    told = outcomes(lines.message(message()))
    assert request.written == [] and told == []
    lines.begin()
    assert [bool(line) for line in request.written] == [False, True] and told == ["done"]


def test_with_acknowledgements_it_is_done_when_the_program_says_so() -> None:
    """In any order, each once, and refused with the words of the program."""
    acknowledgements = Acknowledgements(lambda size: b"s" * size)
    lines, request = opened(acknowledgements)
    told = outcomes(*(lines.message(message(b"%d" % number)) for number in range(3)))
    one, two, three = (row["id"] for row in request.rows)
    assert told == []
    assert acknowledgements.settle([three, "none"], 1000, None) == ["none"]
    assert acknowledgements.settle([one], 1000, "too hot") == []
    assert told == ["done", "too hot"]
    assert acknowledgements.settle([one, three], 1000, None) == [one, three]
    assert acknowledgements.settle([two], 1000, None) == []


def test_only_the_user_whose_program_has_it_acknowledges() -> None:
    """Not another one who learns the identifier, nor anybody once the program has gone."""
    acknowledgements = Acknowledgements(lambda size: b"s" * size)
    lines, request = opened(acknowledgements)
    told = outcomes(lines.message(message()))
    (identifier,) = (row["id"] for row in request.rows)
    assert acknowledgements.settle([identifier], 1001, None) == [identifier]
    lines.end()
    assert acknowledgements.settle([identifier], 1000, None) == [identifier]
    assert told == [] and acknowledgements._open == {}
