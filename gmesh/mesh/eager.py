# SPDX-License-Identifier: MIT
"""
To which neighbours a record goes unasked: some of many, anchors first, but to none who has it from another.

Who sends a record on to whom follows from the graph, which all share.  So of the ways from the
neighbour that sent a record to one that lacks it each node knows which is the cheapest, and all but
the node on that way only name the record: who is deceived about the graph loses time, no record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from gmesh.mesh.channel import Channel
from gmesh.mesh.network_limits import EAGER_DEGREE
from gmesh.routing.engine import RouteEngine
from gmesh.routing.limits import MAX_NODES
from gmesh.routing.record import RecordFlag
from gmesh.routing.store import RecordStore

__all__ = ["Elsewhere", "chosen", "is_leaf", "is_stub"]


def chosen(own: bytes, handles: Collection[bytes], anchor: Callable[[bytes], bool]) -> Collection[bytes]:
    """Those neighbours of a node that get records from it unasked, by their distance from its handle."""
    if len(handles) <= EAGER_DEGREE:
        return handles
    here = int.from_bytes(own, "big")
    by_distance = sorted(
        handles, key=lambda handle: (not anchor(handle), here ^ int.from_bytes(handle, "big"))
    )
    return frozenset(by_distance[:EAGER_DEGREE])


class Elsewhere:
    """Who gets a record from others, as the graph says."""

    def __init__(self, engine: RouteEngine) -> None:
        self._engine = engine
        self._chosen: dict[bytes, tuple[Mapping[bytes, int], Collection[bytes]]] = {}

    def reached(self, sender: bytes) -> set[bytes]:
        """
        Handles that get what C{sender} sent us without our help.

        Those it sends to itself, and those to whom another of these is on a cheaper way than we are.
        """
        engine, own = self._engine, self._engine.handle
        first = engine.neighbours(sender)
        ours = engine.neighbours(own)
        if own not in first:
            return set()
        told = self._told_by(sender, first)
        reached = set(told)
        for relay in told:
            if relay == own or not engine.relays(relay):
                continue
            second = engine.neighbours(relay)
            for far in self._told_by(relay, second):
                if far in ours and (first[relay] + second[far], relay) < (first[own] + ours[far], own):
                    reached.add(far)
        return reached

    def _told_by(self, node: bytes, neighbours: Mapping[bytes, int]) -> Collection[bytes]:
        if len(neighbours) <= EAGER_DEGREE:
            return neighbours
        known = self._chosen.get(node)
        if known is None or known[0] is not neighbours:
            if len(self._chosen) >= MAX_NODES:
                self._chosen.clear()
            known = self._chosen[node] = neighbours, chosen(node, neighbours, self._anchor)
        return known[1]

    def _anchor(self, handle: bytes) -> bool:
        first = self._engine.store.get((handle, 0))
        return first is not None and RecordFlag.ANCHOR in first.record.flags


def is_stub(store: RecordStore, channel: Channel) -> bool:
    """A neighbour that keeps no table, as its record says: it asks when it wants to know."""
    first = store.get((channel.handle, 0))
    return first is not None and RecordFlag.STUB in first.record.flags


def is_leaf(store: RecordStore, channel: Channel) -> bool:
    """A neighbour without other links cannot have it from elsewhere: naming it would only cost time."""
    fragments = store.fragments(channel.handle)
    return len(fragments) == 1 and 0 in fragments and len(fragments[0].record.links) <= 1
