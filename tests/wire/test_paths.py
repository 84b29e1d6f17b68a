# SPDX-License-Identifier: MIT
"""Path headers: built, read, peeked at, patched and spliced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.wire_samples import PATH, A, B, C, D, path_headers

from gmesh.errors import FrameRefused
from gmesh.wire.frames import Kind, iter_frames
from gmesh.wire.limits import MAX_DATA_CIPHERTEXT
from gmesh.wire.paths import (
    AT_FLAGS,
    AT_PATH,
    FrameTemplate,
    PathHeader,
    associated_data,
    pack_path_frame,
    peek_key,
    peek_path,
    read_path,
    reply_path,
    splice,
)


def test_a_data_frame_byte_by_byte() -> None:
    """Length, kind, flags, hop, class, count, path, receiver index, counter, ciphertext."""
    header = PathHeader((A, B, C), receiver_index=0x01020304, counter=5, hop=2, traffic_class=1, splices=3)
    frame = pack_path_frame(Kind.E2E_DATA, header, b"sealed")
    expected = (
        "002e"
        + "42"
        + "03"
        + "02"
        + "01"
        + "03"
        + (A + B + C).hex()
        + "01020304"
        + "0000000000000005"
        + b"sealed".hex()
    )
    assert frame.hex() == expected


@given(
    header=path_headers(),
    payload=st.binary(max_size=50),
    before=st.binary(max_size=9),
    after=st.binary(max_size=9),
)
def test_a_header_is_read_back_anywhere_in_a_record(
    header: PathHeader, payload: bytes, before: bytes, after: bytes
) -> None:
    """The object, the peek and the key agree, wherever the frame stands."""
    frame = pack_path_frame(Kind.E2E_DATA, header, payload)
    assert iter_frames(frame) == [(Kind.E2E_DATA, 0, len(frame))]
    record = memoryview(bytearray(before + frame + after))
    start, end = len(before), len(before) + len(frame)
    read, begin = read_path(record, start, end)
    assert read == header
    assert bytes(record[begin:end]) == payload
    splices, hop, path_end = peek_path(record, start, end)
    assert (splices, hop) == (header.splices, header.hop)
    assert bytes(record[start + AT_PATH : path_end]) == b"".join(header.path)
    assert peek_key(record, start, end) == bytes(record[start + AT_FLAGS : path_end])
    assert header.size == begin - start - 3


def _broken(at: int, value: int) -> bytes:
    frame = bytearray(pack_path_frame(Kind.E2E_DATA, PATH, b"payload"))
    frame[at] = value
    return bytes(frame)


@pytest.mark.parametrize(
    "frame",
    [
        _broken(3, 4),
        _broken(4, 0),
        _broken(4, 3),
        _broken(6, 0),
        _broken(6, 1),
        _broken(6, 66),
        _broken(6, 255),
        pack_path_frame(Kind.E2E_DATA, PATH, b"")[:-1],
        b"\0\0\x42",
    ],
)
def test_a_broken_header_is_refused(frame: bytes) -> None:
    """Unknown flags, a hop outside of the path, a path that does not fit."""
    for read in (read_path, peek_path):
        with pytest.raises(FrameRefused):
            read(frame, 0, len(frame))


def test_the_key_never_reaches_into_the_next_frame() -> None:
    """A frame shorter than its path is refused even when bytes follow it in the record."""
    frame = pack_path_frame(Kind.E2E_DATA, PATH, b"")
    for end in range(len(frame)):
        with pytest.raises(FrameRefused):
            peek_key(frame + frame, 0, end)


def test_a_path_that_repeats_a_node_is_refused() -> None:
    """No frame may visit a node twice."""
    frame = pack_path_frame(Kind.E2E_DATA, PathHeader((A, B, A)), b"payload")
    with pytest.raises(FrameRefused):
        read_path(frame, 0, len(frame))


@pytest.mark.parametrize(
    "header",
    [
        PathHeader((A,)),
        PathHeader(()),
        PathHeader((A, B), hop=0),
        PathHeader((A, B), hop=2),
        PathHeader((A, b"short")),
        PathHeader((A, B), receiver_index=2**32),
        PathHeader((A, B), counter=-1),
        PathHeader((A, B), splices=4),
        PathHeader((A, B), splices=256),
        PathHeader(tuple(bytes((n,)) * 8 for n in range(66))),
    ],
)
def test_a_header_outside_of_its_limits_is_not_sent(header: PathHeader) -> None:
    """Encoding refuses what a relay would refuse."""
    with pytest.raises(FrameRefused):
        header.encode()


def test_a_payload_outside_of_its_limit_is_not_sent() -> None:
    """16 KiB and a tag."""
    pack_path_frame(Kind.E2E_DATA, PATH, bytes(MAX_DATA_CIPHERTEXT))
    with pytest.raises(FrameRefused):
        pack_path_frame(Kind.E2E_DATA, PATH, bytes(MAX_DATA_CIPHERTEXT + 1))


@given(header=path_headers(), payload=st.binary(min_size=1, max_size=40))
def test_a_template_writes_what_the_plain_form_writes(header: PathHeader, payload: bytes) -> None:
    """One join gives the same frame and the same associated data."""
    plain = PathHeader(header.path, header.receiver_index, header.counter, 1, header.traffic_class, 0)
    template = FrameTemplate(header.path, header.receiver_index, header.traffic_class)
    counter = header.counter.to_bytes(8, "big")
    assert template.head(counter, len(payload)) + payload == pack_path_frame(Kind.E2E_DATA, plain, payload)
    assert template.associated + counter == associated_data(plain)
    assert template.flow == header.source + header.destination


def test_associated_data_byte_by_byte() -> None:
    """Kind, class, source, destination, receiver index, counter."""
    assert associated_data(PATH).hex() == "42" + "00" + A.hex() + C.hex() + "01020304" + "0000000000000005"


@given(header=path_headers(), hop=st.integers(1, 64), splices=st.integers(0, 3))
def test_what_a_relay_changes_is_not_authenticated(header: PathHeader, hop: int, splices: int) -> None:
    """Hop index, splices and the interior of the path are left out of the associated data."""
    changed = PathHeader(
        (header.source, b"~relay~~", header.destination),
        header.receiver_index,
        header.counter,
        hop,
        header.traffic_class,
        splices,
    )
    assert associated_data(changed) == associated_data(header)


def test_a_splice_replaces_path_hop_and_count_only() -> None:
    """Kind, class, index, counter and payload stay."""
    header = PathHeader((A, B, C), 7, 8, 1, 2, 0)
    frame = pack_path_frame(Kind.E2E_RESP, header, b"payload")
    record = memoryview(b"xx" + frame + b"yy")
    spliced = splice(record, 2, 2 + len(frame), (A, B, D, C), 2, 1)
    read, begin = read_path(spliced, 0, len(spliced))
    assert read == PathHeader((A, B, D, C), 7, 8, 2, 2, 1)
    assert spliced[2] == Kind.E2E_RESP
    assert spliced[begin:] == b"payload"


def test_a_refusal_goes_back_over_the_visited_prefix() -> None:
    """From the node that handles it to the source; receiver index and counter tell which frame."""
    header = PathHeader((A, B, C, D), 7, 8, 2)
    assert header.visited == (A, B, C)
    assert reply_path(header) == PathHeader((C, B, A), 7, 8, 1)
