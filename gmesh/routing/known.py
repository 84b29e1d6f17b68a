# SPDX-License-Identifier: MIT
"""
What the records held here say of the nodes of the network, for people and for diallers.

Tests: C{tests/routing/test_database.py}.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from gmesh.routing.record import Capability, RecordFlag
from gmesh.routing.store import Entry, Member, RecordStore

__all__ = ["KnownNode", "known_nodes", "told_addresses"]


@dataclass(frozen=True, slots=True)
class KnownNode:
    """What the database says of one node."""

    handle: bytes
    member: Member
    reachable: bool
    flags: RecordFlag
    addresses: tuple[str, ...]
    services: tuple[str, ...]
    software: str


def known_nodes(store: RecordStore, reached: Container[bytes]) -> list[KnownNode]:
    """
    Every node with a record, ascending by handle.

    @param reached: the handles to which there is a path.
    """
    return [_known(handle, store.fragments(handle), handle in reached) for handle in store.handles()]


def told_addresses(store: RecordStore, role: str) -> list[tuple[bytes, str]]:
    """(handle, address) of every node with this role that advertises one, ascending by handle."""
    return [
        (handle, address)
        for (handle, fragment), entry in store.entries()
        if not fragment and role in entry.member.roles
        for address in entry.record.values(Capability.ADDRESS)
    ]


def _known(handle: bytes, fragments: dict[int, Entry], reachable: bool) -> KnownNode:
    first = fragments.get(0)
    entry = first or next(iter(fragments.values()))
    record = first.record if first else None
    return KnownNode(
        handle=handle,
        member=entry.member,
        reachable=reachable,
        flags=record.flags if record else RecordFlag(0),
        addresses=record.values(Capability.ADDRESS) if record else (),
        services=record.values(Capability.SERVICE) if record else (),
        software="".join(record.values(Capability.SOFTWARE)) if record else "",
    )
