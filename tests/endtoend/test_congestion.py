# SPDX-License-Identifier: MIT
"""Congestion control: how the window follows answers."""

from __future__ import annotations

import pytest

from gmesh.endtoend import limits
from gmesh.endtoend.congestion import CongestionControl


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
