# SPDX-License-Identifier: MIT
"""Congestion control: how the window follows answers."""

from __future__ import annotations

import pytest

from gmesh.endtoend import limits
from gmesh.endtoend.congestion import CongestionControl, DeliveryRate, InFlight


def test_what_is_far_more_than_a_round_trip_needs_is_given_back():
    """Short round trips open the whole window; while they are long, only so much is left of it."""
    control = CongestionControl(limits.MAX_BATCH_WINDOW)
    for _ in range(400):
        control.answered(64 * 1024, 0.005)
    assert control.cwnd == limits.MAX_BATCH_WINDOW
    for _ in range(400):
        control.answered(64 * 1024, 0.1)
    assert control.cwnd == limits.LONG_RTT_WINDOW
    for _ in range(400):
        control.answered(64 * 1024, 0.005)
    assert control.cwnd == limits.MAX_BATCH_WINDOW


def test_a_small_window_is_kept_while_queues_fill():
    """It neither grows nor shrinks then: others fill these queues."""
    control = CongestionControl()
    for _ in range(10):
        control.answered(8_192, 0.001)
    before = control.cwnd
    for _ in range(400):
        control.answered(8_192, 0.5)
    assert before <= control.cwnd <= before + 10 * 8_192
    assert control.cwnd <= limits.MAX_WINDOW


def test_b11_the_window_shrinks_once_a_round_trip():
    """Ten drops of one event are one event; a drop a round trip later is another (RFC 9002, 7.3.2)."""
    control = CongestionControl(limits.MAX_BATCH_WINDOW)
    for _ in range(400):
        control.answered(64 * 1024, 0.1)
    assert control.cwnd == 6 * 1024 * 1024
    for _ in range(10):
        control.dropped(100.0)
    for tenth in range(10):
        control.dropped(100.0 + tenth / 100)
    once = control.cwnd
    assert once == pytest.approx(6 * 1024 * 1024 * 0.7)
    control.dropped(100.1 + 1e-6)
    assert control.cwnd == pytest.approx(once * 0.7)


def test_b11_before_the_first_round_trip_it_is_taken_for_a_second():
    """As long as a first message waits for its answer."""
    control = CongestionControl()
    for at in (5.0, 5.9, 6.1):
        control.dropped(at)
    assert control.cwnd == pytest.approx(32 * 1024 * 0.7 * 0.7)


class Path:
    """
    What a window of bytes meets: a path of a least round trip that delivers so many bytes a second, in turn.

    @ivar worst: the longest round trip since it was asked last.
    """

    def __init__(self, least, rate, handshake=True):
        self.least, self.rate = least, rate
        self.in_flight, self.now = InFlight(), 0.0
        self.idle_at, self.under_way, self.worst = 0.0, [], 0.0
        if handshake:
            self.in_flight.control.least(least)

    @property
    def window(self):
        return self.in_flight.control.cwnd

    def run(self, seconds, size=8_000):
        """Always more to send. @return: bytes a second that arrived."""
        until, began, self.worst = self.now + seconds, self.in_flight.reached, 0.0
        while self.now < until:
            if self.in_flight.full and not self.under_way:  # the timer of the sender asks
                self.under_way.append((self.now + self.least, self.now, self.in_flight.question(self.now)))
            while not self.in_flight.full:
                self.idle_at = max(self.idle_at, self.now) + size / self.rate
                if self.in_flight.send(size):
                    back = self.idle_at + self.least
                    self.under_way.append((back, self.now, self.in_flight.question(self.now)))
            self.now, asked, mark = self.under_way.pop(0)
            self.worst = max(self.worst, self.now - asked)
            self.in_flight.answer(mark, self.now)
        return (self.in_flight.reached - began) / seconds


@pytest.mark.parametrize("rate", [400_000, 1_250_000, 12_500_000])
@pytest.mark.parametrize("least", [0.005, 0.03, 0.1])
def test_no_more_is_under_way_than_a_path_delivers_in_twice_its_round_trip(least, rate):
    """And 20 ms; at least 32 KiB. The path is as full as before."""
    path = Path(least, rate)
    path.run(5)
    goodput = path.run(10)
    assert goodput >= 0.96 * rate
    assert path.worst <= max(2 * least + 0.02, limits.INITIAL_WINDOW / rate) + 16_000 / rate
    assert limits.INITIAL_WINDOW <= path.window <= max(limits.INITIAL_WINDOW, (2 * least + 0.02) * rate + 1)


