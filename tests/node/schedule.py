# SPDX-License-Identifier: MIT
"""
A schedule of events over years of a managed mesh, and what must hold all the time.

An authority that is out of reach for hours to weeks, new keys, policies and commands, reboots, stepped
clocks: by a seed, in Unix time.  Around each of them every clock runs as it does outside; between them Unix
time may pass faster, see L{ManagedMesh.lapse}::

    schedule = Schedule(mesh, seed=1, pace=60)
    schedule.run(730)
    assert schedule.happened["rotate"] >= 7
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from random import Random
from unittest.mock import patch

from nacl import bindings
from node.managed_mesh import ManagedMesh, ManagedNode

from gmesh.mesh import control_protocol, document_reader
from gmesh.routing import database
from gmesh.testing.issuer import DAY
from gmesh.trust.limits import CERTIFICATE_LEEWAY
from gmesh.trust.verify import check_certificate

__all__ = ["BACK", "HOUR", "Schedule", "certified", "judging_once", "lapsing"]

HOUR = 3600.0
DAYS: dict[str, float] = {"policy": 7, "rotate": 91, "drop": 40, "reboot": 9, "step": 11, "command": 10}
"""Days from one event of a kind to the next; from the new key of the authority to the end of the old one."""
BACK = 120.0
"""Seconds after the authority's return, or any other event, in which every node must be back."""
OUTAGES = (2 * HOUR, 9 * HOUR, 15 * HOUR, 2.0 * DAY, 6.0 * DAY, 20.0 * DAY)
REBOOT = 240.0
"""Longest time for which a node is off."""
RECORD_LIFE = 60_000
"""About as long as a record can say that it lives; it must outlast the pace."""

CHECK_EVERY = HOUR / 2
SHARED = 4096
_SAME_FOR_ALL = (
    (bindings, "crypto_sign_open"),
    (bindings, "crypto_core_ed25519_is_valid_point"),
    (bindings, "crypto_scalarmult"),
    (control_protocol, "parse_document"),
    (document_reader, "parse_document"),
    (database, "decode_record"),
)


@contextmanager
def lapsing(pace: float) -> Iterator[None]:
    """
    Let what is counted in Unix time, but follows a period of the monotonic clock, live as much longer.

    Node records outlive their refresh, the renewal is due when Unix time says so, and no status comes late.
    """
    if pace == 1:
        yield
        return
    values = {
        "gmesh.routing.origin.LIFETIME": RECORD_LIFE,
        "gmesh.routing.record.MAX_LIFETIME": RECORD_LIFE,
        "gmesh.routing.database.MAX_LIFETIME": RECORD_LIFE,
        "gmesh.routing.database.MAX_FUTURE": RECORD_LIFE / 2,
        "gmesh.mesh.route_updates.MAX_FUTURE": RECORD_LIFE / 2,
        "gmesh.routing.origin.REFRESH": 0.85 * RECORD_LIFE / pace,
        "gmesh.routing.origin.REFRESH_SPREAD": 0.1 * RECORD_LIFE / pace,
        "gmesh.node.heartbeat.RENEWAL_CHECK": HOUR / pace,
        "gmesh.node.local_member.MAX_TIME_STEP": HOUR * pace,
    }
    patches = [patch(name, value) for name, value in values.items()]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


@contextmanager
def judging_once() -> Iterator[None]:
    """Let the nodes of a process share what is the same for all: signatures judged and bytes read."""
    patches = [
        patch.object(module, name, lru_cache(SHARED)(getattr(module, name))) for module, name in _SAME_FOR_ALL
    ]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def certified(mesh: ManagedMesh, node: ManagedNode) -> bool:
    """Whether a stranger with the right time and the newest genesis accepts this node's certificate."""
    document = node.runtime.member.certificate
    if document.body.not_after < mesh.wall():
        return False
    check_certificate(document, mesh.authority.genesis.body, mesh.authority.network_id, mesh.wall())
    return True


