# SPDX-License-Identifier: MIT
"""
What the database remembers: records, tombstones and the digest over them, with no opinion on any.

The digest is 256 buckets by first handle byte; each is the XOR of the first 8 bytes of SHA-256
of its records, so that an equivocation changes it too.
Tests: C{tests/routing/test_database.py}.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gmesh.routing.limits import BUCKET_SIZE, BUCKETS, TOMBSTONE_LIFE
from gmesh.routing.record import NodeRecord
from gmesh.token_bucket import TokenBucket

__all__ = ["Entry", "Key", "Member", "RecordStore", "record_hash"]

Key = tuple[bytes, int]
_DIGEST = struct.Struct(f">{BUCKETS}Q")


@dataclass(frozen=True, slots=True)
class Member:
    """What a valid certificate says about a node, as far as routing needs it."""

    node_id: str
    name: str
    node_key: bytes
    roles: frozenset[str]
    serial: int
    not_after: int

    @property
    def relays(self) -> bool:
        """Whether the certificate allows it to be an interior hop."""
        return "relay" in self.roles or "anchor" in self.roles


@dataclass(slots=True)
class Entry:
    """
    A stored record.

    @ivar bucket: the rate of its fragment; None is a full one.
    @ivar rival: the hash of another body that its origin signed with the same sequence.
    @ivar expires_at: on the monotonic clock, fixed when the record was accepted: a step of the
        wall clock must not empty the database.
    """

    record: NodeRecord
    data: bytes
    hash: bytes
    member: Member
    expires_at: float
    bucket: TokenBucket | None
    rival: bytes | None = None


class RecordStore:
    """
    Records by (handle, fragment), with tombstones and the bucket digest kept in step.

    @param changed: called with the handle after its records changed.
    @param max_tombstones: the oldest goes first.
    """

    def __init__(self, changed: Callable[[bytes], None], max_tombstones: int) -> None:
        self._changed = changed
        self._max_tombstones = max_tombstones
        self._origins: dict[bytes, dict[int, Entry]] = {}
        self._tombstones: dict[Key, tuple[int, float]] = {}
        self._buckets = [0] * BUCKETS
        self._members: list[frozenset[Key]] = [frozenset()] * BUCKETS

    def __len__(self) -> int:
        return sum(map(len, self._origins.values()))

    @property
    def origins(self) -> int:
        """How many nodes have records here."""
        return len(self._origins)

    @property
    def tombstones(self) -> int:
        """How many removed records are remembered."""
        return len(self._tombstones)

    def handles(self) -> list[bytes]:
        """Every origin, ascending."""
        return sorted(self._origins)

    def fragments(self, handle: bytes) -> dict[int, Entry]:
        """The fragments of one origin; not to be changed."""
        return self._origins.get(handle, {})

    def get(self, key: Key) -> Entry | None:
        """The record of one (handle, fragment)."""
        fragments = self._origins.get(key[0])
        return fragments.get(key[1]) if fragments else None

    def entries(self) -> Iterator[tuple[Key, Entry]]:
        """Everything, ascending by key."""
        for handle in sorted(self._origins):
            for fragment in sorted(self._origins[handle]):
                yield (handle, fragment), self._origins[handle][fragment]

    def bucket(self, index: int) -> list[Key]:
        """The keys of one bucket, ascending."""
        return sorted(self._members[index])

    def lacks(self, key: Key, sequence: int) -> bool:
        """Whether a record of this sequence would be news."""
        return sequence > self.floor(key)

    def floor(self, key: Key) -> int:
        """The sequence below or at which nothing is news."""
        entry = self.get(key)
        dead = self._tombstones.get(key)
        return max(entry.record.sequence if entry else 0, dead[0] if dead else 0)

    def put(self, key: Key, entry: Entry) -> None:
        """Store or replace."""
        before = self.get(key)
        if before is not None:
            self._toggle(key[0], before.hash)
        self._origins[key[0]] = {**self.fragments(key[0]), key[1]: entry}
        self._members[key[0][0]] |= {key}
        self._toggle(key[0], entry.hash)
        self._tombstones.pop(key, None)
        self._changed(key[0])

    def drop(self, key: Key, now: float) -> None:
        """Remove, remembering the sequence."""
        entry = self._remove(key)
        while len(self._tombstones) >= self._max_tombstones:
            del self._tombstones[next(iter(self._tombstones))]
        self._tombstones[key] = (entry.record.sequence, now + TOMBSTONE_LIFE)
        self._changed(key[0])

    def forget(self, key: Key) -> None:
        """Remove; the same record may come again."""
        self._remove(key)
        self._changed(key[0])

    def _remove(self, key: Key) -> Entry:
        rest = dict(self._origins.pop(key[0]))
        entry = rest.pop(key[1])
        if rest:
            self._origins[key[0]] = rest
        self._members[key[0][0]] -= {key}
        self._toggle(key[0], entry.hash)
        return entry

    def forget_tombstones(self, now: float) -> None:
        """Drop those that have ended."""
        for key in [key for key, (_, until) in self._tombstones.items() if until <= now]:
            del self._tombstones[key]

    def adopt(self, other: RecordStore) -> None:
        """Begin with what another store holds; what changes in either is replaced, so both share the rest."""
        self._origins = dict(other._origins)
        self._members = list(other._members)
        self._buckets = list(other._buckets)

    def digest(self) -> bytes:
        """256 buckets of 8 bytes."""
        return _DIGEST.pack(*self._buckets)

    def _toggle(self, handle: bytes, digest: bytes) -> None:
        self._buckets[handle[0]] ^= int.from_bytes(digest[:BUCKET_SIZE], "big")


def record_hash(data: bytes) -> bytes:
    """SHA-256 of a whole record."""
    return hashlib.sha256(data).digest()
