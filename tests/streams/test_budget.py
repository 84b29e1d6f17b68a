# SPDX-License-Identifier: MIT
"""Credit is memory: what is granted is counted, grows with the reader, and comes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gmesh.streams import limits
from gmesh.streams.budget import CreditBudget, CreditWindow, SendBudget

KIB, MIB = 1024, 1024 * 1024


def read(window: CreditWindow, rate: float, rtt: float, seconds: float) -> None:
    """A reader that takes C{rate} bytes a second, or what it may, for so long."""
    now, step = 0.0, rtt / 20
    while now < seconds:
        now += step
        take = min(int(rate * step), window.limit - window.consumed)
        window.consumed += take
        if window.consumed >= window.due:
            window.grant(now, rtt)


def test_a_window_grows_to_twice_what_a_round_trip_takes() -> None:
    """100 Mbit/s over 100 ms need 1.25 MiB."""
    window = CreditWindow(CreditBudget(), limits.FIRST_CREDIT, 0.0)
    read(window, 12.5e6, 0.1, 3.0)
    assert 1.25e6 <= window.window <= 2.6e6
    assert window.consumed > 0.8 * 12.5e6 * 3.0 * 0.8


def test_a_slow_reader_keeps_what_it_began_with() -> None:
    """And no more is granted than was taken."""
    window = CreditWindow(CreditBudget(), limits.FIRST_CREDIT, 0.0)
    read(window, 10_000, 0.1, 30.0)
    assert window.window == limits.FIRST_CREDIT
    assert window.limit - window.consumed <= limits.FIRST_CREDIT


def test_no_window_is_larger_than_what_may_be_under_way() -> None:
    """However fast the reader."""
    window = CreditWindow(CreditBudget(), limits.FIRST_CREDIT, 0.0)
    read(window, 1e10, 0.1, 3.0)
    assert window.window == limits.MAX_CREDIT == 6 * MIB


def test_a_window_that_was_idle_for_a_minute_begins_again() -> None:
    """Its memory is needed elsewhere."""
    window = CreditWindow(CreditBudget(), limits.FIRST_CREDIT, 0.0)
    read(window, 1e9, 0.1, 3.0)
    assert window.window == limits.MAX_CREDIT
    window.consumed = window.limit
    window.grant(3.0 + limits.CREDIT_IDLE + 60, 0.1)
    assert window.window <= limits.FIRST_CREDIT


def test_first_credits_shrink_as_the_budget_is_used() -> None:
    """Half of a node's is for one peer; new streams of another are served while anything is left."""
    node = CreditBudget()
    one, other = (CreditBudget(limits.PEER_CREDIT, node) for _ in range(2))
    firsts = []
    while size := one.first():
        CreditWindow(one, size, 0.0)
        firsts.append(size)
    assert set(firsts) == {256 * KIB, 64 * KIB, 16 * KIB}
    assert firsts == sorted(firsts, reverse=True)
    assert one.used <= limits.PEER_CREDIT
    assert other.first() == 16 * KIB
    while size := other.first():
        CreditWindow(other, size, 0.0)
    assert node.used <= limits.NODE_CREDIT
    assert node.left < limits.LAST_CREDIT


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 400_000)), max_size=200))
def test_the_budget_is_what_is_granted_and_not_consumed(steps: list[tuple[int, int]]) -> None:
    """Never more than its limit; nothing is left of streams that end; a reader that takes all gets more."""
    budget = CreditBudget(2 * MIB)
    windows: dict[int, CreditWindow] = {}
    now = 0.0
    for which, size in steps:
        now += 0.01
        window = windows.get(which)
        if window is None:
            first = budget.first()
            if first:
                windows[which] = CreditWindow(budget, first, now)
        elif size < 1000:
            windows.pop(which).close()
        else:
            window.consumed = min(window.limit, window.consumed + size)
            if window.consumed >= window.due:
                window.grant(now, 0.02)
            assert window.limit > window.consumed
        assert 0 <= sum(each.limit - each.consumed for each in windows.values()) <= budget.used <= 2 * MIB
    for window in windows.values():
        window.close()
    assert budget.used == 0


def test_beyond_the_budget_of_a_node_each_peer_may_send_a_little() -> None:
    """One dead peer does not silence the others."""
    node = SendBudget()
    dead, alive = SendBudget(node), SendBudget(node)
    while dead.allows():
        dead.change(16 * KIB)
    assert node.used == limits.NODE_UNACKNOWLEDGED
    while alive.allows():
        alive.change(16 * KIB)
    assert alive.used == limits.PEER_UNACKNOWLEDGED
    alive.change(-alive.used)
    assert alive.allows()
