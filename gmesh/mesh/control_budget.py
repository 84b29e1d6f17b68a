# SPDX-License-Identifier: MIT
"""
What the control frames of a neighbour may cost: CPU time a turn of the reactor, and a second in the long run.

The time around the handling of each control frame is measured; data frames are not, and cost nothing here.
What is too much for a turn waits for the next.  Over its budget, a link is not read until it is back within
it, so that its far end waits too; if that goes on for long, the link is left.  A budget belongs to a node, so
that it is not new with each link.
Tests: C{tests/mesh/test_control_budget.py}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.mesh.limits import (
    CONTROL_BURST,
    CONTROL_FRAME,
    CONTROL_PATIENCE,
    CONTROL_PATIENCE_BACK,
    CONTROL_RATE,
    CONTROL_TURN,
    MAX_CONTROL_BUDGETS,
    TICK,
)
from gmesh.token_bucket import Budget

__all__ = ["ControlBudget", "ControlBudgets", "ControlTurns"]

Receive = Callable[[int, memoryview, int, int], None]


class ControlBudget:
    """
    What one node may cost.

    @ivar spent: seconds of CPU time in all.
    """

    def __init__(self, now: float) -> None:
        self.spent = 0.0
        self._cost = Budget(CONTROL_RATE, CONTROL_BURST, now)
        self._pauses = Budget(CONTROL_PATIENCE_BACK, CONTROL_PATIENCE, now)

    def spend(self, seconds: float) -> None:
        """It has cost so much."""
        self.spent += seconds
        self._cost.left -= seconds

    def wait(self, now: float) -> float:
        """Seconds until it is within its budget again; 0 if it is."""
        within = self._cost.left >= 0 or self._cost.more(now)
        return 0.0 if within else -self._cost.left / CONTROL_RATE + TICK

    def pause(self, seconds: float, now: float) -> bool:
        """It is not read for so long. @return: False if it was paused too much."""
        self._pauses.left -= seconds
        return self._pauses.left >= 0 or self._pauses.more(now)

    def full(self, now: float) -> bool:
        """True if forgetting it would give it nothing."""
        return self._cost.full(now) and self._pauses.full(now)


class ControlBudgets:
    """
    The budgets of all neighbours.

    @param cpu: seconds of CPU time of the calling thread; where it stands still, frames alone are counted.
    """

    def __init__(self, clock: IReactorTime, cpu: Callable[[], float] = lambda: 0.0) -> None:
        self.clock = clock
        self.cpu = cpu
        self._budgets: dict[bytes, ControlBudget] = {}

    def since(self, began: float) -> float:
        """
        What was handled from C{began} to now has cost.

        No frame takes as long as C{CONTROL_BURST}: what is longer is a host that stood still, as a virtual
        machine that is moved does, which may count that as CPU time.  It is not the neighbour's fault.
        """
        return min(self.cpu() - began, CONTROL_BURST)

    def of(self, handle: bytes) -> ControlBudget:
        """The budget of this node."""
        budget = self._budgets.get(handle)
        if budget is None:
            now = self.clock.seconds()
            if len(self._budgets) >= MAX_CONTROL_BUDGETS:
                self._budgets = {key: held for key, held in self._budgets.items() if not held.full(now)}
            budget = self._budgets[handle] = ControlBudget(now)
        return budget

    @property
    def spent_by_all(self) -> float:
        """Seconds that all of these have cost so far."""
        return sum(budget.spent for budget in self._budgets.values())

    def spent(self, handle: bytes) -> float:
        """Seconds that this node has cost so far."""
        budget = self._budgets.get(handle)
        return 0.0 if budget is None else budget.spent


class ControlTurns:
    """
    The control frames of one link, as many a turn as it may have handled.

    @param read: called with False to stop reading the link, with True to go on.
    @param refused: called with what was wrong with a frame that had waited.
    @param leave: called once the link has been over its budget for too long.
    """

    def __init__(
        self,
        budgets: ControlBudgets,
        handle: bytes,
        read: Callable[[bool], object],
        refused: Callable[[Exception], object],
        leave: Callable[[], object],
    ) -> None:
        self._clock = budgets.clock
        self._budgets = budgets
        self._budget = budgets.of(handle)
        self._read, self._refused, self._leave = read, refused, leave
        self._left = CONTROL_TURN
        self._held: deque[Callable[[], None]] = deque()
        self._call: IDelayedCall | None = None
        self._stopped = False

    def measured(self, receive: Receive) -> Receive:
        """C{receive} for a kind of control frames, each in its turn."""

        def received(kind: int, record: memoryview, start: int, end: int) -> None:
            if self._call is not None:
                self._held.append(partial(self._handle, receive, kind, record, start, end))
            else:
                self._handle(receive, kind, record, start, end)

        return received

    def charge(self, seconds: float = CONTROL_FRAME) -> None:
        """A frame cost so much, handled or not."""
        self._budget.spend(seconds)
        self._left -= seconds
        if self._left <= 0 and self._call is None and not self._stopped:
            self._pause()

    def turn_over(self) -> None:
        """All that was read at once was handed over."""
        if self._call is None and self._left < CONTROL_TURN:
            self._left = CONTROL_TURN
            if self._budget.wait(self._clock.seconds()) and not self._stopped:
                self._pause()

    def stop(self) -> None:
        """The link ends: what waits is dropped, and it is read again, if only to hear why."""
        self._stopped = True
        self._held.clear()
        if self._call is not None:
            if self._call.active():
                self._call.cancel()
            self._call = None
            self._read(True)

    def _handle(self, receive: Receive, kind: int, record: memoryview, start: int, end: int) -> None:
        began = self._budgets.cpu()
        try:
            receive(kind, record, start, end)
        finally:
            self.charge(self._budgets.since(began) + CONTROL_FRAME)

    def _pause(self) -> None:
        self._read(False)
        self._wait()

    def _wait(self) -> None:
        now = self._clock.seconds()
        wait = self._budget.wait(now)
        self._call = self._clock.callLater(wait, self._go_on)
        if not self._budget.pause(wait, now):
            self._leave()

    def _go_on(self) -> None:
        self._left = CONTROL_TURN
        while self._held and self._left > 0 and not self._stopped:
            try:
                self._held.popleft()()
            except Exception as error:  # as the reactor does where the frame did not wait
                self._refused(error)
        if self._stopped:
            return
        if self._held or self._budget.wait(self._clock.seconds()):
            self._wait()
        else:
            self._call = None
            self._left = CONTROL_TURN
            self._read(True)
