# SPDX-License-Identifier: MIT
"""What is acknowledged, what is lost, and when to ask again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.errors import FrameRefused
from gmesh.streams import limits
from gmesh.streams.flight import Flight, SentSegment
from gmesh.wire.stream_messages import Seen

RTT = 0.1


def seen(*runs: tuple[int, int], delay: float = 0.0) -> Seen:
    """A report."""
    return Seen(int(delay * 10_000), runs)


def numbers(segments: list[SentSegment[str]]) -> list[int]:
    """Of segments."""
    return [segment.number for segment in segments]


def flown(count: int, now: float = 0.0, generation: int = 0) -> Flight[str]:
    """So many segments under way."""
    flight: Flight[str] = Flight(0)
    for number in range(count):
        assert flight.sent([f"part {number}"], now, generation) == number
    return flight


def test_what_was_seen_is_acknowledged_once() -> None:
    """And a report that says nothing new changes nothing."""
    flight = flown(5)
    acknowledged, lost = flight.seen(seen((0, 2)), RTT)
    assert (numbers(acknowledged), lost) == ([0, 1, 2], [])
    assert [segment.parts for segment in acknowledged] == [["part 0"], ["part 1"], ["part 2"]]
    assert flight.seen(seen((0, 2)), RTT) == ([], [])
    assert numbers(flight.seen(seen((0, 4)), RTT)[0]) == [3, 4]
    assert not flight


def test_three_later_ones_make_a_segment_lost() -> None:
    """Not two, while no time has passed."""
    flight = flown(8)
    assert flight.seen(seen((1, 2)), RTT)[1] == []
    assert numbers(flight.seen(seen((1, 3)), RTT)[1]) == [0]
    assert numbers(flight.seen(seen((5, 7), (1, 3)), RTT)[1]) == [4]
    assert not flight


def test_a_later_one_and_time_make_a_segment_lost() -> None:
    """9/8 of a round trip after it was sent, and the deadline says when to look."""
    flight = flown(2)
    assert flight.seen(seen((1, 1)), RTT)[1] == []
    assert flight.deadline() == pytest.approx(RTT * 9 / 8)
    assert flight.lost(RTT * 1.12) == []
    assert numbers(flight.lost(RTT * 9 / 8)) == [0]


def test_a_change_of_the_path_is_no_loss() -> None:
    """Segments of the new path overtake a whole window: none is lost for that, until its time is over."""
    flight = flown(50, generation=1)
    for _ in range(20):
        flight.sent(["new"], 0.01, 2)
    acknowledged, lost = flight.seen(seen((50, 69)), 0.05)
    assert (len(acknowledged), lost) == (20, [])
    acknowledged, lost = flight.seen(seen((0, 69)), 0.09)
    assert (len(acknowledged), lost) == (50, [])


def test_what_a_dead_path_took_with_it_is_lost_together() -> None:
    """Once the new path has answered and the old one would have."""
    flight = flown(50, generation=1)
    flight.sent(["probe"], 0.05, 2)
    assert flight.seen(seen((50, 50)), 0.1)[1] == []
    due = flight.deadline()
    assert due is not None
    assert 0.1 < due <= 0.1 + flight.probe_time
    assert len(flight.lost(due)) == 50


def test_the_round_trip_is_without_the_delay_of_the_report() -> None:
    """RFC 9002, section 5.3."""
    flight = flown(1)
    flight.seen(seen((0, 0), delay=0.02), 0.12)
    assert flight.srtt == pytest.approx(0.1)
    flight.sent(["x"], 1.0, 0)
    flight.seen(seen((1, 1), delay=6.5), 1.2)
    assert flight.latest == pytest.approx(0.2), "a delay longer than the round trip is a lie"


def test_probes_double_and_stop_at_ten_seconds() -> None:
    """From the last acknowledgement; anything acknowledged begins anew."""
    flight = flown(2)
    flight.seen(seen((0, 0)), RTT)
    now, gaps = RTT, []
    for _ in range(12):
        due = flight.deadline()
        assert due is not None
        assert flight.probe(due - 0.001) is None
        segment = flight.probe(due)
        assert segment is not None
        assert segment.number == 1
        gaps.append(due - now)
        now = due
    assert gaps[0] == pytest.approx(flight.probe_time)
    assert gaps[1] == pytest.approx(2 * gaps[0])
    assert gaps[2] == pytest.approx(4 * gaps[0])
    assert gaps[-1] == limits.MAX_PROBE
    flight.sent(["x"], now, 0)
    flight.seen(seen((2, 2)), now + RTT)
    assert flight.probes == 0


def test_the_first_probe_waits_a_tenth_of_a_second_at_least() -> None:
    """However short the round trip."""
    flight = flown(2)
    flight.seen(seen((0, 0)), 0.0001)
    assert flight.deadline() == pytest.approx(0.0001 + limits.MIN_PROBE)


def test_word_of_a_drop_hurries_five_probes() -> None:
    """They say nothing of the path, and no more come until something is acknowledged."""
    flight = flown(1)
    now = 0.0
    for _ in range(limits.MAX_HURRIES):
        flight.hurry(now)
        assert flight.deadline() == pytest.approx(now + limits.HURRY)
        now += limits.HURRY
        assert flight.probe(now) is not None
    assert flight.probes == 0
    flight.hurry(now)
    due = flight.deadline()
    assert due is not None
    assert due > now + 2 * limits.HURRY


def test_a_claim_to_have_seen_what_was_never_sent_is_refused() -> None:
    """And acknowledges nothing."""
    flight = flown(3)
    with pytest.raises(FrameRefused):
        flight.seen(seen((0, 3)), RTT)
    assert len(flight) == 3


@given(
    st.integers(1, 40),
    st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=20, unique=True), max_size=10),
)
def test_each_segment_is_acknowledged_or_lost_or_under_way(count: int, reports: list[list[int]]) -> None:
    """Exactly one of the three, whatever is reported; what is acknowledged was reported."""
    flight = flown(count)
    acknowledged, lost, now = set[int](), set[int](), RTT
    for report in reports:
        came = sorted({number for number in report if number < count}, reverse=True)
        if not came:
            continue
        runs: list[tuple[int, int]] = []
        for number in came:
            if runs and runs[-1][0] == number + 1:
                runs[-1] = (number, runs[-1][1])
            else:
                runs.append((number, number))
        new, gone = flight.seen(Seen(0, tuple(runs)), now)
        assert {segment.number for segment in new} == set(came) - acknowledged - lost
        acknowledged |= set(numbers(new))
        assert lost.isdisjoint(numbers(gone))
        lost |= set(numbers(gone))
        assert acknowledged.isdisjoint(lost)
        now += 0.01
    left = numbers(flight.clear())
    assert sorted([*acknowledged, *lost, *left]) == list(range(count))
