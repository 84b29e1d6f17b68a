# SPDX-License-Identifier: MIT
"""
Members by name: one name, one identity key; and whose each Noise key is.

Tests: C{tests/authority/test_members.py}.
"""

from __future__ import annotations

import json
from functools import lru_cache

import msgspec

from gmesh.authority.store.transaction import Reader, Row, Transaction

__all__ = [
    "NodeRow",
    "bar",
    "by_id",
    "by_name",
    "claim_noise_key",
    "count",
    "counted",
    "page",
    "put",
    "read_roles",
    "remove",
    "roles_text",
    "room_for",
]

_COLUMNS = "name, node_id, node_key, roles, lifetime, serial, not_after, barred_at"
_INSERT = f"INSERT INTO node ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (name) DO NOTHING"
_REPLACE = (
    "UPDATE node SET node_id = ?, node_key = ?, roles = ?, lifetime = ?, serial = ?, not_after = ?,"
    " barred_at = ? WHERE name = ?"
)
COMBINATIONS_REMEMBERED = 1024  # of roles: a fleet has few, so each is read and spelled once


class NodeRow(msgspec.Struct, frozen=True):
    """One member as stored; C{serial} and C{not_after} are its newest certificate's."""

    name: str
    node_id: str
    node_key: str
    roles: tuple[str, ...]
    lifetime: int | None
    serial: int
    not_after: int
    barred_at: int | None = None


def _row(row: Row | None) -> NodeRow | None:
    if row is None:
        return None
    values = list(row)
    values[3] = read_roles(values[3])
    return NodeRow(*values)


def by_name(reader: Reader, name: str) -> NodeRow | None:
    """The member of this name."""
    return _row(reader.one(f"SELECT {_COLUMNS} FROM node WHERE name = ?", name))


def by_id(reader: Reader, node_id: str) -> NodeRow | None:
    """The member with this identity key."""
    return _row(reader.one(f"SELECT {_COLUMNS} FROM node WHERE node_id = ?", node_id))


def page(reader: Reader, after: str, limit: int) -> list[NodeRow]:
    """Members by name, from the one after C{after}."""
    rows = reader.all(f"SELECT {_COLUMNS} FROM node WHERE name > ? ORDER BY name LIMIT ?", after, limit)
    return [node for node in map(_row, rows) if node is not None]


def count(reader: Reader) -> int:
    """How many names are given out."""
    return reader.mark("nodes") or 0


def room_for(reader: Reader, more: int, most: int) -> bool:
    """Whether so many more fit under C{max_nodes}, of which those that are revoked take no part."""
    names = count(reader)
    return names + more <= most or names - _barred(reader) + more <= most


def _barred(reader: Reader) -> int:
    """How many are revoked: triggers count them (C{migrations/0018_barred_count.sql}), so it is no mark."""
    return int(reader.value("SELECT value FROM meta WHERE name = 'barred'"))


def put(tx: Transaction, node: NodeRow) -> None:
    """Insert, or replace the member of that name."""
    values = (
        node.name,
        node.node_id,
        node.node_key,
        roles_text(node.roles),
        node.lifetime,
        node.serial,
        node.not_after,
        node.barred_at,
    )
    if tx.execute(_INSERT, *values):
        counted(tx, 1)
    else:
        tx.execute(_REPLACE, *values[1:], node.name)


def remove(tx: Transaction, name: str) -> None:
    """Forget a name whose node is barred or long gone."""
    counted(tx, -tx.execute("DELETE FROM node WHERE name = ?", name))


def counted(tx: Transaction, change: int) -> None:
    """Note that so many more names are given out."""
    tx.set_mark("nodes", count(tx) + change)


def bar(tx: Transaction, node_id: str) -> bool:
    """
    Note that its newest certificate is revoked with its node: its name is free, and it asks for nothing.

    What renews is not judged by this, but by L{gmesh.authority.store.certificates.cut_off}.
    """
    return bool(
        tx.execute("UPDATE node SET barred_at = ? WHERE node_id = ? AND barred_at IS NULL", tx.now, node_id)
    )


def claim_noise_key(tx: Transaction, noise_key: str, node_id: str) -> bool:
    """Tie a Noise key to a node. @return: False if it is another node's."""
    if tx.execute(
        "INSERT INTO noise_key (noise_key, node_id) VALUES (?, ?) ON CONFLICT DO NOTHING", noise_key, node_id
    ):
        return True
    return noise_key_owner(tx, noise_key) == node_id


def noise_key_owner(reader: Reader, noise_key: str) -> str | None:
    """The node_id a Noise key is tied to."""
    owner: str | None = reader.value("SELECT node_id FROM noise_key WHERE noise_key = ?", noise_key)
    return owner


@lru_cache(maxsize=COMBINATIONS_REMEMBERED)
def read_roles(text: str) -> tuple[str, ...]:
    """The roles that L{roles_text} spelled, a JSON list in a column."""
    return tuple(json.loads(text))


@lru_cache(maxsize=COMBINATIONS_REMEMBERED)
def roles_text(roles: tuple[str, ...]) -> str:
    """What stands in the column."""
    return json.dumps(roles)
