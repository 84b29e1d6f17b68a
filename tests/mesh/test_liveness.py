# SPDX-License-Identifier: MIT
"""When a neighbour is asked, doubted, given up."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gmesh.mesh.limits import LAN, RTT_REFRESH, WAN
from gmesh.mesh.liveness import Alarm, Liveness


def play(profile, heard=(), until=40.0, seed=1):
    """Ask at every due time; C{heard}: when something arrives. The verdicts that say something."""
    liveness = Liveness(profile, Random(seed), 0.0)
    said, now, heard = [], 0.0, sorted(heard)
    while now < until:
        verdict = liveness.verdict(now)
        if verdict is not None:
            said.append((now, verdict))
        if verdict is Alarm.DEAD:
            break
        if verdict is Alarm.PING:
            liveness.asked(now)
        due = liveness.due()
        while heard and heard[0] <= min(due, until):
            liveness.heard(heard.pop(0))
            due = liveness.due()
        assert due > now or verdict is not None, "asked again at once without need"
        now = max(now, due)
    return said


def test_silence_from_the_start():
    """PING at once, doubt after three seconds, dead after fifteen."""
    said = play(WAN)
    assert said[:2] == [(0.0, Alarm.PING), (3.0, Alarm.SUSPECT)]
    assert said[-1] == (15.0, Alarm.DEAD)
    assert {verdict for _, verdict in said[2:-1]} == {Alarm.PING}


def test_the_lan_profile_is_faster():
    """Three seconds of silence are enough there."""
    assert play(LAN)[-1] == (3.0, Alarm.DEAD)


def test_traffic_is_life():
    """While something arrives every second nobody is pinged, but for the round trip."""
    said = play(WAN, heard=range(1, 100), until=80.0)
    assert {verdict for _, verdict in said} == {Alarm.PING}
    assert len(said) <= 1 + 80 // 4


def test_a_busy_link_is_measured_now_and_then():
    """Traffic is life, but says nothing of the round trip: that is asked for each 30 s."""
    liveness = Liveness(WAN, Random(1), 0.0)
    asked = []
    for now in range(100):
        liveness.heard(now)
        if liveness.verdict(now) is Alarm.PING:
            asked.append(now)
            liveness.asked(now)
            liveness.answered(now, now)
        assert liveness.due() <= asked[-1] + RTT_REFRESH
    assert asked == [0, 30, 60, 90]


def test_the_round_trip_is_smoothed():
    """The first sample as it is, then 42/256 of each difference."""
    liveness = Liveness(WAN, Random(1), 0.0)
    liveness.answered(1.0, 1.1)
    assert abs(liveness.rtt - 0.1) < 1e-9
    liveness.answered(2.0, 2.2)
    assert abs(liveness.rtt - (0.1 + 0.1 * 42 / 256)) < 1e-9


def test_a_probe_gives_one_pong_of_time():
    """Unanswered it is the end, answered by anything it is forgotten."""
    liveness = Liveness(WAN, Random(1), 0.0)
    liveness.asked(0.0)
    liveness.heard(0.1)
    liveness.probe(1.0)
    assert liveness.verdict(3.9) is not Alarm.DEAD
    assert liveness.verdict(4.0) is Alarm.DEAD
    liveness.heard(4.0)
    assert liveness.verdict(4.0) is not Alarm.DEAD


@given(st.lists(st.floats(0, 60), max_size=30), st.integers(0, 100))
def test_dead_means_fifteen_seconds_of_silence(heard, seed):
    """Whatever arrives when: dead exactly when nothing came for fifteen seconds, and never a busy loop."""
    said = play(WAN, heard, until=60.0, seed=seed)
    times = sorted({0.0, *heard})
    gap = next(
        (time for time, after in zip(times, [*times[1:], 1e9], strict=True) if after > time + 15), None
    )
    if gap is not None and gap + 15 < 60:
        assert said[-1] == (gap + 15, Alarm.DEAD)
    else:
        assert all(verdict is not Alarm.DEAD for _, verdict in said)
