# SPDX-License-Identifier: MIT
"""The replay window against a naive twin that remembers every number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gmesh.endtoend.limits import REPLAY_WINDOW
from gmesh.endtoend.replay import ReplayWindow

steps = st.lists(
    st.one_of(
        st.integers(0, 60),
        st.integers(-60, 60).map(lambda offset: ("near", offset)),
        st.integers(900, 1_200).map(lambda offset: ("near", -offset)),
        st.integers(900, 3_000).map(lambda offset: ("near", offset)),
        st.just(2**64 - 2),
    ),
    max_size=80,
)


class Twin:
    """Remembers everything, and refuses what the window is too short for."""

    def __init__(self, width):
        self.width = width
        self.marked = set()

    def fresh(self, number):
        highest = max(self.marked, default=-1)
        return number not in self.marked and number > highest - self.width


@given(steps, st.sampled_from([1, 8, 64, REPLAY_WINDOW]))
def test_like_the_naive_twin(steps, width):
    """Whatever numbers come, the window says what a set of all of them would say."""
    window, twin = ReplayWindow(width), Twin(width)
    for step in steps:
        number = step if isinstance(step, int) else max(0, max(twin.marked, default=0) + step[1])
        assert window.fresh(number) == twin.fresh(number)
        if window.fresh(number):
            window.mark(number)
            twin.marked.add(number)
            assert not window.fresh(number)
        assert window.highest == max(twin.marked, default=-1)


def test_asking_changes_nothing():
    """A number that is only asked about, as a forged one is, does not move the window."""
    window = ReplayWindow()
    window.mark(5)
    assert window.fresh(2**60)
    assert window.fresh(4)
    assert window.highest == 5


def test_a_mark_below_the_window_is_nothing():
    """However far below: it is not fresh already, and takes no memory."""
    window = ReplayWindow(8)
    window.mark(2**62)
    for number in (2**62 - 8, 2**62 - 9, 2**31, 0):
        window.mark(number)
        assert not window.fresh(number)
    assert window.highest == 2**62
    assert window.fresh(2**62 - 7)


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 16))
def test_the_next_number_and_what_was_marked(numbers, width):
    """One above the highest is marked at once, others are left; a mark is known while it is in the window."""
    window, marked = ReplayWindow(width), set()
    for number in numbers:
        highest = max(marked, default=-1)
        if window.next(number):
            assert number == highest + 1
            marked.add(number)
        else:
            assert number != highest + 1 and window.highest == highest
            if window.fresh(number):
                window.mark(number)
                marked.add(number)
        newest = max(marked, default=-1)
        for each in range(42):
            assert window.marked(each) == (each in marked and each > newest - width)
