# SPDX-License-Identifier: MIT
"""Keys of messages: kept over restarts and power cuts, bounded, written together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from gmesh.endtoend import limits
from gmesh.endtoend.message_keys import (
    COMPACT_FROM,
    RECORD_SIZE,
    KeyBook,
    KeyRecord,
    KeyState,
    MessageKeys,
    pack_records,
    unpack_records,
)
from gmesh.errors import StoreError
from gmesh.mesh.document_reader import at_once
from gmesh.testing.memory_store import MemoryKeyLog

ALICE, BOB = "aa" * 16, "bb" * 16
records = st.builds(
    KeyRecord,
    st.sampled_from(KeyState),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**40),
)


class Disk:
    """Runs what takes long when it is told to."""

    def __init__(self) -> None:
        self.work: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.work.append((work, done))
        return done

    def turn(self) -> None:
        work, self.work = self.work, []
        for job, done in work:
            try:
                done.callback(job())
            except StoreError:
                done.errback()


def keys(log: MemoryKeyLog, now: Callable[[], float] = lambda: 1000.0, aside: Any = at_once) -> MessageKeys:
    return MessageKeys(now, log, aside)


@given(st.lists(records, max_size=20), st.integers(0, RECORD_SIZE - 1))
def test_a_torn_log_is_read_up_to_the_tear(written: list[KeyRecord], torn: int) -> None:
    """All records before it, and nothing of it."""
    data = pack_records(written)
    assert unpack_records(data) == written
    if written:
        assert unpack_records(data[: len(data) - RECORD_SIZE + torn]) == written[:-1]


@given(st.lists(records, min_size=1, max_size=5), st.data())
def test_a_damaged_record_ends_the_log(written: list[KeyRecord], data: st.DataObject) -> None:
    """Whatever bit is another one."""
    packed = bytearray(pack_records(written))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= 1 << data.draw(st.integers(0, 7))
    assert unpack_records(bytes(packed)) == written[: at // RECORD_SIZE]


def test_what_is_known_outlives_the_process() -> None:
    """Handed over, acknowledged, refused: the next process knows each."""
    log = MemoryKeyLog()
    first = keys(log)
    for key in ("handed", "done", "no"):
        first.handed(ALICE, "log", key)
    first.acknowledged(ALICE, "log", "done")
    first.refused(ALICE, "log", "no")
    second = keys(log)
    known = {key: second.find(ALICE, "log", key) for key in ("handed", "done", "no", "other")}
    assert known == {
        "handed": KeyState.HANDED,
        "done": KeyState.ACKNOWLEDGED,
        "no": KeyState.NEW,
        "other": KeyState.NEW,
    }
    assert second.find(BOB, "log", "done") is second.find(ALICE, "lo", "done") is KeyState.NEW


def test_acknowledged_is_said_once_it_is_on_disk() -> None:
    """What comes while the disk works is written together; a power cut loses what nobody heard of."""
    log, disk, said = MemoryKeyLog(), Disk(), []
    book = keys(log, aside=disk)
    for key in "abcd":
        book.acknowledged(ALICE, "log", key).addCallback(lambda _, key=key: said.append(key))
    assert said == [] and len(disk.work) == 1
    assert book.find(ALICE, "log", "a") is KeyState.NEW
    disk.turn()
    assert said == ["a"] and len(disk.work) == 1
    assert [record.state for record in unpack_records(log.data[: log.synced])] == [KeyState.ACKNOWLEDGED]
    disk.turn()
    assert said == ["a", "b", "c", "d"] and disk.work == []
    log.cut_power()
    assert keys(log).find(ALICE, "log", "d") is KeyState.ACKNOWLEDGED


def test_a_full_disk_acknowledges_nothing() -> None:
    """Neither what is written at once nor what is waited for."""
    log = MemoryKeyLog()
    book, failures = keys(log), []
    log.fault = StoreError("disk-full", "the disk is full")
    book.handed(ALICE, "log", "k")
    book.acknowledged(ALICE, "log", "k").addErrback(lambda failure: failures.append(failure.value.reason))
    assert failures == ["disk-full"]
    assert book.find(ALICE, "log", "k") is KeyState.HANDED


def test_a_key_is_forgotten_after_its_time() -> None:
    """A day later it is new, in this process and the next."""
    now = [1000.0]
    log = MemoryKeyLog()
    book = keys(log, lambda: now[0])
    book.acknowledged(ALICE, "log", "k")
    now[0] += limits.KEY_LIFE - 1
    assert book.find(ALICE, "log", "k") is KeyState.ACKNOWLEDGED
    now[0] += 1
    assert book.find(ALICE, "log", "k") is keys(log, lambda: now[0]).find(ALICE, "log", "k") is KeyState.NEW


@pytest.mark.parametrize("peers", [1, 20])
def test_keys_are_bounded(peers: int) -> None:
    """Of a peer, and of all: the oldest go, those of the peer with the most first."""
    book = KeyBook()
    few = b"f" * 16
    book.note(KeyRecord(KeyState.ACKNOWLEDGED, few, b"0" * 16, 0))
    for peer in range(peers):
        source = peer.to_bytes(16, "big")
        for number in range(limits.MAX_PEER_KEYS + 5):
            book.note(KeyRecord(KeyState.ACKNOWLEDGED, source, number.to_bytes(16, "big"), 0))
            assert book.size <= limits.MAX_KEYS
    assert book.size == min(peers * limits.MAX_PEER_KEYS + 1, limits.MAX_KEYS) == len(book.records(0))
    assert book.find(few, b"0" * 16, 0) is KeyState.ACKNOWLEDGED
    assert book.find(source, b"\0" * 16, 0) is KeyState.NEW


def test_the_log_is_written_anew_before_it_is_long() -> None:
    """What is noted while that takes its time is in the new one, too."""
    log, disk = MemoryKeyLog(), Disk()
    book = keys(log, aside=disk)
    for _ in range(COMPACT_FROM):
        book.handed(ALICE, "log", "k")
    book.acknowledged(ALICE, "log", "k")
    book.handed(ALICE, "log", "late")
    disk.turn()
    assert len(log.data) == 3 * RECORD_SIZE
    again = keys(log)
    assert again.find(ALICE, "log", "k") is KeyState.ACKNOWLEDGED
    assert again.find(ALICE, "log", "late") is KeyState.HANDED
