# SPDX-License-Identifier: MIT
"""
Two hosts with the keys of one node, such as a cloned image, told from a restart.

After a restart a node has a new boot id, and the old one never comes back.  One that does come back is
another host.  From then on the link of the older one stays for as long as it lives, and the newer is
refused: else the two would cut each other off for ever.
Tests: C{tests/mesh/test_twins.py}.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.interfaces import INeighbourLink
from gmesh.mesh.counters import Counters
from gmesh.mesh.limits import BOOTS_REMEMBERED, OWN_RECORDS_ODD, TWIN_MEMORY, TWIN_NODES

__all__ = ["Twins"]


@dataclass(slots=True)
class _Node:
    """
    The runs of one node's daemon.

    @ivar runs: boot id -> address, in the order in which they were first seen.
    @ivar newest: the boot id that was linked last.
    @ivar twin_at: when two were at work last.
    """

    name: str
    runs: dict[bytes, str] = field(default_factory=dict)
    newest: bytes = b""
    twin_at: float = float("-inf")


class Twins:
    """What a node remembers of its neighbours' runs, and of others that run with its own keys."""

    log = Logger()

    def __init__(self, clock: IReactorTime, counters: Counters) -> None:
        self._clock = clock
        self._counters = counters
        self._nodes: OrderedDict[bytes, _Node] = OrderedDict()
        self._own_at = float("-inf")
        self._started = clock.seconds()
        self._odd_records = 0

    def admits(self, new: INeighbourLink, held: INeighbourLink | None) -> bool:
        """
        Whether this may be the link to its node.

        @param held: the link to the same node, if there is one.
        """
        node = self._node(new)
        boot, now = new.hello.boot_id, self._clock.seconds()
        known = now - node.twin_at <= TWIN_MEMORY
        if boot in node.runs and boot != node.newest:
            node.twin_at = now
            if not known:
                self._tell(node, new)
        node.runs.setdefault(boot, new.address)
        if len(node.runs) > BOOTS_REMEMBERED:
            kept = boot if held is None else held.hello.boot_id
            del node.runs[next(each for each in node.runs if each != kept)]
        if now - node.twin_at <= TWIN_MEMORY and held is not None and self._older(node, held, boot):
            node.twin_at = now
            self._counters.count("twin-refused")
            return False
        node.newest = boot
        return True

    def refused_us(self, name: str) -> None:
        """A neighbour holds a link to another host with our keys."""
        self._counters.count("twin-here")
        self._found_own(f"{name} is linked with the other and refuses this one")

    def own_record(self) -> None:
        """A record came that our key signed and we did not make; after a start some are from before it."""
        if self._clock.seconds() - self._started > TWIN_MEMORY / 10:
            self._odd_records += 1
            if self._odd_records >= OWN_RECORDS_ODD:
                self._odd_records = 0
                self._found_own("it tells the mesh of other links than ours")

    @property
    def here(self) -> bool:
        """Whether another host runs with our own keys."""
        return self._clock.seconds() - self._own_at <= TWIN_MEMORY

    def names(self) -> list[str]:
        """The neighbours that run twice."""
        now = self._clock.seconds()
        return sorted(node.name for node in self._nodes.values() if now - node.twin_at <= TWIN_MEMORY)

    def _node(self, new: INeighbourLink) -> _Node:
        node = self._nodes.setdefault(new.peer.node_key, _Node(new.peer.name))
        self._nodes.move_to_end(new.peer.node_key)
        node.name = new.peer.name
        if len(self._nodes) > TWIN_NODES:
            self._nodes.popitem(last=False)
        return node

    def _older(self, node: _Node, held: INeighbourLink, boot: bytes) -> bool:
        """Whether the held link is of a run that was seen before C{boot}."""
        order = list(node.runs)
        first = held.hello.boot_id
        return first != boot and first in order and order.index(first) < order.index(boot)

    def _tell(self, node: _Node, new: INeighbourLink) -> None:
        self._counters.count("twin")
        where = " and ".join(sorted({*node.runs.values(), new.address}))
        self.log.error(
            "{name} runs on two hosts with one key, at {where}: the older keeps its link, stop one of them",
            name=node.name,
            where=where,
        )

    def _found_own(self, why: str) -> None:
        now = self._clock.seconds()
        if now - self._own_at > TWIN_MEMORY:
            self.log.error(
                "another host runs with the keys of this node, {why}: stop one of them, and give it an invite"
                " of its own",
                why=why,
            )
        self._own_at = now
