# SPDX-License-Identifier: MIT
"""
Congestion control towards one peer: how much may be under way, and how long an answer may take. Pure.

The round trip is estimated as in RFC 6298; the window grows by slow start and congestion avoidance as in
RFC 5681, and shrinks as in RFC 9002.  Losses are rare and every hop queues before it drops, so the
window grows until the round trip says that queues fill, and shrinks when a relay reports a drop: once a
round trip, for what else is dropped within it left before the window shrank (RFC 9002, section 7.3.2).
What is far more than a round trip needs is given back as soon as queues fill: relays serve flows in turn, so
what waits in them is our own, and a message to the same node would wait behind it.  How much that is comes
of what the path was seen to deliver, as in BBR (N. Cardwell et al., ACM Queue 14(5), 2016).
"""

from __future__ import annotations

from collections import deque

from gmesh.endtoend import limits
from gmesh.endtoend.limits import ASKS_PER_WINDOW, MAX_BATCH_WINDOW, MAX_TIMED_ASKS

__all__ = ["CongestionControl", "DeliveryRate", "InFlight"]


class DeliveryRate:
    """
    How much a path delivers, as its far end reports.

    Over two windows or so that is what it does, and remembered for a while; over one round trip it may be
    more, as while the window opens, and counts for a window.
    """

    __slots__ = ("_at", "_lasting", "_lately", "_marks")

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=2 * limits.ASKS_PER_WINDOW)
        self._lately: deque[float] = deque(maxlen=limits.ASKS_PER_WINDOW)
        self._lasting = self._at = 0.0

    def answered(self, reached: int, before: int, rtt: float, now: float) -> None:
        """
        The far end has C{reached} bytes; when it was asked, C{rtt} seconds ago, C{before} were known of.
        """
        marks = self._marks
        self._lasting *= 0.5 ** ((now - self._at) / limits.RATE_HALF_LIFE)
        if len(marks) == marks.maxlen:
            since, then = marks[0]
            if now > since:
                self._lasting = max(self._lasting, (reached - then) / (now - since))
        marks.append((now, reached))
        self._lately.append((reached - before) / rtt if rtt > 0 else 0.0)
        self._at = now

    @property
    def rate(self) -> float:
        """What it does deliver, bytes a second; 0 while it is not known."""
        return self._lasting or (max(self._lately) if self._lately else 0.0)

    @property
    def most(self) -> float:
        """What it may deliver, bytes a second; 0 while it is not known."""
        return max(self._lasting, *self._lately) if self._lately else self._lasting

    def forget(self) -> None:
        """It is another path."""
        self._marks.clear()
        self._lately.clear()
        self._lasting = self._at = 0.0