class Schedule:
    """
    The events of a mesh, by a seed.

    @param pace: how fast Unix time passes between events.
    @param longest: the longest outage of the authority.
    @param days: days from one event of a kind to the next, beside L{DAYS}; of C{drop}, from its C{rotate}.
    @ivar happened: how often what happened.
    """

    def __init__(
        self,
        mesh: ManagedMesh,
        seed: int,
        *,
        pace: float = 1.0,
        longest: float = OUTAGES[-1],
        days: dict[str, float] | None = None,
    ) -> None:
        self.mesh = mesh
        self.happened: Counter[str] = Counter()
        self._pace = pace
        self._random = Random(seed)
        self._outages = [outage for outage in OUTAGES if outage <= longest]
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        every = DAYS | {"outage": max(5.0, 1.5 * longest / DAY)} | (days or {})
        self._overlap = every.pop("drop") * DAY
        for name, period in every.items():
            self._again(getattr(self, name), period * DAY, 0.3, 0.7)

    def run(self, days: float) -> None:
        """Let C{days} pass; whatever must hold is looked at around each event, and often between."""
        end = self.mesh.wall() + days * DAY
        while self._events[0][0] < end:
            due, _, event = heapq.heappop(self._events)
            self._quiet(due)
            event()
            self.mesh.run(BACK)
            self.check()
        self._quiet(end)
        if not self.mesh.authority.up:
            self.come_back()
            self.mesh.run(BACK)
            self.check()

    # What happens

    def policy(self) -> None:
        """A new policy; while the authority is away nobody hears of it."""
        self.mesh.authority.publish_policy()

    def rotate(self) -> None:
        """The authority signs with a new key from now on; the old one is dropped later."""
        self.mesh.authority.rotate_authority_key()
        self._at(self._overlap, self._counted(self.drop))

    def drop(self) -> None:
        """The oldest key of the authority is good no more."""
        self.mesh.authority.rotate_authority_key(drop=True)

    def command(self) -> None:
        """An operator has every node reload."""
        authority = self.mesh.authority
        if not authority.up:
            return
        command = authority.command("reload").body.id
        self.mesh.run(BACK)
        answers = {name for identifier, name in authority.receipts if identifier == command}
        assert answers == set(self.mesh.nodes), "each node sends one receipt"

    def outage(self) -> None:
        """The authority is away for hours to weeks."""
        self.mesh.authority.up = False
        self._at(self._outages[0], self._counted(self.come_back))
        self._outages.append(self._outages.pop(0))

    def come_back(self) -> None:
        """The authority is there again."""
        self.mesh.authority.up = True

    def reboot(self) -> None:
        """A node stops, and starts some minutes later."""
        node = self._some_node()
        self.mesh.result(node.stop())
        self.mesh.run(self._random.uniform(1, REBOOT))
        node.restart()

    def step(self) -> None:
        """A clock is set to 1970, back an hour, ahead a minute, or right again."""
        self._some_node().skew = self._random.choice((-self.mesh.wall(), -HOUR, 60.0, 0.0))

    # What must hold

    def check(self) -> None:
        """
        Everybody is in the mesh whose certificate allows it, and knows what the authority said last.

        @raise AssertionError: naming who is not.
        """
        self.mesh.network.forget_closed()
        mesh, day = self.mesh, (self.mesh.wall() - self.mesh.began) / DAY
        good = [node for node in mesh if node.not_after >= mesh.wall()]
        if mesh.authority.up:
            behind = [node.name for node in mesh if not (certified(mesh, node) and self._informed(node))]
            assert not behind, f"not renewed or not informed on day {day:.2f}: {behind}"
        anchors = [node for node in good if "anchor" in node.runtime.member.roles]
        for anchor in anchors:
            lost = [node.name for node in good if node is not anchor and not anchor.reaches(node.name)]
            assert not lost, f"{anchor.name} does not reach on day {day:.2f}: {lost}"
        self._check_for_the_expired()

    def _check_for_the_expired(self) -> None:
        """Nobody with a clock that is right keeps a link to a node whose certificate has ended."""
        ended = self.mesh.wall() - CERTIFICATE_LEEWAY - HOUR - self._pace * self.mesh.profile.ping_after
        for node in self.mesh:
            links = node.runtime.links() if node.skew >= 0 else []
            kept = [link.peer.name for link in links if self.mesh[link.peer.name].not_after < ended]
            assert not kept, f"{node.name} is linked to nodes whose certificates ended: {kept}"

    def _informed(self, node: ManagedNode) -> bool:
        authority, numbers = self.mesh.authority, node.runtime.member.numbers()
        newest = authority.genesis.body.version, authority.policy.body.version, authority.crl.body.number
        return (numbers["genesis"], numbers["policy"], numbers["crl"]) == newest

    # When it happens

    def _quiet(self, until: float) -> None:
        """Nothing happens until then."""
        mesh = self.mesh
        mesh.lapse(self._pace)
        while mesh.wall() < until:
            mesh.run(min(CHECK_EVERY * max(1, self._pace / 60), until - mesh.wall()) / self._pace)
            self.check()
        mesh.lapse(1)

    def _some_node(self) -> ManagedNode:
        return self._random.choice(list(self.mesh))

    def _at(self, delay: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.mesh.wall() + delay, next(self._order), event))

    def _counted(self, event: Callable[[], None]) -> Callable[[], None]:
        def happen() -> None:
            self.happened[event.__name__] += 1
            event()

        return happen

    def _again(self, event: Callable[[], None], period: float, least: float = 0.8, most: float = 1.2) -> None:
        def happen() -> None:
            self._again(event, period)
            self._counted(event)()

        self._at(period * self._random.uniform(least, most), happen)
