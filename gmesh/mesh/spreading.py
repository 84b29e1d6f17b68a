# SPDX-License-Identifier: MIT
"""
Spreading node records: what is news goes to every other neighbour, once; what follows within 20 ms is joined.

While much is news (a mesh begins, two halves meet) more is waited for: most of it comes from several sides.
Of many neighbours only so many get a record unasked, anchors first, and none who gets it from another
anyway; the others are told of it and pull what they lack.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.mesh.channel import Channel
from gmesh.mesh.counters import Counters
from gmesh.mesh.eager import Elsewhere, chosen, is_leaf, is_stub
from gmesh.mesh.network_limits import (
    FLUSH_BACKLOG,
    FLUSH_BYTES,
    FLUSH_INTERVAL,
    FLUSH_MOST,
    FLUSH_RECORD,
    IHAVE_ENTRIES,
    IHAVE_INTERVAL,
)
from gmesh.routing.engine import RouteEngine
from gmesh.routing.limits import MAX_SEQUENCE
from gmesh.routing.store import Key
from gmesh.wire.frames import Kind
from gmesh.wire.messages import Ihave, Lsa, RecordNumber

__all__ = ["Spreader"]


class Spreader:
    """
    The outboxes of all neighbours, and when they are emptied.

    @param channels: the neighbours by handle, kept by L{Flooding<gmesh.mesh.flooding.Flooding>}.
    """

    def __init__(
        self, engine: RouteEngine, clock: IReactorTime, counters: Counters, channels: dict[bytes, Channel]
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._counters = counters
        self._channels = channels
        self._elsewhere = Elsewhere(engine)
        self._flush_call: IDelayedCall | None = None
        self._name_call: IDelayedCall | None = None
        self._stopped = False
        self._flushed = float("-inf")
        self._spacing = FLUSH_INTERVAL

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        for call in (self._flush_call, self._name_call):
            if call is not None and call.active():
                call.cancel()
        self._flush_call = self._name_call = None

    def spread(self, key: Key, data: bytes, but: Channel | None = None) -> None:
        """A record is news: to all neighbours but the one it came from."""
        entry = self._engine.store.get(key)
        if entry is None or self._stopped:
            return
        sequence = entry.record.sequence
        store = self._engine.store
        eager = chosen(self._engine.handle, self._channels, lambda handle: self._channels[handle].anchor)
        reached = self._elsewhere.reached(but.handle) if but is not None else ()
        for handle, channel in self._channels.items():
            if channel is but or is_stub(store, channel):
                continue
            if sequence <= channel.records.offered(key) <= MAX_SEQUENCE:
                channel.outbox.seen(key, sequence)
                continue
            sent = handle in eager and handle not in reached
            if sent or key in channel.outbox.owed or is_leaf(store, channel):
                channel.outbox.put(key, sequence, data)
            else:
                channel.outbox.name(key, sequence)
                self._arm_names()
        self._arm_flush()

    def reply(self, channel: Channel, key: Key) -> None:
        """What we hold under this key, to one neighbour."""
        entry = self._engine.store.get(key)
        if entry is not None and not self._stopped:
            channel.outbox.owe(key, entry.record.sequence, entry.data)
            self._arm_flush()

    def _arm_flush(self) -> None:
        if self._flush_call is None and not self._stopped:
            wait = self._flushed + self._spacing - self._clock.seconds()
            self._flush_call = self._clock.callLater(max(0.0, wait), self._flush)

    def _flush(self) -> None:
        self._flush_call = None
        self._flushed = self._clock.seconds()
        more, most = False, 0
        for channel in list(self._channels.values()):
            room = FLUSH_BACKLOG - channel.link.control_backlog
            for records in channel.outbox.take(min(FLUSH_BYTES, room)):
                self._counters.count("records-sent", len(records))
                channel.send(Kind.LSA, Lsa(records).encode())
                most = max(most, len(records))
            more = more or bool(channel.outbox.eager)
        self._spacing = min(max(FLUSH_INTERVAL, FLUSH_RECORD * most), FLUSH_MOST)
        if more:
            self._arm_flush()

    def _arm_names(self) -> None:
        if self._name_call is None and not self._stopped:
            self._name_call = self._clock.callLater(IHAVE_INTERVAL, self._name)

    def _name(self) -> None:
        self._name_call = None
        for channel in list(self._channels.values()):
            named = [RecordNumber(*key, sequence) for key, sequence in channel.outbox.lazy.items()]
            channel.outbox.lazy.clear()
            for start in range(0, len(named), IHAVE_ENTRIES):
                channel.send(Kind.IHAVE, Ihave(tuple(named[start : start + IHAVE_ENTRIES])).encode())
