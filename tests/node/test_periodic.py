# SPDX-License-Identifier: MIT
"""Periodic work: its timing, its end, and that a bug in it does not end it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gmesh.node.periodic import PeriodicTask


class Work:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.clock = Clock()
        self.hold: Deferred[None] | None = None
        self.fail = False
        self.recurring = PeriodicTask(self.clock, self.step, 60.0)

    async def step(self) -> float:
        self.times.append(self.clock.seconds())
        if self.hold is not None:
            await self.hold
        if self.fail:
            raise ZeroDivisionError
        return 10.0


def test_each_step_says_when_the_next_comes() -> None:
    """First after the start delay, then after what the step returned; nothing after stop."""
    work = Work()
    work.recurring.start(3)
    work.clock.pump([1] * 24)
    assert work.times == [3, 13, 23]
    assert work.recurring.stop().called
    assert work.clock.getDelayedCalls() == []


def test_soon_while_waiting_and_while_running() -> None:
    """Asked while waiting it runs at once; asked while running it runs once more right after."""
    work = Work()
    work.recurring.start(3)
    work.recurring.soon()
    work.clock.advance(0)
    assert work.times == [0]
    work.hold = Deferred()
    work.clock.advance(10)
    work.recurring.soon()
    work.recurring.soon()
    hold, work.hold = work.hold, None
    hold.callback(None)
    work.clock.advance(0)
    assert work.times == [0, 10, 10]
    work.recurring.stop()


def test_asked_by_its_own_step() -> None:
    """A step that ends without waiting may ask for the next one as well."""
    clock, times = Clock(), []

    async def step() -> float:
        times.append(clock.seconds())
        if len(times) < 3:
            recurring.soon() if len(times) == 1 else recurring.within(5.0)
        return 10.0

    recurring = PeriodicTask(clock, step, 60.0)
    recurring.start()
    clock.pump([0] * 5)
    assert times == [0, 0, 0]
    recurring.stop()


def test_stop_cancels_what_runs() -> None:
    """The step is cancelled and stop waits until it has ended."""
    work = Work()
    cancelled: list[Deferred[None]] = []
    work.hold = Deferred(cancelled.append)
    work.recurring.start()
    work.clock.advance(0)
    assert work.recurring.stop().called
    assert cancelled == [work.hold]
    assert work.clock.getDelayedCalls() == []


def test_a_bug_is_logged_and_the_work_goes_on(flush_logged_errors: Callable[..., list[Any]]) -> None:
    """A step that raises is tried again later."""
    work = Work()
    work.fail = True
    work.recurring.start()
    work.clock.advance(0)
    work.fail = False
    work.clock.advance(60)
    assert work.times == [0, 60]
    assert len(flush_logged_errors(ZeroDivisionError)) == 1
    work.recurring.stop()
