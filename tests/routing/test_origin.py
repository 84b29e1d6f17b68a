# SPDX-License-Identifier: MIT
"""Tests of C{routing.origin}, C{metric} and C{rates}: what a node says of itself, and when."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing.records import NETWORK, WALL, make_key

from gmesh.errors import FrameRefused
from gmesh.routing.limits import FLAP_MEMORY, MAX_SEQUENCE
from gmesh.routing.metric import LinkMetric, rtt_cost, smoothed
from gmesh.routing.origin import Originator
from gmesh.routing.record import NodeRecord, RecordFlag, decode_record, make_capabilities, signing_input
from gmesh.routing.spacing import Spacing
from gmesh.testing.engine_stubs import StubSigner, stub_verify


def handle(number: int) -> bytes:
    """A neighbour."""
    return number.to_bytes(8, "big")


def make(flags: RecordFlag = RecordFlag.RELAY, sequence: int = 0) -> Originator:
    """An originator with nothing to say yet but its first record."""
    return Originator(NETWORK, StubSigner(make_key("own")), lambda: 7, Random(1), flags, sequence)


def due(origin: Originator) -> float:
    """When it next wants to sign."""
    when = origin.next_due()
    assert when is not None
    return when


def sign(origin: Originator, now: float, wall: float = WALL) -> list[NodeRecord]:
    """What it signs at C{now}."""
    return origin.originate(now, wall + now)


def listed(record: NodeRecord) -> list[int]:
    """The neighbours of a record, as numbers."""
    return [int.from_bytes(peer, "big") for peer, _ in record.links]


def test_first_record() -> None:
    """The first record comes 10 ms after the start, signed, canonical, with time and serial."""
    origin = make()
    assert due(origin) == 0.010
    assert sign(origin, 0.009) == []
    (record,) = sign(origin, 0.010)
    assert decode_record(record.encode(), NETWORK) == record
    assert stub_verify(record.node_key, record.signature, signing_input(record.encode_unsigned()))
    assert (record.serial, record.fragment, record.issued_at, record.lifetime) == (7, 0, int(WALL), 3600)


def test_sequence() -> None:
    """The sequence is the clock's or one above the last, whichever is more, and never falls."""
    origin = make()
    first = sign(origin, 1.0)[0].sequence
    assert first == int(WALL + 1) << 20
    origin.link_up(handle(1), 96, 2.0)
    assert sign(origin, 9.0, wall=WALL - 10**6)[0].sequence == first + 1
    later = make(sequence=2**60)
    assert sign(later, 1.0)[0].sequence == 2**60 + 1 == later.sequence


def test_jump_above_own_record() -> None:
    """A strange record of ours makes the next one higher; one that cannot be outbid is left alone."""
    origin = make()
    sign(origin, 1.0)
    origin.heard_own(0, 2**60, 2.0)
    assert sign(origin, due(origin))[0].sequence == 2**60 + 1
    origin.heard_own(0, MAX_SEQUENCE, 50.0)
    assert due(origin) > 100


def test_old_fragment_is_emptied() -> None:
    """A fragment of an earlier life is superseded by an empty one, once."""
    origin = make()
    sign(origin, 1.0)
    origin.heard_own(3, 2**60, 2.0)
    (record,) = sign(origin, due(origin))
    assert record.fragment == 3 and record.links == () and record.sequence == 2**60 + 1
    assert all(record.fragment == 0 for record in sign(origin, 4000.0))


