# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.routing.record}: one canonical encoding, everything else refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing.records import NETWORK, make_key, make_record

from gmesh.errors import FrameRefused
from gmesh.routing.record import (
    Capability,
    NodeRecord,
    RecordFlag,
    decode_record,
    handle_of,
    make_capabilities,
    node_id_of,
    peek,
)

LINKS = 80
"""Where the links of a record begin."""


def test_layout() -> None:
    """The bytes stand where the protocol document says."""
    data = make_record("a", {"b": 7}, sequence=5, fragment=3)
    assert len(data) == 146 + 10
    assert data[:1] == b"\1" and data[1:17] == NETWORK and data[17:49] == make_key("a")
    assert struct.unpack(">QBQQHBHB", data[49:80]) == (1, 3, 5, 1_760_000_000, 3600, 1, 0, 1)
    assert data[80:90] == handle_of(make_key("b")) + b"\0\7"
    assert data[90:92] == b"\0\0"


def test_size_with_links() -> None:
    """A record with 6 links has 206 bytes, one with 64 has 786."""
    assert len(make_record("a", {name: 1 for name in range(6)})) == 206
    assert len(make_record("a", {name: 1 for name in range(64)})) == 786


def test_handle_and_node_id() -> None:
    """Handle and node id are the first 8 and 16 bytes of the key's hash."""
    key = bytes(32)
    full = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
    assert handle_of(key).hex() == full[:16] and node_id_of(key) == full[:32]


records = st.builds(
    NodeRecord,
    network_id=st.just(NETWORK),
    node_key=st.binary(min_size=32, max_size=32),
    serial=st.integers(0, 2**53 - 1),
    fragment=st.integers(0, 63),
    sequence=st.integers(1, 2**60),
    issued_at=st.integers(0, 2**60),
    lifetime=st.integers(1, 7200),
    flags=st.integers(0, 15).map(RecordFlag),
    links=st.dictionaries(st.binary(min_size=8, max_size=8), st.integers(1, 65535), max_size=64).map(
        lambda links: tuple(sorted(links.items()))
    ),
    capabilities=st.sets(st.tuples(st.integers(4, 255), st.binary(max_size=40)), max_size=6).map(
        lambda items: tuple(sorted(items))
    ),
    signature=st.binary(min_size=64, max_size=64),
)


@given(records)
def test_round_trip(record: NodeRecord) -> None:
    """What is encoded decodes to the same."""
    data = record.encode()
    assert decode_record(data, NETWORK) == record
    assert peek(data) == (record.handle, record.fragment, record.sequence)


@given(st.binary(max_size=2100))
def test_any_bytes(data: bytes) -> None:
    """Arbitrary bytes are refused with one error, or are canonical."""
    try:
        record = decode_record(data, NETWORK)
    except FrameRefused:
        return
    assert record.encode() == data


@given(records, st.data())
def test_damage_is_canonical_or_refused(record: NodeRecord, data: st.DataObject) -> None:
    """A changed record is refused or decodes to what encodes to the same bytes: one encoding each."""
    raw = bytearray(record.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        changed = decode_record(bytes(raw), NETWORK)
    except FrameRefused:
        return
    assert changed.encode() == raw


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (0, b"\2", "bad-record-version"),
        (1, b"\xff", "wrong-network"),
        (49, b"\x00\x20", "bad-record"),
        (57, b"\x40", "bad-record"),
        (58, bytes(8), "bad-record"),
        (58, b"\xff" * 8, "bad-record"),
        (74, b"\0\0", "bad-record"),
        (74, b"\xff\xff", "bad-record"),
        (76, b"\x10", "bad-record"),
        (78, b"\1", "bad-record"),
        (79, b"\x41", "bad-record"),
        (79, b"\0", "bad-record"),
        (LINKS + 8, b"\0\0", "bad-record"),
        (LINKS + 20, b"\0\1", "bad-record"),
    ],
)
def test_refused_fields(offset: int, value: bytes, reason: str) -> None:
    """Each field out of its range is refused with its reason."""
    data = bytearray(make_record("a", {"b": 1, "c": 2}))
    data[offset : offset + len(value)] = value
    with pytest.raises(FrameRefused) as refused:
        decode_record(bytes(data), NETWORK)
    assert refused.value.reason == reason


@pytest.mark.parametrize("size", [0, 145, 2049])
def test_refused_length(size: int) -> None:
    """Too short and too long are refused before anything is read."""
    with pytest.raises(FrameRefused) as refused:
        decode_record(bytes(size), NETWORK)
    assert refused.value.reason == "bad-record-length"


def test_refused_own_link() -> None:
    """A record that lists its own node is refused."""
    with pytest.raises(FrameRefused) as refused:
        decode_record(make_record("a", {"a": 1}), NETWORK)
    assert refused.value.reason == "bad-record"


def test_refused_repeated_link() -> None:
    """A neighbour listed twice is refused."""
    data = make_record("a", {"b": 1, "c": 1})
    with pytest.raises(FrameRefused) as refused:
        decode_record(data[:90] + data[80:90] + data[100:], NETWORK)
    assert refused.value.reason == "bad-record"


def test_refused_links_out_of_order() -> None:
    """The order is part of the canonical form."""
    data = make_record("a", {"b": 1, "c": 1})
    one, two = data[80:90], data[90:100]
    with pytest.raises(FrameRefused) as refused:
        decode_record(data[:80] + two + one + data[100:], NETWORK)
    assert refused.value.reason == "bad-record"


def test_capabilities() -> None:
    """Addresses, services and version come back as text; unknown types are carried."""
    capabilities = (*make_capabilities(["h:1", "[::1]:7"], ["_echo", "files"], "gmesh 1"), (9, b"\0"))
    record = decode_record(make_record("a", capabilities=capabilities), NETWORK)
    assert record.values(Capability.ADDRESS) == ("[::1]:7", "h:1")
    assert record.values(Capability.SERVICE) == ("_echo", "files")
    assert record.values(Capability.SOFTWARE) == ("gmesh 1",)
    assert record.capabilities[-1] == (9, b"\0")


@pytest.mark.parametrize(
    ("addresses", "services", "software"),
    [
        ([f"h:{n}" for n in range(5)], [], ""),
        (["h" * 129], [], ""),
        (["two\nlines"], [], ""),
        ([""], [], ""),
        ([], [f"s{n}" for n in range(33)], ""),
        ([], ["UPPER"], ""),
        ([], ["s" * 33], ""),
        ([], [], "v" * 65),
    ],
)
def test_refused_capabilities(addresses: list[str], services: list[str], software: str) -> None:
    """Too many, too long or malformed values are refused when made, hence when received."""
    with pytest.raises(FrameRefused) as refused:
        make_capabilities(addresses, services, software)
    assert refused.value.reason == "bad-capability"


@pytest.mark.parametrize("raw", [b"\1", b"\1\5abc", b"\7\0\7\0", b"\7\1b\7\1a"])
def test_refused_capability_lists(raw: bytes) -> None:
    """Truncated, repeated and unordered capabilities are refused."""
    data = make_record("a")
    broken = data[:80] + struct.pack(">H", len(raw)) + raw + data[82:]
    with pytest.raises(FrameRefused) as refused:
        decode_record(broken, NETWORK)
    assert refused.value.reason == "bad-capability"


def test_unsigned_record() -> None:
    """A record without a signature has no encoding."""
    record = NodeRecord(NETWORK, make_key("a"), 1, 0, 1, 1, 1, RecordFlag(0), ())
    with pytest.raises(FrameRefused) as refused:
        record.encode()
    assert refused.value.reason == "unsigned-record"
