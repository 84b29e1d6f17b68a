# SPDX-License-Identifier: MIT
"""
Congestion control towards one peer: how much may be under way, and how long an answer may take. Pure.

The round trip is estimated as in RFC 6298; the window grows by slow start and congestion avoidance as in
RFC 5681, and shrinks as in RFC 9002.  Losses are rare and every hop queues before it drops, so the
window grows until the round trip says that queues fill, and shrinks when a relay reports a drop: once a
round trip, for what else is dropped within it left before the window shrank (RFC 9002, section 7.3.2).
What is far more than a round trip needs is given back as soon as queues fill.
"""

from __future__ import annotations

from collections import deque

from gmesh.endtoend import limits
from gmesh.endtoend.limits import ASKS_PER_WINDOW, MAX_BATCH_WINDOW, MAX_TIMED_ASKS

__all__ = ["CongestionControl", "InFlight"]


class CongestionControl:
    """
    How fast a peer may be sent to.

    @param max_window: the largest window.
    @ivar cwnd: bytes that may be unacknowledged.
    @ivar rto: when an unanswered message is sent again, seconds.
    """

    __slots__ = ("_max_window", "_min_rtt", "_recovered", "_rttvar", "_srtt", "_ssthresh", "cwnd", "rto")

    def __init__(self, max_window: int = limits.MAX_WINDOW) -> None:
        self.cwnd = float(limits.INITIAL_WINDOW)
        self.rto = limits.INITIAL_RTO
        self._ssthresh = self._max_window = float(max_window)
        self._srtt: float | None = None
        self._rttvar = 0.0
        self._min_rtt = 0.0
        self._recovered = 0.0

    @property
    def srtt(self) -> float | None:
        """The round trip as smoothed, seconds; None before the first."""
        return self._srtt

    @property
    def rttvar(self) -> float:
        """How much round trips vary, seconds."""
        return self._rttvar

    @property
    def min_rtt(self) -> float:
        """The least round trip seen, seconds; 0 before the first."""
        return self._min_rtt

    @property
    def slow(self) -> bool:
        """True if the round trip is long: large frames would delay everything behind them."""
        return self._srtt is not None and self._srtt > limits.SLOW_PATH

    def answered(self, size: int, rtt: float | None) -> None:
        """
        A message of C{size} bytes was answered.

        @param rtt: seconds it took; None if it was sent more than once (Karn's algorithm).
        """
        if rtt is not None:
            self.sample(rtt)
        if self._srtt is not None and max(self._srtt, rtt or 0.0) > 2 * self._min_rtt + limits.QUEUEING_DELAY:
            self.cwnd = max(min(self.cwnd, limits.LONG_RTT_WINDOW), self.cwnd - size / 2)
            return
        slow_start = self.cwnd < self._ssthresh  # RFC 5681, section 3.1
        grown = self.cwnd + (size if slow_start else size * limits.FRAGMENT_SIZE / self.cwnd)
        self.cwnd = min(grown, self._max_window)

    def sample(self, rtt: float) -> None:
        """A round trip took C{rtt} seconds (RFC 6298, section 2)."""
        if self._srtt is None:
            self._srtt, self._rttvar, self._min_rtt = rtt, rtt / 2, rtt
        else:
            self._rttvar += (abs(self._srtt - rtt) - self._rttvar) / 4
            self._srtt += (rtt - self._srtt) / 8
            self._min_rtt = min(self._min_rtt, rtt)
        self.rto = min(limits.MAX_RTO, max(limits.MIN_RTO, self._srtt + 4 * self._rttvar))

    def dropped(self, now: float) -> None:
        """A relay dropped something of ours (RFC 9002, section 7.3.2)."""
        if now < self._recovered:
            return
        self._recovered = now + (self.rto if self._srtt is None else self._srtt)
        self.cwnd = self._ssthresh = max(self.cwnd * limits.LOSS_REDUCTION, float(limits.MIN_WINDOW))

    def timed_out(self) -> None:
        """Nobody answered in time (RFC 5681, section 3.1; RFC 9002, section 7.6)."""
        self._ssthresh = max(self.cwnd * limits.LOSS_REDUCTION, float(limits.MIN_WINDOW))
        self.cwnd = float(limits.MIN_WINDOW)


class InFlight:
    """
    How much of an unbroken stream of bytes is under way: counted here, and asked of the far end now and then.

    The question travels in the stream itself, so its answer says that all before it has left the network.

    @ivar control: the window's size, and how long an answer may take.
    @ivar sent: bytes in all.
    @ivar reached: bytes that have left the network, or are taken for lost.
    """

    __slots__ = ("_asked", "_questions", "control", "reached", "sent")

    def __init__(self) -> None:
        self.control = CongestionControl(MAX_BATCH_WINDOW)
        self.sent = self.reached = self._asked = 0
        self._questions: deque[tuple[int, float]] = deque()

    @property
    def full(self) -> bool:
        """True if no more should be under way."""
        return self.sent - self.reached >= self.control.cwnd

    @property
    def asked(self) -> bool:
        """True if a question is not answered yet."""
        return self._asked > self.reached

    def asked_at(self, mark: int) -> float | None:
        """When the far end was asked to repeat C{mark}, if that is remembered."""
        return next((asked for number, asked in self._questions if number == mark), None)

    def send(self, size: int) -> bool:
        """So many bytes leave. @return: True if the far end is to be asked with them."""
        self.sent += size
        return self.sent - self._asked >= self.control.cwnd / ASKS_PER_WINDOW

    def question(self, now: float) -> int:
        """The far end is asked now. @return: the mark it is to repeat."""
        self._asked = self.sent
        if len(self._questions) >= MAX_TIMED_ASKS:
            self._questions.popleft()
        self._questions.append((self.sent, now))
        return self.sent

    def answer(self, mark: int, now: float) -> bool:
        """The far end has all before C{mark}. @return: False if that is no news."""
        if not self.reached < mark <= self.sent:
            return False
        rtt = None
        while self._questions and self._questions[0][0] <= mark:
            number, asked = self._questions.popleft()
            if number == mark:
                rtt = now - asked
        self.control.answered(mark - self.reached, rtt)
        self.reached = mark
        return True

    def silent(self) -> None:
        """No answer came in time: all that is under way is lost, and the next frame asks."""
        self.control.timed_out()
        self.forget()
        self._asked = self.sent - MAX_BATCH_WINDOW

    def forget(self) -> None:
        """Nothing is under way."""
        self.reached = self._asked = self.sent
        self._questions.clear()
