# SPDX-License-Identifier: MIT
"""To which neighbours a record goes unasked: all of a few; some of many, anchors first, and to leaves."""

from __future__ import annotations

from collections.abc import Collection

from gmesh.mesh.channel import Channel
from gmesh.mesh.network_limits import EAGER_DEGREE
from gmesh.routing.record import RecordFlag
from gmesh.routing.store import RecordStore

__all__ = ["eager_channels", "is_leaf", "is_stub"]


def eager_channels(own: bytes, channels: Collection[Channel]) -> set[Channel]:
    """Those that get records unasked, chosen by their distance from our handle."""
    if len(channels) <= EAGER_DEGREE:
        return set(channels)
    here = int.from_bytes(own, "big")
    by_distance = sorted(
        channels,
        key=lambda channel: (not channel.anchor, here ^ int.from_bytes(channel.handle, "big")),
    )
    return set(by_distance[:EAGER_DEGREE])


def is_stub(store: RecordStore, channel: Channel) -> bool:
    """A neighbour that keeps no table, as its record says: it asks when it wants to know."""
    first = store.get((channel.handle, 0))
    return first is not None and RecordFlag.STUB in first.record.flags


def is_leaf(store: RecordStore, channel: Channel) -> bool:
    """A neighbour without other links cannot have it from elsewhere: naming it would only cost time."""
    fragments = store.fragments(channel.handle)
    return len(fragments) == 1 and 0 in fragments and len(fragments[0].record.links) <= 1
