# SPDX-License-Identifier: MIT
"""
The route engine: database, own record, graph and path choice behind one face.

Everything above routing talks to this and nothing below it: links go in, records go in and
out, paths come out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from zope.interface import implementer

from gmesh.interfaces import IRouteEngine
from gmesh.routing.database import LinkStateDatabase, Offer, OfferOutcome
from gmesh.routing.graph import LinkGraph
from gmesh.routing.known import KnownNode, known_nodes, told_addresses
from gmesh.routing.limits import HARD_MAX_HOPS, MAX_ALTERNATIVES, MAX_HOPS, MAX_NODES, UNREACHABLE_DROP
from gmesh.routing.origin import Originator
from gmesh.routing.paths import PathChoice
from gmesh.routing.record import RecordFlag
from gmesh.routing.store import Key, Member, RecordStore

__all__ = ["RouteEngine"]

_NOWHERE: frozenset[bytes] = frozenset()
_ALONE: Mapping[bytes, int] = MappingProxyType({})


@implementer(IRouteEngine)
class RouteEngine:
    """
    Link-state routing for one node, given the time and nothing else.

    @param originator: makes our own records.
    @param own_member: our own certificate as a L{Member}, the newest.
    @param member: (handle, serial) -> L{Member} of a certificate held and valid, or None.
    @param revoked: (serial, node id) -> bool.
    @param verify: (public key, signature, data) -> bool.
    @param alarm: called with a slug and a handle: C{equivocation}, C{own-record}.
    @param prompt: look for paths as soon as a record changes: the graph is small, and a message waits.
    @ivar records: how often a record was stored or dropped.
    """

    def __init__(
        self,
        originator: Originator,
        own_member: Callable[[], Member],
        member: Callable[[bytes, int], Member | None],
        revoked: Callable[[int, str], bool],
        verify: Callable[[bytes, bytes, bytes], bool],
        *,
        now: float = 0.0,
        alarm: Callable[[str, bytes], None] = lambda slug, handle: None,
        prompt: bool = False,
    ) -> None:
        self._prompt = prompt
        self._own_member = own_member
        self.database = LinkStateDatabase(
            originator.network_id, originator.public, member, revoked, verify, self._record_changed, alarm
        )
        self.handle = self.database.handle
        self.originator = originator
        self._graph = LinkGraph()
        self._paths = PathChoice(self._graph, self.handle, MAX_HOPS, now)
        self._now = now
        self._unreachable: dict[bytes, float] = {}
        self._reached: tuple[int, int] | None = None
        self.records = 0
        self._seen_generation = -1
        self._claim_own()

    @property
    def store(self) -> RecordStore:
        """The records."""
        return self.database.store

    @property
    def sequence(self) -> int:
        """The last record sequence used; persist it behind each origination."""
        return self.originator.sequence

    @property
    def generation(self) -> int:
        """Changes whenever paths may differ from earlier ones."""
        return self._paths.generation

    @property
    def max_hops(self) -> int:
        """The hop limit in force."""
        return self._paths.max_hops

    def set_bounds(self, max_hops: int, max_nodes: int, now: float) -> None:
        """What the policy allows."""
        self._paths.max_hops = min(max_hops, HARD_MAX_HOPS)
        self.database.max_nodes = min(max_nodes, MAX_NODES)
        self._paths.invalidate(now)

    # -- own links

    def link_up(self, handle: bytes, cost: int, now: float) -> None:
        """A link exists."""
        self._now = now
        self.originator.link_up(handle, cost, now)
        self._claim_own()

    def link_down(self, handle: bytes, now: float) -> None:
        """A link is gone: no path of ours uses it from now on."""
        self._now = now
        self.originator.link_down(handle, now)
        self._claim_own(urgent=True)

    def link_cost(self, handle: bytes, cost: int, now: float) -> None:
        """A link costs something else."""
        self._now = now
        self.originator.set_cost(handle, cost, now)
        self._claim_own()

    def overload(self, now: float) -> None:
        """Ask all nodes not to route through us any more, before a shutdown."""
        self._now = now
        self.originator.set_flags(self.originator.flags | RecordFlag.OVERLOAD, now)

    def _claim_own(self, urgent: bool = False) -> None:
        flags = self.originator.flags
        if self._graph.claim(self.handle, self.originator.links, _transit(self._own_member(), flags)):
            self._paths.changed(self._now, urgent=urgent)

    # -- records

    def offer(self, data: bytes, now: float, wall: float) -> Offer:
        """
        Judge a record from another node; a strange one of our own makes us go above it.

        @raise FrameRefused: when it is not a canonical record of this network.
        """
        self._now = now
        offer = self.database.offer(data, now, wall)
        if offer.outcome is OfferOutcome.OWN_NEWER and offer.record is not None:
            self.originator.heard_own(offer.record.fragment, offer.record.sequence, now)
        return offer

    def originate(self, now: float, wall: float) -> list[tuple[Key, bytes]]:
        """Sign and store what is due of our own; the caller floods it."""
        self._now = now
        made = []
        for record in self.originator.originate(now, wall):
            data = record.encode()
            self.database.install_own(record, data, self._own_member(), now)
            made.append(((self.handle, record.fragment), data))
        return made

    def next_due(self) -> float | None:
        """When L{originate} has something to do."""
        return self.originator.next_due()

    def evidence(self, neighbour: bytes) -> bytes | None:
        """Our own record that does not list C{neighbour}, for UNREACH; None while there is none."""
        entry = self.store.get((self.handle, self.originator.fragment_of(neighbour)))
        if entry is None or any(handle == neighbour for handle, _ in entry.record.links):
            return None
        return entry.data

    def revoke(self, handle: bytes, now: float) -> None:
        """Drop a node and every path over it at once."""
        self._now = now
        self.database.revoke(handle, now)
        self._paths.invalidate(now)

    def forget(self, now: float) -> None:
        """Drop what others said, to hear it again: for a node that keeps no table."""
        self._now = now
        for key, _ in list(self.store.entries()):
            if key[0] != self.handle:
                self.store.forget(key)

    def revocations_changed(self, now: float) -> list[bytes]:
        """Ask the revocation set about every record; the handles dropped."""
        self._now = now
        gone = self.database.sweep_revoked(now)
        if gone:
            self._paths.invalidate(now)
        return gone

    def expire(self, now: float, wall: float) -> None:
        """Drop what has ended; call it every few seconds."""
        self._now = now
        self.database.expire(now, wall)
        self._note_reachable(now)
        for handle, since in list(self._unreachable.items()):
            if now - since >= UNREACHABLE_DROP:
                self.database.revoke(handle, now)
                del self._unreachable[handle]

    def _note_reachable(self, now: float) -> None:
        tree = self._paths.tree(now)
        seen = (self.generation, self.records)
        if seen == self._reached:
            return
        self._reached = seen
        missing = [handle for handle in self.store.handles() if handle not in tree]
        self._unreachable = {handle: self._unreachable.get(handle, now) for handle in missing}

    def _record_changed(self, handle: bytes) -> None:
        self.records += 1
        if handle == self.handle:
            return
        fragments = self.store.fragments(handle)
        links: dict[bytes, int] = {}
        for entry in fragments.values():
            for neighbour, cost in entry.record.links:
                links[neighbour] = max(cost, links.get(neighbour, 0))
        first = fragments.get(0)
        transit = first is not None and _transit(first.member, first.record.flags)
        if self._graph.claim(handle, links, transit):
            self._paths.changed(self._now, urgent=self._prompt)
        if not fragments:
            self._paths.invalidate(self._now)

    # -- the graph

    def neighbours(self, handle: bytes) -> Mapping[bytes, int]:
        """The links of a node that both ends list, with their cost; another object after a change."""
        return self._graph.adjacency.get(handle, _ALONE)

    def relays(self, handle: bytes) -> bool:
        """Whether a node may be an interior hop now."""
        return handle in self._graph.transit

    # -- paths

    def path(
        self,
        destination: bytes,
        now: float,
        avoid: frozenset[bytes] = _NOWHERE,
        limit: int | None = None,
    ) -> tuple[bytes, ...] | None:
        """
        The cheapest allowed path, first this node, last C{destination}; None if there is none.

        @param avoid: handles that must not appear after the first; computed afresh, rate-limited.
        @param limit: most hops, when that is less than the policy allows.
        """
        if not avoid and limit is None:
            return self._paths.path(destination, now)
        return self._paths.detour(destination, now, avoid, self.max_hops if limit is None else limit)

    def alternatives(self, destination: bytes, now: float) -> list[tuple[tuple[bytes, ...], int]]:
        """(path, cost): the best path and the best without its relays, and so on."""
        paths = self._paths.alternatives(destination, now, MAX_ALTERNATIVES)
        return [(path, self._paths.cost(path) or 0) for path in paths]

    def explain(self, destination: bytes, now: float) -> tuple[str, str]:
        """Why there is no path: a slug and a sentence."""
        if not self.store.fragments(destination):
            return "unknown-node", "no record of that node has arrived here"
        tree = self._paths.short_tree(now)
        if destination in tree and tree[destination][0] > self.max_hops:
            return "too-far", f"too far: {tree[destination][0]} hops, limit {self.max_hops}"
        return "unreachable", "no chain of links and relays leads to that node at present"

    def unanswered(self, path: tuple[bytes, ...], now: float, handshake: bool = False) -> None:
        """What went along C{path}, a handshake or something sealed, was not answered in time: try others."""
        self._paths.unanswered(path, now, handshake)

    def answered(self, path: tuple[bytes, ...], sent: float, now: float, handshake: bool = False) -> None:
        """What went along C{path} at C{sent} was answered."""
        self._paths.answered(path, sent, now, handshake)

    def new_keys(self, destination: bytes, now: float) -> None:
        """There are new keys with a node: it may have lost the old ones."""
        self._paths.new_keys(destination, now)

    def blamed(self, now: float) -> list[bytes]:
        """The relays that pass not everything on, as far as this node can tell."""
        return self._paths.blame.blamed(now)

    def table(self, now: float) -> list[tuple[bytes, tuple[bytes, ...], int]]:
        """(handle, path, cost) of every node in reach, ascending by handle."""
        found = []
        for handle in sorted(self._paths.tree(now)):
            path = self._paths.path(handle, now)
            cost = None if path is None else self._paths.cost(path)
            if handle != self.handle and path is not None and cost is not None:
                found.append((handle, path, cost))
        return found

    def addresses(self, role: str) -> list[tuple[bytes, str]]:
        """(handle, address) of every node with this role that advertises one, ascending by handle."""
        return told_addresses(self.store, role)

    def nodes(self, now: float) -> list[KnownNode]:
        """Every node with a record here, ascending by handle."""
        return known_nodes(self.store, self._paths.tree(now))


def _transit(member: Member, flags: RecordFlag) -> bool:
    return member.relays and RecordFlag.RELAY in flags and RecordFlag.OVERLOAD not in flags
