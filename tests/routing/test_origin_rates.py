# SPDX-License-Identifier: MIT
"""Tests of C{routing.origin_rates}: what one origin costs all others, and that honest ones fit into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from routing.records import NETWORK, WALL, make_key, make_record
from routing.test_database import Setting

from gmesh.mesh.limits import TICK
from gmesh.routing.database import OfferOutcome
from gmesh.routing.limits import (
    ANCHOR_RECORDS,
    MAX_FRAGMENTS,
    MAX_RECORD,
    MAX_RECORD_LINKS,
    NODE_RECORDS,
    ORIGIN_RATE,
    OWN_ANCHOR_RECORDS,
    OWN_RECORDS,
)
from gmesh.routing.origin import Originator
from gmesh.routing.record import NodeRecord, RecordFlag, handle_of
from gmesh.testing.engine_stubs import StubSigner

LINKS = MAX_FRAGMENTS * MAX_RECORD_LINKS
DAY = 86400
MB = 1_000_000


def test_c12_an_anchor_that_signs_anew_as_fast_as_it_may() -> None:
    """All 64 fragments each second for ten minutes: few are verified, the rest waits unlooked at."""
    setting = Setting()
    taken = 0
    for second in range(600):
        for fragment in range(MAX_FRAGMENTS):
            data = make_record("anchor", sequence=second + 1, fragment=fragment)
            taken += setting.offer(data, float(second), WALL) is OfferOutcome.ACCEPTED
    assert taken == setting.verified
    assert taken <= 1024 + 600 / 2


def test_c12_a_node_that_signs_anew_as_fast_as_it_may() -> None:
    """A node without fragments has less."""
    setting = Setting()
    for second in range(600):
        setting.offer(make_record("a", sequence=second + 1), float(second), WALL)
    assert setting.verified <= 40 + 600 / 5


def test_c12_bodies_of_one_sequence_have_the_same_rate() -> None:
    """Each is verified once, by the rate, and a body that lost is not verified again."""
    setting = Setting()
    bodies = [make_record("a", {"b": cost}, sequence=9) for cost in range(1, 400)]
    for second in range(3):
        for data in bodies:
            setting.offer(data, float(second), WALL)
    assert setting.verified <= 40
    held = setting.verified
    [best] = [entry.data for _, entry in setting.database.store.entries()]
    assert setting.offer(best, 100.0, WALL) is OfferOutcome.DUPLICATE
    assert setting.verified == held


def test_c12_what_others_forge_uses_up_nothing() -> None:
    """Records with a bad signature take nothing from the rate of the origin they name."""
    setting = Setting()
    for sequence in range(100):
        forged = make_record("a", sequence=1000 + sequence)
        assert setting.offer(forged[:-1] + bytes([forged[-1] ^ 1])) is OfferOutcome.BAD_SIGNATURE
    assert setting.offer(make_record("a", sequence=1)) is OfferOutcome.ACCEPTED


@pytest.mark.parametrize(("rate", "most"), [(NODE_RECORDS, 40 * MB), (ANCHOR_RECORDS, 100 * MB)])
def test_c12_a_day_of_it(rate: tuple[float, float], most: int) -> None:
    """In bytes of the largest records."""
    assert (rate[0] * DAY + rate[1]) * MAX_RECORD <= most


@dataclass
class Honest:
    """
    An honest node, and what a far one makes of its records.

    @ivar listed: the links that the far node knows of, by fragment.
    @ivar waiting: what came too fast for its fragment, and until when it waits there.
    """

    name: str
    flags: RecordFlag
    far: Setting = field(default_factory=Setting)
    listed: dict[int, set[bytes]] = field(default_factory=dict)
    waiting: dict[int, tuple[float, NodeRecord]] = field(default_factory=dict)
    records: int = 0
    sequence: int = 0

    def __post_init__(self) -> None:
        self.start(0.0)

    def start(self, now: float) -> None:
        """Begin, or begin again, without links."""
        signer = StubSigner(make_key(self.name))
        self.origin = Originator(NETWORK, signer, lambda: 1, Random(1), self.flags, self.sequence, now)

    def run(self, until: float) -> None:
        """Sign what comes due until then; each is taken at once, or within its fragment's second."""
        while True:
            due = self.origin.next_due()
            assert due is not None
            now = min((due, *(when for when, _ in self.waiting.values())))
            if now > until:
                break
            for when, record in list(self.waiting.values()):
                if when <= now:
                    self.offer(record, now)
            for record in self.origin.originate(now, WALL + now):
                self.records += 1
                self.offer(record, now)
        self.sequence = self.origin.sequence

    def offer(self, record: NodeRecord, now: float) -> None:
        """To the far node, which keeps it for a moment if it comes too fast."""
        if self.far.offer(record.encode(), now, WALL + now) is OfferOutcome.ACCEPTED:
            self.listed[record.fragment] = {handle for handle, _ in record.links}
            self.waiting.pop(record.fragment, None)
            return
        ready = self.far.database.ready_at((handle_of(record.node_key), record.fragment), now)
        assert now < ready <= now + 1 / ORIGIN_RATE
        self.waiting[record.fragment] = (ready + TICK, record)

    @property
    def links(self) -> int:
        """How many the far node knows of."""
        return len(set().union(*self.listed.values()))


