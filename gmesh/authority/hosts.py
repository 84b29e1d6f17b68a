# SPDX-License-Identifier: MIT
"""
From how many hosts the heartbeats of one node come.

Each run of a node's daemon has a boot id.  After a restart the old one is never heard again; two that
take turns are two hosts with the keys of one node, such as a cloned image.
Tests: C{tests/authority/test_history.py}.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from twisted.logger import Logger

from gmesh.authority import limits

__all__ = ["Hosts"]


@dataclass(slots=True)
class _Node:
    """
    What was heard of one node.

    @ivar runs: boot id -> address, the one heard last at the end.
    @ivar turn_at: when one came back after another, seconds.
    """

    runs: dict[str, str] = field(default_factory=dict)
    turn_at: float = float("-inf")


class Hosts:
    """The last runs of each node."""

    log = Logger()

    def __init__(self) -> None:
        self._nodes: OrderedDict[str, _Node] = OrderedDict()

    def heard(self, name: str, node_id: str, boot_id: str | None, address: str, now: int) -> list[str]:
        """
        A heartbeat came.

        @return: the addresses of the hosts that take turns; none while it is one host.
        """
        if boot_id is None:
            return []
        node = self._nodes.setdefault(node_id, _Node())
        self._nodes.move_to_end(node_id)
        if len(self._nodes) > limits.KEYS_REMEMBERED:
            self._nodes.popitem(last=False)
        known, twins = boot_id in node.runs, now - node.turn_at <= limits.TWIN_SECONDS
        if known and next(reversed(node.runs)) != boot_id:
            node.turn_at = now
            if not twins:
                where = " and ".join(sorted({*node.runs.values(), address}))
                self.log.error(
                    "{name} ({node_id}) runs on two hosts with one key, at {where}: stop one of them",
                    name=name,
                    node_id=node_id,
                    where=where,
                )
            twins = True
        node.runs.pop(boot_id, None)
        node.runs[boot_id] = address
        if len(node.runs) > limits.BOOTS_REMEMBERED:
            del node.runs[next(iter(node.runs))]
        return sorted(set(list(node.runs.values())[-2:])) if twins else []
