# SPDX-License-Identifier: MIT
"""
Keys of messages: what an application acknowledged is not handed to it again, over restarts of either end.

Each change is a record at the end of a log.  That a message was handed over is written without waiting, which
outlives this process; that it was acknowledged is on disk before its sender hears of it, together with what
else waits to be, in one write.  A record that a power cut tore is the end of the log.

Tests: C{tests/endtoend/test_message_keys.py}, C{tests/node/test_key_log.py}.
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import IntEnum
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.endtoend.limits import KEY_LIFE, MAX_KEYS, MAX_PEER_KEYS
from gmesh.errors import StoreError

__all__ = ["KeyBook", "KeyLog", "KeyRecord", "KeyState", "MessageKeys", "pack_records", "unpack_records"]

_RECORD = struct.Struct(">B16s16sQ")
_CHECK = struct.Struct(">I")
RECORD_SIZE = _RECORD.size + _CHECK.size
COMPACT_FROM = 4_096
"""Records of which at most half say something still are not worth writing the log anew below this."""


class KeyState(IntEnum):
    """What is known of a key, as in the log."""

    NEW = 0
    HANDED = 1
    ACKNOWLEDGED = 2


class KeyRecord(NamedTuple):
    """
    One line of the log.

    @ivar source: node_id of the sender, 16 bytes.
    @ivar digest: of service and key.
    @ivar at: Unix seconds.
    """

    state: KeyState
    source: bytes
    digest: bytes
    at: int


def pack_records(records: Iterable[KeyRecord]) -> bytes:
    """The bytes of these records."""
    packed: list[bytes] = []
    for record in records:
        body = _RECORD.pack(*record)
        packed += body, _CHECK.pack(zlib.crc32(body))
    return b"".join(packed)


def unpack_records(data: bytes) -> list[KeyRecord]:
    """The records at the beginning of C{data}, up to the first that is damaged."""
    records = []
    for at in range(0, len(data) - RECORD_SIZE + 1, RECORD_SIZE):
        body = data[at : at + _RECORD.size]
        state, source, digest, seconds = _RECORD.unpack(body)
        if _CHECK.unpack_from(data, at + _RECORD.size)[0] != zlib.crc32(body) or state > 2:
            break
        records.append(KeyRecord(KeyState(state), source, digest, seconds))
    return records


class KeyLog(Protocol):
    """Where the records are kept: a file, or memory in tests."""

    def read(self) -> bytes:
        """All of it; damaged or missing reads as nothing."""

    def append(self, data: bytes) -> None:
        """Write at its end, without waiting for the disk. @raise StoreError: if that cannot be."""

    def sync(self) -> None:
        """Wait until all that was appended is on disk. @raise StoreError: if it is not."""

    def replace(self, data: bytes) -> None:
        """Put this in the place of all, on disk. @raise StoreError: if that cannot be."""


class KeyBook:
    """
    What is known of keys, by their senders: bounded for each, and for all. Pure.

    What is refused or forgotten reads as new.
    """

    __slots__ = ("_peers", "size")

    def __init__(self) -> None:
        self._peers: dict[bytes, OrderedDict[bytes, tuple[KeyState, int]]] = {}
        self.size = 0

    def find(self, source: bytes, digest: bytes, now: int) -> KeyState:
        """What is known of a key."""
        peer = self._peers.get(source)
        known = None if peer is None else peer.get(digest)
        return known[0] if known is not None and now - known[1] < KEY_LIFE else KeyState.NEW

    def note(self, record: KeyRecord) -> None:
        """What is known of a key from now on."""
        peer = self._peers.setdefault(record.source, OrderedDict())
        self.size -= peer.pop(record.digest, None) is not None
        if record.state is not KeyState.NEW:
            peer[record.digest] = record.state, record.at
            self.size += 1
        if len(peer) > MAX_PEER_KEYS:
            peer.popitem(last=False)
            self.size -= 1
        elif self.size > MAX_KEYS:
            max(self._peers.values(), key=len).popitem(last=False)
            self.size -= 1
        if not peer:
            del self._peers[record.source]

    def records(self, now: int) -> list[KeyRecord]:
        """All that is known, for a new log."""
        return [
            KeyRecord(state, source, digest, at)
            for source, peer in self._peers.items()
            for digest, (state, at) in peer.items()
            if now - at < KEY_LIFE
        ]


class MessageKeys:
    """
    The keys that this node's services have seen.

    @param wall: Unix seconds.
    @param log: where they outlive this process.
    @param aside: runs what takes long beside the reactor.
    """

    _log = Logger()

    def __init__(
        self, wall: Callable[[], float], log: KeyLog, aside: Callable[[Callable[[], Any]], Deferred[Any]]
    ) -> None:
        self._wall = wall
        self._file = log
        self._aside = aside
        self._book = KeyBook()
        self._written = 0
        self._waiting: list[tuple[KeyRecord, Deferred[None]]] = []
        self._late: list[bytes] = []
        self._syncing = False
        self._replacing = False
        for record in unpack_records(log.read()):
            self._book.note(record)
            self._written += 1

    def find(self, source: str, service: str, key: str) -> KeyState:
        """What is known of a key: C{HANDED} also if the process before this one handed it over."""
        return self._book.find(bytes.fromhex(source), _digest(service, key), int(self._wall()))

    def handed(self, source: str, service: str, key: str) -> None:
        """A message with this key goes to its receiver."""
        self._note(KeyState.HANDED, source, service, key)

    def refused(self, source: str, service: str, key: str) -> None:
        """Its receiver refused it: the next one with this key is new."""
        self._note(KeyState.NEW, source, service, key)

    def acknowledged(self, source: str, service: str, key: str) -> Deferred[None]:
        """
        Its receiver is done with it.

        @return: fires when that is on disk; fails with L{StoreError}, and then the next one is handed over.
        """
        stored: Deferred[None] = Deferred()
        record = self._record(KeyState.ACKNOWLEDGED, source, service, key)
        self._waiting.append((record, stored))
        if not self._syncing:
            self._sync()
        return stored

    def _record(self, state: KeyState, source: str, service: str, key: str) -> KeyRecord:
        return KeyRecord(state, bytes.fromhex(source), _digest(service, key), int(self._wall()))

    def _note(self, state: KeyState, source: str, service: str, key: str) -> None:
        record = self._record(state, source, service, key)
        self._book.note(record)
        data = pack_records([record])
        if self._replacing:
            self._late.append(data)
            return
        try:
            self._append(data)
        except StoreError as error:
            self._log.warn("a message key is not written: {cause}", cause=error.detail)

    def _append(self, data: bytes) -> None:
        self._file.append(data)
        self._written += len(data) // RECORD_SIZE

    def _sync(self) -> None:
        """Write what waits; what comes meanwhile goes together the next time."""
        self._syncing = True
        batch, self._waiting = self._waiting, []
        maybeDeferred(self._store, [record for record, _ in batch]).addBoth(self._stored, batch)

    def _store(self, records: list[KeyRecord]) -> Deferred[Any]:
        """Their records, on disk."""
        if self._written >= max(COMPACT_FROM, 2 * self._book.size):
            now = int(self._wall())
            kept = [*self._book.records(now), *records]
            self._replacing = True
            self._written = len(kept)
            return self._aside(lambda: self._file.replace(pack_records(kept)))
        self._append(pack_records(records))
        return self._aside(self._file.sync)

    def _stored(self, result: object, batch: list[tuple[KeyRecord, Deferred[None]]]) -> None:
        if self._replacing:
            self._replacing = False
            late, self._late = self._late, []
            for data in late:
                try:
                    self._append(data)
                except StoreError as error:
                    self._log.warn("a message key is not written: {cause}", cause=error.detail)
        for record, stored in batch:
            if isinstance(result, Failure):
                stored.errback(result)
            else:
                self._book.note(record)
                stored.callback(None)
        self._syncing = False
        if self._waiting:
            self._sync()


def _digest(service: str, key: str) -> bytes:
    return blake2b(f"{service}\0{key}".encode("ascii"), digest_size=16).digest()
