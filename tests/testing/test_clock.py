# SPDX-License-Identifier: MIT
"""Virtual time: each call at its own instant, in the order asked for, and as Twisted's clocks promise."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface.verify import verifyObject

from gmesh.testing.clock import MAX_CALLS_AT_ONCE, EventClock
from gmesh.testing.world import World


def test_each_call_sees_its_own_time() -> None:
    """Calls run at their instants, those of one instant in order, also what they ask for themselves."""
    clock, seen = EventClock(), []
    assert verifyObject(IReactorTime, clock)
    clock.callLater(2, lambda: seen.append(("late", clock.seconds())))
    clock.callLater(1, lambda: clock.callLater(0.5, lambda: seen.append(("asked", clock.seconds()))))
    for name in "ab":
        clock.callLater(1, lambda name=name: seen.append((name, clock.seconds())))
    clock.advance(3)
    assert seen == [("a", 1), ("b", 1), ("asked", 1.5), ("late", 2)]
    assert clock.seconds() == 3


def test_calls_are_cancelled_put_off_and_brought_forward() -> None:
    """What was cancelled does not run; what was moved runs once, at its new time."""
    clock, seen = EventClock(), []
    gone, later, sooner = (
        clock.callLater(2, lambda name=name: seen.append((name, clock.seconds()))) for name in "abc"
    )
    gone.cancel()
    later.reset(5)
    sooner.reset(1)
    assert set(clock.getDelayedCalls()) == {later, sooner}
    assert clock.next_time() == 1
    clock.advance(10)
    assert seen == [("c", 1), ("b", 5)]
    assert clock.getDelayedCalls() == [] and clock.next_time() is None


def test_time_that_stands_still_is_noticed() -> None:
    """A call that always asks for another one now would never end."""
    clock = EventClock()
    clock._at_once = MAX_CALLS_AT_ONCE - 100

    def again() -> None:
        clock.callLater(0, again)

    again()
    with pytest.raises(AssertionError, match="time stands still at 0"):
        clock.advance(1)


def test_a_world_waits_for_what_comes_true() -> None:
    """It says how long that took, fails when it does not, and gives a Deferred's result or its error."""
    world, ticks = World(), []
    loop = LoopingCall(lambda: ticks.append(world.now()))
    loop.clock = world.clock
    loop.start(1.5)
    assert world.run_until(lambda: len(ticks) == 3) == 3.0
    with pytest.raises(AssertionError, match=r"not within 2\.0 s"):
        world.run_until(lambda: False, within=2.0)
    answer: Deferred[str] = Deferred()
    world.clock.callLater(1, answer.callback, "yes")
    assert world.result(answer) == "yes"
    with pytest.raises(KeyError):
        world.result(fail(KeyError("no")))
    loop.stop()
    assert world.clock.getDelayedCalls() == []
