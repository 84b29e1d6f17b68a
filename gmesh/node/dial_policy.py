# SPDX-License-Identifier: MIT
"""
Which targets this node dials: the anchors, those named beside them, and anchors known only by their records.

What genesis, commands and records call an address is text of others: an address of a form that is
not dialled is left out and counted as C{address-not-dialled}, once while it stands there.  So is one
that is nearer than records and commands may lead to; genesis and options may name any.
Anchors dial each other and never stop; to every other node an anchor is one of many, dialled while
links are too few.  Tests: C{tests/node/test_hostile_addresses.py}, C{tests/node/test_memory_mesh.py},
C{tests/node/test_policy_changes.py}.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.mesh.counters import Counters
from gmesh.mesh.dialler import Dialler
from gmesh.mesh.limits import HOUSEKEEPING_INTERVAL
from gmesh.mesh.neighbours import Neighbours
from gmesh.node.limits import MAX_LEARNED
from gmesh.node.local_member import LocalMember
from gmesh.node.periodic import PeriodicTask
from gmesh.routing.engine import RouteEngine
from gmesh.trust.address_scope import Scope, scope_of
from gmesh.trust.documents import Anchor
from gmesh.trust.transport_address import advice, read_address

__all__ = ["DialPolicy"]


class DialPolicy:
    """
    Gives a L{Dialler} its targets, and says how many links are enough.

    @param named: targets beside the anchors, dialled always.
    @ivar bound: the nearest that records and commands may lead to; L{lead_to} changes it.
    """

    _log = Logger()

    def __init__(
        self,
        member: LocalMember,
        engine: RouteEngine,
        dialler: Dialler,
        neighbours: Neighbours,
        counters: Counters,
        clock: IReactorTime,
        named: Sequence[str],
    ) -> None:
        self._member = member
        self._engine = engine
        self._dialler = dialler
        self._neighbours = neighbours
        self._counters = counters
        self._named = tuple(named)
        self._learned: tuple[str, ...] = ()
        self._odd: dict[str, set[str]] = {}
        self._looked_at = -1
        self.bound = Scope.PRIVATE
        self._looking = PeriodicTask(clock, self._look, HOUSEKEEPING_INTERVAL)

    def start(self) -> None:
        """Give out the targets, and look for more now and then."""
        self.follow_policy()
        self.tell()
        self._looking.start(HOUSEKEEPING_INTERVAL)

    def stop(self) -> None:
        """Look no more."""
        self._looking.stop()

    async def _look(self) -> float:
        self.look_for_anchors()
        return HOUSEKEEPING_INTERVAL

    def set_named(self, named: Sequence[str]) -> None:
        """Dial these beside the anchors from now on."""
        self._named = tuple(named)
        self.tell()

    def lead_to(self, bound: Scope) -> None:
        """Records and commands may lead to addresses as near as this."""
        self.bound = bound
        self._looked_at = -1
        self.tell()

    def tell(self) -> None:
        """The dialler takes over who is a target now."""
        member = self._member
        anchors = self._readable("anchors", self._others(member.anchors()))
        behind = self._readable("behind", self._others(member.anchors_behind()))
        bound, listed = self._bound(), self._listed()
        bounds = {text: bound for text in (*anchors, *behind, *self._learned) if text not in listed}
        if "anchor" in member.peer.roles:
            self._dialler.set_targets((*anchors, *self._named), self._learned, behind, bounds)
        else:
            self._dialler.set_targets(self._named, (*anchors, *self._learned), behind, bounds)

    def _listed(self) -> frozenset[str]:
        """What genesis and options name: it may be any address."""
        genesis = self._member.trust.genesis.body
        return frozenset((*(anchor.endpoint for anchor in genesis.anchors), *self._named))

    def _bound(self) -> Scope:
        """
        The nearest to which records and commands may lead.

        Where genesis or options name this host itself, for a mesh on one machine, others may as well.
        """
        known = filter(None, (read_address(text, local=True) for text in self._listed()))
        return Scope.ANY if Scope.ANY in {scope_of(each.host) for each in known} else self.bound

    def _others(self, anchors: Sequence[Anchor]) -> list[str]:
        own = self._member
        return [
            anchor.endpoint
            for anchor in anchors
            if anchor.name != own.name and anchor.node_id != own.peer.node_id
        ]

    def _readable(self, source: str, texts: Iterable[str]) -> list[str]:
        """
        Those that can be dialled, C{MAX_LEARNED} at most; what comes after them is not read.

        The others of this source are counted, unless they were before.
        """
        bound, listed = self._bound(), self._listed()
        odd: set[str] = set()
        good: list[str] = []
        for text in texts:
            if len(good) == MAX_LEARNED:
                break
            address = read_address(text)
            if address is not None and (text in listed or scope_of(address.host) <= bound):
                good.append(text)
            else:
                odd.add(text)
        if new := odd - self._odd.get(source, set()):
            self._counters.count("address-not-dialled", len(new))
            for text in sorted(new) if source != "records" else ():
                if said := advice(text):
                    self._log.warn("{text} is no address that is dialled: {said}", text=text, said=said)
        self._odd[source] = odd
        return good

    def follow_policy(self) -> None:
        """So many links as the policy says are enough; whether they are is seen at the next look."""
        policy = self._member.trust.policy
        self._dialler.set_degree(None if policy is None else policy.body.target_degree)
        self._looked_at = -1

    def look_for_anchors(self) -> None:
        """
        While links are too few, anchors known only by their records are spare targets.

        Not a linked one: its record may spell differently an address that is dialled already.
        """
        if len(self._neighbours.links) >= self._dialler.degree or self._engine.records == self._looked_at:
            return
        self._looked_at = self._engine.records
        known = {self._member.handle, *self._neighbours.links}
        others = [
            address
            for handle, address in self._engine.addresses("anchor")
            if handle not in known or address in self._learned
        ]
        learned = tuple(self._readable("records", others))
        if learned != self._learned:
            self._learned = learned
            self.tell()