def test_spacing_grows_and_decays() -> None:
    """Repeated changes are signed 4 times 250, then 500 ms ... 10 s apart; after a quiet spell 10 ms do."""
    origin = make()
    origin.link_up(handle(1), 96, 0.0)
    times = []
    now = 0.0
    for number in range(12):
        now = due(origin)
        times.append(now)
        assert len(sign(origin, now)) == 1
        origin.set_capabilities(make_capabilities(services=[f"s{number}"]), now)
    gaps = [round(b - a, 3) for a, b in pairwise(times)]
    assert gaps == [0.25, 0.25, 0.25, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    sign(origin, due(origin))
    origin.set_capabilities((), now + 100)
    assert due(origin) == now + 100 + 0.010


def test_what_nobody_heard_holds_up_nothing() -> None:
    """The record signed at the start, before any link, delays the one that tells of a link by no spacing."""
    origin = make()
    sign(origin, 0.010)
    origin.link_up(handle(1), 96, 0.050)
    assert due(origin) == pytest.approx(0.060)
    sign(origin, 0.061)
    origin.link_up(handle(2), 96, 0.070)
    assert due(origin) == pytest.approx(0.311)


def test_link_down_is_told_at_once_within_the_burst() -> None:
    """Five losses are signed without delay, the sixth waits for the spacing."""
    origin = make()
    for number in range(1, 9):
        origin.link_up(handle(number), 96, 0.0)
    sign(origin, 0.5)
    for number in range(1, 6):
        origin.link_down(handle(number), 1.0)
        assert due(origin) == 1.0
        sign(origin, 1.0)
    origin.link_down(handle(6), 1.0)
    assert due(origin) > 1.25


def test_returning_link_must_hold() -> None:
    """A link that was just lost is announced after 3 s, unless it is the only one; a fresh one at once."""
    origin = make()
    origin.link_up(handle(1), 96, 0.0)
    origin.link_up(handle(2), 96, 0.0)
    assert listed(sign(origin, 0.01)[0]) == [1, 2]
    origin.link_down(handle(2), 10.0)
    origin.link_up(handle(2), 96, 10.1)
    assert listed(sign(origin, 10.11)[0]) == [1]
    assert due(origin) == pytest.approx(13.11)
    assert listed(sign(origin, due(origin))[0]) == [1, 2]
    origin.link_down(handle(2), 100.0)
    origin.link_up(handle(2), 96, 200.0)
    assert listed(sign(origin, due(origin))[0]) == [1]
    assert listed(sign(origin, due(origin))[0]) == [1, 2]


def test_lost_links_are_remembered_for_a_minute() -> None:
    """A host that ever other neighbours come to and leave remembers those of the last minute."""
    origin = make()
    for number in range(1000):
        origin.link_up(handle(number), 96, float(number))
        origin.link_down(handle(number), float(number))
    assert len(origin._lost) == FLAP_MEMORY


def test_only_link_does_not_wait() -> None:
    """The last way out is announced at once, also when it becomes the last while waiting."""
    origin = make()
    origin.link_up(handle(1), 96, 0.0)
    origin.link_up(handle(2), 96, 0.0)
    sign(origin, 0.01)
    origin.link_down(handle(2), 10.0)
    origin.link_up(handle(2), 96, 10.1)
    sign(origin, 10.2)
    origin.link_down(handle(1), 10.5)
    assert listed(sign(origin, due(origin))[0]) == [2]
    assert due(origin) > 60


def test_fragments() -> None:
    """An anchor spreads its links by 64; a change re-signs its own fragment; a place is kept and reused."""
    origin = make(RecordFlag.RELAY | RecordFlag.ANCHOR)
    for number in range(1, 151):
        origin.link_up(handle(number), 96, 0.0)
    records = sign(origin, 0.02)
    assert [(record.fragment, len(record.links)) for record in records] == [(0, 64), (1, 64), (2, 22)]
    assert [record.flags for record in records] == [RecordFlag.RELAY | RecordFlag.ANCHOR, 0, 0]
    origin.link_down(handle(70), 50.0)
    (record,) = sign(origin, 50.0)
    assert record.fragment == 1 and len(record.links) == 63
    assert origin.fragment_of(handle(70)) == 1 and origin.fragment_of(handle(150)) == 2
    origin.link_up(handle(999), 96, 90.0)
    (record,) = sign(origin, due(origin))
    assert record.fragment == 1 and 999 in listed(record)


def test_one_fragment_without_the_anchor_role() -> None:
    """Others list 64 links and count those that found no place."""
    origin = make()
    for number in range(1, 67):
        origin.link_up(handle(number), 96, 0.0)
    assert origin.unlisted == 2
    assert len(sign(origin, 0.02)[0].links) == 64
    origin.link_down(handle(66), 1.0)
    assert origin.unlisted == 1


def test_refresh() -> None:
    """A quiet record is signed again after 25 to 35 minutes."""
    origin = make()
    sign(origin, 0.01)
    assert 1500 <= due(origin) <= 2101
    assert len(sign(origin, due(origin))) == 1


def test_flags_cost_and_serial_are_told() -> None:
    """OVERLOAD, another cost and a renewed certificate each lead to a new record."""
    origin = make()
    origin.link_up(handle(1), 96, 0.0)
    sign(origin, 0.01)
    origin.set_flags(RecordFlag.RELAY | RecordFlag.OVERLOAD, 100.0)
    assert RecordFlag.OVERLOAD in sign(origin, 100.01)[0].flags
    origin.set_cost(handle(1), 200, 200.0)
    assert sign(origin, 200.01)[0].links == ((handle(1), 200),)
    origin.set_cost(handle(1), 200, 300.0)
    assert sign(origin, 300.01) == []
    origin.sign_again(400.0)
    assert len(sign(origin, 400.01)) == 1


def test_a_farewell_waits_for_no_spacing() -> None:
    """After a dozen changes in a row, OVERLOAD is still signed in the turn in which it is said."""
    origin = make()
    for number in range(12):
        origin.link_up(handle(number + 1), 96, number * 0.5)
        sign(origin, number * 0.5 + 0.4)
    now = 6.0
    origin.set_cost(handle(1), 200, now)
    assert due(origin) > now + 1
    origin.set_flags(RecordFlag.RELAY | RecordFlag.OVERLOAD, now)
    assert RecordFlag.OVERLOAD in sign(origin, now)[0].flags


def test_too_many_capabilities() -> None:
    """What would not fit beside 64 links is refused when it is set."""
    capabilities = make_capabilities(
        addresses=[f"{n}" + "h" * 127 for n in range(4)], services=["s" * 29 + f"{n}" for n in range(30)]
    )
    with pytest.raises(FrameRefused) as refused:
        make().set_capabilities(capabilities, 0.0)
    assert refused.value.reason == "bad-capability"


@given(st.lists(st.tuples(st.integers(1, 80), st.booleans(), st.floats(0.001, 5)), max_size=60))
def test_records_follow_links(steps: list[tuple[int, bool, float]]) -> None:
    """After all is quiet the records together list exactly the live links, whatever came before."""
    origin = make(RecordFlag.RELAY | RecordFlag.ANCHOR)
    now, live, latest = 0.0, set(), {}
    for number, up, pause in steps:
        now += pause
        (origin.link_up(handle(number), 96, now) if up else origin.link_down(handle(number), now))
        (live.add if up else live.discard)(number)
        for record in sign(origin, now):
            latest[record.fragment] = record
    while (when := due(origin)) < now + 60:
        for record in sign(origin, when):
            latest[record.fragment] = record
    assert sorted(number for record in latest.values() for number in listed(record)) == sorted(live)
    assert set(origin.links) == {handle(number) for number in live}


@pytest.mark.parametrize(
    ("rtt", "cost"), [(None, 96), (0.0, 96), (0.010, 96), (0.065, 171), (0.120, 246), (9.0, 246)]
)
def test_cost_of_round_trip(rtt: float | None, cost: int) -> None:
    """Base 96, 150 more from 10 to 120 ms."""
    assert rtt_cost(rtt) == cost


def test_cost_has_sixteen_steps() -> None:
    """The round-trip part takes 17 values in all."""
    assert len({rtt_cost(n / 10_000) for n in range(2000)}) == 17


def test_hysteresis() -> None:
    """A cost moves only after the round trip has been 25 % away for 30 s without a break."""
    metric = LinkMetric()
    assert not metric.update(0.005, 0.0) and metric.cost == 96
    assert not metric.update(0.1, 10.0)
    assert not metric.update(0.1, 39.9)
    assert metric.update(0.1, 40.0) and metric.cost > 200
    metric.update(0.01, 50.0)
    metric.update(0.1, 70.0)
    assert not metric.update(0.01, 85.0)


def test_suspect_and_penalty() -> None:
    """A suspect link costs four times as much; an operator's penalty adds; the field's end holds."""
    metric = LinkMetric(penalty=4)
    metric.suspect = True
    assert metric.cost == 400
    metric.penalty = 60_000
    assert metric.cost == 65_535


def test_moving_average() -> None:
    """The weight of a sample is 42/256."""
    assert smoothed(None, 5.0) == 5.0
    assert smoothed(1.0, 2.0) == 1 + 42 / 256


def test_spacing_before_any_action() -> None:
    """The first action waits only for the delay."""
    assert Spacing(0.01, 0.25, 1, 10, 30).ready_at(5.0) == 5.01
