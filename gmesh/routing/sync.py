# SPDX-License-Identifier: MIT
"""
Making two databases equal by moving only what differs: digests, then lists, then records.

Each side lists its records of the differing buckets; the side that holds the older or none asks.
Tests: C{tests/routing/test_database.py}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gmesh.routing.limits import BUCKET_SIZE, BUCKETS, HASH_PREFIX, MAX_SEQUENCE
from gmesh.routing.store import Key, RecordStore

__all__ = ["Summary", "buckets_that_differ", "missing", "summaries"]


class Summary(NamedTuple):
    """One line of a list: what record the sender holds."""

    handle: bytes
    fragment: int
    sequence: int
    hash: bytes


def buckets_that_differ(ours: bytes, theirs: bytes) -> list[int]:
    """Indexes of the buckets in which two digests differ."""
    if ours == theirs:
        return []
    slices = (slice(index * BUCKET_SIZE, (index + 1) * BUCKET_SIZE) for index in range(BUCKETS))
    return [index for index, part in enumerate(slices) if ours[part] != theirs[part]]


def summaries(store: RecordStore, buckets: Iterable[int]) -> list[Summary]:
    """What we hold in these buckets, ascending."""
    found = []
    for index in sorted(set(buckets)):
        for key in store.bucket(index):
            entry = store.get(key)
            if entry is not None:
                found.append(Summary(*key, entry.record.sequence, entry.hash[:HASH_PREFIX]))
    return found


def missing(store: RecordStore, theirs: Iterable[Summary]) -> dict[Key, int]:
    """
    Which of the listed records we should ask for, and the sequence above ours for which it is worth it.

    Those newer than ours, and at an equal sequence those whose hash is lower: both ends of an
    equivocation then settle on the same one, which is news whatever sequence we hold by then.
    """
    wanted: dict[Key, int] = {}
    for line in theirs:
        key = (line.handle, line.fragment)
        entry = store.get(key)
        if line.sequence > store.floor(key):
            wanted[key] = line.sequence
        elif (
            entry is not None
            and line.sequence == entry.record.sequence
            and line.hash < entry.hash[:HASH_PREFIX]
        ):
            wanted[key] = MAX_SEQUENCE + 1
    return wanted
