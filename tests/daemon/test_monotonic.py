# SPDX-License-Identifier: MIT
"""Timers do not follow the wall clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import capturedLogs

from gmesh.daemon import monotonic
from gmesh.daemon.monotonic import keep_monotonic_time


@pytest.fixture
def reactor() -> Iterator[Any]:
    """A reactor of our own, never run."""
    made: Any = SelectReactor()
    yield made
    for call in made.getDelayedCalls():
        call.cancel()
    made.removeAll()
    made.waker.connectionLost(None)


def test_a_timer_is_due_by_the_monotonic_clock(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds from now are ten monotonic seconds from now, whatever the time of day becomes."""
    now = [100.0]
    monkeypatch.setattr(monotonic, "monotonic", lambda: now[0])
    assert keep_monotonic_time(reactor)
    fired: list[float] = []
    reactor.callLater(10, lambda: fired.append(now[0]))
    assert reactor.timeout() == 10
    now[0] = 110.5
    reactor.runUntilCurrent()
    assert fired == [110.5]


def test_what_is_scheduled_already_keeps_its_clock(reactor: Any) -> None:
    """A mixture of clocks would fire everything at once or never: it is told, and nothing changes."""
    before = reactor.seconds
    reactor.callLater(10, lambda: None)
    with capturedLogs() as lines:
        assert not keep_monotonic_time(reactor)
    assert reactor.seconds is before
    assert len(lines) == 1


def test_twice_is_once(reactor: Any) -> None:
    """A second daemon in the process finds it done."""
    assert keep_monotonic_time(reactor)
    reactor.callLater(10, lambda: None)
    assert keep_monotonic_time(reactor)