class CongestionControl:
    """
    How fast a peer may be sent to.

    @param max_window: the largest window.
    @ivar cwnd: bytes that may be unacknowledged.
    @ivar delivery: how much the path delivers, if anybody says so.
    @ivar rto: when an unanswered message is sent again, seconds.
    """

    __slots__ = (
        "_calm",
        "_drain",
        "_max_window",
        "_min_rtt",
        "_recovered",
        "_rttvar",
        "_srtt",
        "_ssthresh",
        "cwnd",
        "delivery",
        "rto",
    )

    def __init__(self, max_window: int = limits.MAX_WINDOW) -> None:
        self.cwnd = float(limits.INITIAL_WINDOW)
        self.rto = limits.INITIAL_RTO
        self._ssthresh = self._max_window = float(max_window)
        self._srtt: float | None = None
        self._rttvar = 0.0
        self._min_rtt = 0.0
        self._calm = 0.0
        self._drain: tuple[float, float] | None = None
        self.delivery = DeliveryRate()
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

    def answered(self, size: int, rtt: float | None, now: float = 0.0) -> None:
        """
        A message of C{size} bytes was answered.

        @param rtt: seconds it took; None if it was sent more than once (Karn's algorithm).
        """
        if rtt is not None:
            self.sample(rtt)
        if self._drain is not None:
            self._drained(rtt, now)
            return
        most, rate = 2 * self._min_rtt + limits.QUEUEING_DELAY, self.delivery.rate
        if self._srtt is not None and (self._srtt > most or (rtt or 0.0) > most):
            if rate and self.cwnd < limits.INITIAL_WINDOW:  # so much is no queue to speak of
                self.cwnd = min(limits.INITIAL_WINDOW, self.cwnd + size * limits.FRAGMENT_SIZE / self.cwnd)
                return
            delivered = rate * most - limits.OVERSHOOT
            enough = max(limits.INITIAL_WINDOW, delivered) if rate else limits.LONG_RTT_WINDOW
            self.cwnd = max(min(self.cwnd, enough), self.cwnd - size / 2)
            if now > self._calm + limits.MEASURE_AGAIN:
                self._drain = (now + self._srtt, self.cwnd)
                self.cwnd = float(limits.MIN_WINDOW)
            return
        self._calm = now
        slow_start = self.cwnd < self._ssthresh  # RFC 5681, section 3.1
        grown = self.cwnd + (size if slow_start else size * limits.FRAGMENT_SIZE / self.cwnd)
        if rate:
            grown = max(self.cwnd, min(grown, self.delivery.most * most))
        self.cwnd = min(grown, self._max_window)

    def sample(self, rtt: float) -> None:
        """A round trip took C{rtt} seconds (RFC 6298, section 2)."""
        if self._srtt is None:
            self._srtt, self._rttvar = rtt, rtt / 2
        else:
            self._rttvar += (abs(self._srtt - rtt) - self._rttvar) / 4
            self._srtt += (rtt - self._srtt) / 8
        self.least(rtt)
        self.rto = min(limits.MAX_RTO, max(limits.MIN_RTO, self._srtt + 4 * self._rttvar))

    def least(self, rtt: float) -> None:
        """Something small, as a handshake, took C{rtt} seconds there and back."""
        self._min_rtt = min(self._min_rtt or rtt, rtt)

    def _drained(self, rtt: float | None, now: float) -> None:
        """The round trip of what was asked once nothing else was under way is the least one."""
        if self._drain is not None and rtt is not None and now - rtt >= self._drain[0]:
            self._min_rtt, self._calm = rtt, now
            self._fill()

    def _fill(self) -> None:
        """Under way may be again what was before."""
        if self._drain is not None:
            self.cwnd, self._drain = self._drain[1], None

    def rerouted(self) -> None:
        """What goes out from now on takes another path: it is measured from the beginning."""
        self._fill()
        self._srtt = None
        self._min_rtt = 0.0
        self.delivery.forget()

    def dropped(self, now: float) -> None:
        """A relay dropped something of ours (RFC 9002, section 7.3.2)."""
        if now < self._recovered:
            return
        self._fill()
        self._recovered = now + (self.rto if self._srtt is None else self._srtt)
        self.cwnd = self._ssthresh = max(self.cwnd * limits.LOSS_REDUCTION, float(limits.MIN_WINDOW))

    def timed_out(self) -> None:
        """Nobody answered in time (RFC 5681, section 3.1; RFC 9002, section 7.6)."""
        self._fill()
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
        self._questions: deque[tuple[int, float, int]] = deque()

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
        return next((asked for number, asked, _ in self._questions if number == mark), None)

    def send(self, size: int) -> bool:
        """So many bytes leave. @return: True if the far end is to be asked with them."""
        self.sent += size
        return self.sent - self._asked >= self.control.cwnd / ASKS_PER_WINDOW

    def question(self, now: float) -> int:
        """The far end is asked now. @return: the mark it is to repeat."""
        self._asked = self.sent
        if len(self._questions) >= MAX_TIMED_ASKS:
            self._questions.popleft()
        self._questions.append((self.sent, now, self.reached))
        return self.sent

    def answer(self, mark: int, now: float) -> bool:
        """The far end has all before C{mark}. @return: False if that is no news."""
        if not self.reached < mark <= self.sent:
            return False
        rtt = None
        while self._questions and self._questions[0][0] <= mark:
            number, asked, reached = self._questions.popleft()
            if number == mark:
                rtt = now - asked
                self.control.delivery.answered(mark, reached, rtt, now)
        self.control.answered(mark - self.reached, rtt, now)
        self.reached = mark
        return True

    def rerouted(self) -> None:
        """Another path from now on: answers to what was asked before say nothing of it."""
        self._questions.clear()
        self.control.rerouted()

    def silent(self) -> None:
        """No answer came in time: all that is under way is lost, and the next frame asks."""
        self.control.timed_out()
        self.forget()
        self._asked = self.sent - MAX_BATCH_WINDOW

    def forget(self) -> None:
        """Nothing is under way."""
        self.reached = self._asked = self.sent
        self._questions.clear()
