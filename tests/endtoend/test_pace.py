# SPDX-License-Identifier: MIT
"""How the window follows answers, alone."""

from __future__ import annotations

from gmesh.endtoend import limits
from gmesh.endtoend.pace import Pace


def test_what_is_far_more_than_a_round_trip_needs_is_given_back():
    """Short round trips open the whole window; while they are long, only so much is left of it."""
    pace = Pace(limits.LANE_WINDOW)
    for _ in range(400):
        pace.answered(64 * 1024, 0.005)
    assert pace.window == limits.LANE_WINDOW
    for _ in range(400):
        pace.answered(64 * 1024, 0.1)
    assert pace.window == limits.WINDOW_LONG
    for _ in range(400):
        pace.answered(64 * 1024, 0.005)
    assert pace.window == limits.LANE_WINDOW


def test_a_small_window_is_kept_while_queues_fill():
    """It neither grows nor shrinks then: others fill these queues."""
    pace = Pace()
    for _ in range(10):
        pace.answered(8_192, 0.001)
    before = pace.window
    for _ in range(400):
        pace.answered(8_192, 0.5)
    assert before <= pace.window <= before + 10 * 8_192
    assert pace.window <= limits.WINDOW_MOST
