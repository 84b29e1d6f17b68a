# SPDX-License-Identifier: MIT
"""
Spreading node records as in Plumtree (Leitao, Pereira, Rodrigues, "Epidemic Broadcast Trees", 2007).

A record that is news is pushed (C{LSA}, Plumtree's eager push) to at most so many neighbours, anchors first,
and to none that gets it from another anyway; to the others it is only named (C{IHAVE}, lazy push), and they
pull what they lack.  Plumtree finds its tree by pruning; here it follows from the graph, which all share:
each node knows the cheapest path from the neighbour that sent a record to one that lacks it, and all but
the node on that path only name it.  A node that is deceived about the graph loses time, not a record.

What becomes news within 20 ms shares a frame.  While much is news (a mesh begins, two halves meet) the wait
is longer, since most of it comes from several sides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.mesh.counters import Counters
from gmesh.mesh.limits import (
    EAGER_DEGREE,
    FLUSH_BACKLOG,
    FLUSH_BYTES,
    FLUSH_INTERVAL,
    FLUSH_MOST,
    FLUSH_RECORD,
    IHAVE_ENTRIES,
    IHAVE_INTERVAL,
)
from gmesh.mesh.neighbour import Neighbour
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.timers import cancel_calls
from gmesh.routing.engine import RouteEngine
from gmesh.routing.limits import MAX_NODES, MAX_SEQUENCE
from gmesh.routing.record import RecordFlag
from gmesh.routing.store import Key, RecordStore
from gmesh.wire.frames import Kind
from gmesh.wire.messages import Ihave, Lsa, RecordNumber

__all__ = ["Elsewhere", "Spreader", "eager_peers", "is_leaf", "is_stub"]


class Spreader:
    """Fills the outboxes of the neighbours, and empties them."""

    def __init__(
        self, engine: RouteEngine, neighbours: Neighbours, clock: IReactorTime, counters: Counters
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._counters = counters
        self._neighbours = neighbours
        self._elsewhere = Elsewhere(engine)
        self._flush_call: IDelayedCall | None = None
        self._name_call: IDelayedCall | None = None
        self._stopped = False
        self._flushed = float("-inf")
        self._spacing = FLUSH_INTERVAL

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        cancel_calls(self._flush_call, self._name_call)
        self._flush_call = self._name_call = None

    def spread(self, key: Key, data: bytes, but: Neighbour | None = None) -> None:
        """A record is news: to all neighbours but the one it came from."""
        entry = self._engine.store.get(key)
        if entry is None or self._stopped:
            return
        sequence = entry.record.sequence
        store = self._engine.store
        by_handle = self._neighbours.by_handle
        eager = eager_peers(self._engine.handle, by_handle, lambda handle: by_handle[handle].anchor)
        covered = self._elsewhere.covered_by_others(but.handle) if but is not None else ()
        for handle, neighbour in by_handle.items():
            if neighbour is but or is_stub(store, neighbour):
                continue
            if sequence <= neighbour.records.offered(key) <= MAX_SEQUENCE:
                neighbour.outbox.seen(key, sequence)
                continue
            sent = handle in eager and handle not in covered
            if sent or key in neighbour.outbox.owed or is_leaf(store, neighbour):
                neighbour.outbox.put(key, sequence, data)
            else:
                neighbour.outbox.name(key, sequence)
                self._arm_names()
        self._arm_flush()

    def reply(self, neighbour: Neighbour, key: Key) -> None:
        """What we hold under this key, to one neighbour."""
        entry = self._engine.store.get(key)
        if entry is not None and not self._stopped:
            neighbour.outbox.owe(key, entry.record.sequence, entry.data)
            self._arm_flush()

    def _arm_flush(self) -> None:
        if self._flush_call is None and not self._stopped:
            wait = self._flushed + self._spacing - self._clock.seconds()
            self._flush_call = self._clock.callLater(max(0.0, wait), self._flush)

    def _flush(self) -> None:
        self._flush_call = None
        self._flushed = self._clock.seconds()
        more, most = False, 0
        for neighbour in self._neighbours:
            room = FLUSH_BACKLOG - neighbour.link.control_backlog
            for records in neighbour.outbox.take(min(FLUSH_BYTES, room)):
                self._counters.count("records-sent", len(records))
                neighbour.send(Kind.LSA, Lsa(records).encode())
                most = max(most, len(records))
            more = more or bool(neighbour.outbox.eager)
        self._spacing = min(max(FLUSH_INTERVAL, FLUSH_RECORD * most), FLUSH_MOST)
        if more:
            self._arm_flush()

    def _arm_names(self) -> None:
        if self._name_call is None and not self._stopped:
            self._name_call = self._clock.callLater(IHAVE_INTERVAL, self._name)

    def _name(self) -> None:
        self._name_call = None
        for neighbour in self._neighbours:
            named = [RecordNumber(*key, sequence) for key, sequence in neighbour.outbox.lazy.items()]
            neighbour.outbox.lazy.clear()
            for start in range(0, len(named), IHAVE_ENTRIES):
                neighbour.send(Kind.IHAVE, Ihave(tuple(named[start : start + IHAVE_ENTRIES])).encode())


def eager_peers(own: bytes, handles: Collection[bytes], anchor: Callable[[bytes], bool]) -> Collection[bytes]:
    """Those neighbours of a node that get records from it unasked, by their distance from its handle."""
    if len(handles) <= EAGER_DEGREE:
        return handles
    here = int.from_bytes(own, "big")
    by_distance = sorted(
        handles, key=lambda handle: (not anchor(handle), here ^ int.from_bytes(handle, "big"))
    )
    return frozenset(by_distance[:EAGER_DEGREE])


class Elsewhere:
    """Which neighbours get a record from others, as the graph says."""

    def __init__(self, engine: RouteEngine) -> None:
        self._engine = engine
        self._eager: dict[bytes, tuple[Mapping[bytes, int], Collection[bytes]]] = {}

    def covered_by_others(self, sender: bytes) -> set[bytes]:
        """
        Handles that get what C{sender} sent us without our help.

        Those it sends to itself, and those to which another of these has a cheaper path than we have.
        """
        engine, own = self._engine, self._engine.handle
        first = engine.neighbours(sender)
        ours = engine.neighbours(own)
        if own not in first:
            return set()
        direct = self._sent_by(sender, first)
        covered = set(direct)
        for relay in direct:
            if relay == own or not engine.relays(relay):
                continue
            second = engine.neighbours(relay)
            for far in self._sent_by(relay, second):
                if far in ours and (first[relay] + second[far], relay) < (first[own] + ours[far], own):
                    covered.add(far)
        return covered

    def _sent_by(self, node: bytes, neighbours: Mapping[bytes, int]) -> Collection[bytes]:
        if len(neighbours) <= EAGER_DEGREE:
            return neighbours
        known = self._eager.get(node)
        if known is None or known[0] is not neighbours:
            if len(self._eager) >= MAX_NODES:
                self._eager.clear()
            known = self._eager[node] = neighbours, eager_peers(node, neighbours, self._anchor)
        return known[1]

    def _anchor(self, handle: bytes) -> bool:
        first = self._engine.store.get((handle, 0))
        return first is not None and RecordFlag.ANCHOR in first.record.flags


def is_stub(store: RecordStore, neighbour: Neighbour) -> bool:
    """A neighbour that keeps no table, as its record says: it asks when it wants to know."""
    first = store.get((neighbour.handle, 0))
    return first is not None and RecordFlag.STUB in first.record.flags


def is_leaf(store: RecordStore, neighbour: Neighbour) -> bool:
    """A neighbour without other links cannot have it from elsewhere: naming it would only cost time."""
    fragments = store.fragments(neighbour.handle)
    return len(fragments) == 1 and 0 in fragments and len(fragments[0].record.links) <= 1
