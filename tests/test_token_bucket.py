# SPDX-License-Identifier: MIT
"""A rate with a burst, on a clock that is told."""

from __future__ import annotations

import pytest

from gmesh.token_bucket import Budget, TokenBucket


def test_bucket_against_naive_twin() -> None:
    """Over a long run a bucket lets through its burst and its rate, no more."""
    bucket = TokenBucket(2.0, 3, 0.0)
    assert sum(bucket.take(n / 100) for n in range(1001)) == 3 + 20
    assert bucket.ready_at(10.0) == pytest.approx(10.5)


def test_a_bucket_holds_its_burst_and_no_more() -> None:
    """However long the rest was; forgetting it changes nothing then."""
    bucket = TokenBucket(0.5, 2, 0.0)
    assert bucket.full(0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert not bucket.full(3.9)
    assert bucket.full(4.0)
    assert [bucket.take(1000.0) for _ in range(3)] == [True, True, False]


def test_how_long_to_wait() -> None:
    """What is asked costs nothing, and after that time one more is allowed."""
    bucket = TokenBucket(0.25, 1, 10.0)
    assert (bucket.wait(10.0), bucket.ready_at(10.0)) == (0.0, 10.0)
    assert bucket.take(10.0)
    assert [bucket.wait(now) for now in (10.0, 11.0, 13.0, 14.0)] == [4.0, 3.0, 1.0, 0.0]
    assert [bucket.take(now) for now in (13.5, 14.0)] == [False, True]


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    """What was allowed stays so."""
    bucket = TokenBucket(1.0, 2, 100.0)
    assert bucket.take(50.0) and bucket.wait(50.0) == 0.0 and bucket.take(50.0)


def test_a_budget_is_refilled_when_it_is_used_up() -> None:
    """It may be overdrawn by the last spender, and what came in pays that first."""
    budget = Budget(10.0, 20.0, 0.0)
    budget.left -= 25.0
    assert not budget.more(0.25)
    assert budget.more(0.5)
    assert budget.left == 0.0
    assert budget.more(100.0)
    assert budget.left == 20.0