def handle(number: int) -> bytes:
    """Of a neighbour."""
    return number.to_bytes(8, "big")


def come_up(anchor: Honest, since: float) -> None:
    """4,096 links within a minute."""
    for number in range(LINKS):
        now = since + 60 * number / LINKS
        anchor.run(now)
        anchor.origin.link_up(handle(number), 96, now)


def test_c12_an_honest_anchor_with_4096_links_fits() -> None:
    """A start, a restart and a storm that takes every link for a while: nothing waits, all is known soon."""
    anchor = Honest("anchor", RecordFlag.RELAY | RecordFlag.ANCHOR)
    come_up(anchor, 1.0)
    anchor.run(70.0)
    assert anchor.links == LINKS
    anchor.start(120.0)
    come_up(anchor, 121.0)
    anchor.run(190.0)
    assert anchor.links == LINKS
    anchor.run(1800.0)
    for number in range(LINKS):
        anchor.origin.link_down(handle(number), 1800.0 + number / LINKS)
        anchor.run(1800.0 + number / LINKS)
    anchor.run(1830.0)
    assert anchor.links == 0
    come_up(anchor, 1830.0)
    anchor.run(1900.0)
    assert anchor.links == LINKS
    assert anchor.records < ANCHOR_RECORDS.burst + 1900 * ANCHOR_RECORDS.rate


def test_c12_an_honest_node_whose_links_flap_fits() -> None:
    """One link comes and goes every second for an hour, with a restart: nothing waits for long."""
    node = Honest("a", RecordFlag.RELAY)
    node.origin.link_up(handle(1), 96, 0.0)
    for second in range(1, 3600):
        if second == 1800:
            node.start(1800.0)
            node.origin.link_up(handle(1), 96, 1800.0)
        node.run(second)
        node.origin.link_up(handle(2), 96, second)
        node.run(second + 0.5)
        node.origin.link_down(handle(2), second + 0.5)
    node.origin.link_up(handle(2), 96, 3600.0)
    node.run(3615.0)
    assert node.listed == {0: {handle(1), handle(2)}}
    assert node.records <= 2 * OWN_RECORDS.burst + 3615 * OWN_RECORDS.rate


def test_c12_what_is_said_is_half_of_what_is_taken() -> None:
    """Rate and burst of a node itself, against those of all others."""
    for own, taken in ((OWN_RECORDS, NODE_RECORDS), (OWN_ANCHOR_RECORDS, ANCHOR_RECORDS)):
        assert (2 * own.rate, 2 * own.burst) == taken