def test_a_fast_path_has_the_whole_window():
    """Where as much is delivered in 20 ms, nothing is given back."""
    path = Path(0.0005, 400_000_000)
    path.run(1)
    assert path.window == limits.MAX_BATCH_WINDOW


def test_a_path_that_becomes_thin_is_learned_of():
    """What it once delivered is forgotten, by half in ten seconds."""
    path = Path(0.03, 12_500_000)
    path.run(5)
    path.rate = 1_250_000
    path.run(40)
    assert path.run(10) >= 0.98 * path.rate
    assert path.worst <= 0.1


def test_a_path_that_becomes_longer_is_measured_anew():
    """Round trips that stay long while the window shrinks are those of the path."""
    path = Path(0.01, 1_250_000)
    path.run(5)
    path.least = 0.2
    path.run(25)
    assert path.in_flight.control.min_rtt == pytest.approx(0.2, abs=0.01)
    assert path.run(10) >= 0.95 * path.rate


def test_another_path_is_measured_from_the_beginning():
    """At once: what was asked by the old one says nothing of it."""
    path = Path(0.01, 1_250_000)
    path.run(5)
    path.in_flight.rerouted()
    assert (path.in_flight.control.srtt, path.in_flight.control.min_rtt) == (None, 0.0)
    path.least, window = 0.2, path.window
    path.run(1)
    assert path.window >= window
    assert path.in_flight.control.min_rtt >= 0.2


def test_a_window_below_the_least_grows_again_while_round_trips_are_long():
    """What is lost at once by a path of 0.5 Mbit/s is not lost for ever."""
    path = Path(0.02, 60_000)
    path.run(5)
    path.in_flight.control.timed_out()
    path.run(20)
    assert path.window > 0.9 * limits.INITIAL_WINDOW
    assert path.run(20) >= 0.95 * path.rate


def test_a_window_that_is_drained_to_measure_is_there_again_after_a_loss():
    """Losses and time-outs while nothing is under way count from the window before."""
    for loses in (lambda control: control.dropped(99.0), lambda control: control.timed_out()):
        path = Path(0.01, 1_250_000)
        path.run(5)
        path.least = 0.2
        control, before = path.in_flight.control, 0.0
        for _ in range(10_000):
            if control.cwnd == limits.MIN_WINDOW:
                break
            before = control.cwnd
            path.run(0.001)
        loses(control)
        assert control.cwnd in (pytest.approx(before * 0.7), limits.MIN_WINDOW)
        assert control._ssthresh == pytest.approx(before * 0.7)


def test_the_rate_of_a_path_is_what_it_delivers_over_two_windows():
    """Over one it may be more, which counts for a window; what lasts is remembered for a while."""
    delivery = DeliveryRate()
    assert (delivery.rate, delivery.most) == (0, 0)
    for number in range(1, 9):
        delivery.answered(number * 1_000, number * 1_000 - 1_500, 0.1, number / 10)
        assert (delivery.rate, delivery.most) == (pytest.approx(15_000), pytest.approx(15_000))
    for number in range(9, 12):
        delivery.answered(number * 1_000, number * 1_000 - 10, 0.1, number / 10)
        assert (delivery.rate, delivery.most) == (pytest.approx(10_000), pytest.approx(15_000))
    delivery.answered(12_000, 11_990, 0.1, 1.2)
    assert (delivery.rate, delivery.most) == (pytest.approx(10_000), pytest.approx(10_000))
    delivery.answered(12_010, 12_000, 0.1, 1.2 + limits.RATE_HALF_LIFE)
    assert (delivery.rate, delivery.most) == (pytest.approx(5_000), pytest.approx(5_000))
    delivery.forget()
    assert (delivery.rate, delivery.most) == (0, 0)
