# SPDX-License-Identifier: MIT
"""Which segments have come, against a set of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gmesh.streams.ranges import SeenNumbers
from gmesh.wire.limits import MAX_SEEN_RUNS
from gmesh.wire.stream_messages import Seen

FAR = st.one_of(st.integers(0, 10), st.sampled_from([2**32 - 1, 2**32, 2**40, 2**63, 2**64 - 12]))


def runs_of(numbers: set[int]) -> list[tuple[int, int]]:
    """First and last of each run, the newest first, slowly."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers, reverse=True):
        if runs and runs[-1][0] == number + 1:
            runs[-1] = (number, runs[-1][1])
        else:
            runs.append((number, number))
    return runs


@given(st.lists(st.integers(0, 60), min_size=1))
def test_runs_are_those_of_the_numbers_that_came(numbers: list[int]) -> None:
    """Whatever order they come in, and however often; so few numbers that no run is forgotten."""
    seen, came = SeenNumbers(), set[int]()
    for number in numbers:
        in_order = not came or number == max(came) + 1
        assert seen.add(number) is in_order
        came.add(number)
        assert list(seen.runs) == runs_of(came)


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=200))
def test_the_newest_runs_are_kept(numbers: list[int]) -> None:
    """What is said is true, is about the newest, and fits a SEEN."""
    seen = SeenNumbers()
    for number in numbers:
        seen.add(number)
    runs = seen.runs
    assert len(runs) <= MAX_SEEN_RUNS
    assert runs[0][1] == max(numbers)
    for first, last in runs:
        assert set(range(first, last + 1)) <= set(numbers)
    if len(runs) < MAX_SEEN_RUNS:
        assert len(runs) == len([run for run in runs_of(set(numbers)) if run[1] >= runs[-1][0]])
    assert Seen.decode(Seen(0, runs).encode()).runs == runs


@given(st.lists(st.tuples(FAR, st.integers(0, 10)).map(sum), min_size=1, max_size=MAX_SEEN_RUNS))
def test_whatever_a_peer_jumps_to_can_be_said(numbers: list[int]) -> None:
    """Runs and gaps of a SEEN have 32 bits: what came further below the largest than that is not said."""
    seen = SeenNumbers()
    for number in numbers:
        seen.add(number)
    runs = Seen.decode(Seen(0, seen.runs).encode()).runs
    lowest = max(numbers) - 2**32 + 2
    assert list(runs) == runs_of({number for number in numbers if number >= lowest})


def test_a_run_of_more_numbers_than_can_be_said_is_said_as_far() -> None:
    """After 2^32 segments without a gap."""
    seen = SeenNumbers()
    seen.add(7)
    seen.largest = 2**33
    assert Seen.decode(Seen(0, seen.runs).encode()).runs == ((2**33 - 2**32 + 2, 2**33),)
