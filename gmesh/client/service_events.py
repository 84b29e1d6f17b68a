# SPDX-License-Identifier: MIT
"""
Which nodes offer a service; which have joined them, and which have left.

What is kept is who is there and what was told of it, so a program that looks seldom is told of a node that
came and went not at all.  Tests: C{tests/client/test_service_events.py}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ServiceChanges", "ServiceEvent", "choose_nodes"]


@dataclass(frozen=True, slots=True, order=True)
class ServiceEvent:
    """
    A node offers a service now, or no longer.

    @ivar joined: False if it has left: it cannot be reached, or serves it no more.
    """

    service: str
    node: str
    joined: bool


class ServiceChanges:
    """What has changed since it was told."""

    def __init__(self) -> None:
        self._now: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str]] = set()

    def hear(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """The table as it is now. @param rows: C{service} and C{nodes}."""
        self._now = {(str(row["service"]), str(node)) for row in rows for node in row["nodes"]}

    def next(self) -> ServiceEvent | None:
        """The next change, which is told with this; those that have left come first."""
        for gone in sorted(self._told - self._now):
            self._told.discard(gone)
            return ServiceEvent(*gone, False)
        for new in sorted(self._now - self._told):
            self._told.add(new)
            return ServiceEvent(*new, True)
        return None


def choose_nodes(rows: Iterable[Mapping[str, Any]], service: str, role: str | None) -> list[str]:
    """
    The nodes that can be reached and have a role, or offer a service.

    @param rows: of all nodes.
    @param role: None for those that offer C{service}.
    """
    there = (row for row in rows if row["reachable"])
    if role is not None:
        return [str(row["name"]) for row in there if role in row["roles"]]
    return [str(row["name"]) for row in there if service in row["services"]]
