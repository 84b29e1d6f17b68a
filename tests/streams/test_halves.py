# SPDX-License-Identifier: MIT
"""The two halves of a stream against a naive twin, a list of bytes, over a channel that does as it likes."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmesh.errors import FrameRefused
from gmesh.streams.receiving import ReceiveHalf
from gmesh.streams.sending import Piece, SendHalf


@settings(max_examples=300, deadline=None)
@given(
    writes=st.lists(st.binary(min_size=0, max_size=300), max_size=20),
    room=st.integers(1, 120),
    seed=st.integers(0, 2**32),
    lost=st.floats(0, 0.6),
    copied=st.floats(0, 0.3),
)
def test_what_is_written_is_read(
    writes: list[bytes], room: int, seed: int, lost: float, copied: float
) -> None:
    """Pieces are lost, copied and reordered, credit comes in drops; every byte comes once, in its place."""
    chance = Random(seed)
    sending, receiving = SendHalf(), ReceiveHalf()
    expected = b"".join(writes)
    under_way: list[Piece] = []
    got = bytearray()
    todo = list(writes)
    limit = chance.randrange(50)
    sending.limit = limit
    for _ in range(100_000):
        if todo and chance.random() < 0.5:
            sending.write(todo.pop(0))
        piece = sending.cut(room, room)
        if piece is not None:
            assert piece.size == sum(map(len, piece.views)) <= room
            under_way.append(piece)
        if under_way and chance.random() < 0.7:
            piece = under_way.pop(chance.randrange(len(under_way)))
            if chance.random() < lost:
                sending.lose(piece)
            else:
                data = b"".join(piece.views)
                for _ in range(2 if chance.random() < copied else 1):
                    got += b"".join(receiving.take(piece.offset, data, limit) or [])
                sending.acknowledge(piece)
        if chance.random() < 0.3:
            limit = max(limit, len(got) + chance.randrange(1, 200))
            sending.limit = limit
        if not todo and sending.whole:
            break
    assert bytes(got) == expected
    assert sending.acknowledged == len(expected)
    assert receiving.held == 0
    receiving.end(len(expected), limit)
    assert receiving.complete


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=200), st.lists(st.tuples(st.integers(0, 199), st.integers(1, 60))))
def test_pieces_that_overlap_are_held_once(text: bytes, cuts: list[tuple[int, int]]) -> None:
    """However a far end cuts its bytes, what is held is no more than what may be written, and right."""
    receiving, got = ReceiveHalf(), bytearray()
    have: set[int] = set()
    for offset, size in cuts:
        data = text[offset : offset + size]
        if not data:
            continue
        got += b"".join(receiving.take(offset, data, len(text)) or [])
        have |= set(range(offset, offset + len(data)))
        whole = next((number for number in range(len(text)) if number not in have), len(text))
        assert bytes(got) == text[:whole]
        held = receiving._pieces or {}
        assert sum(map(len, held.values())) == len([number for number in have if number >= whole])
        for at, piece in held.items():
            assert text[at : at + len(piece)] == piece


@pytest.mark.parametrize("offset", [0, 5, 90, 100, 2**63])
def test_more_than_may_be_written_is_refused(offset: int) -> None:
    """And changes nothing."""
    receiving = ReceiveHalf()
    receiving.take(0, b"123", 100)
    with pytest.raises(FrameRefused) as caught:
        receiving.take(offset, bytes(101 - min(offset, 100)), 100)
    assert caught.value.reason == "overrun"
    assert receiving.next == 3


@pytest.mark.parametrize(("first", "second"), [(2, None), (101, None), (50, 49), (50, 51)])
def test_an_end_that_contradicts_what_came_is_refused(first: int, second: int | None) -> None:
    """Before what was written, beyond what may be, or another one than was said."""
    receiving = ReceiveHalf()
    receiving.take(10, b"later", 100)
    receiving.take(0, b"123", 100)
    with pytest.raises(FrameRefused):
        receiving.end(first, 100)
        receiving.end(second or 0, 100)


def test_data_behind_the_end_is_refused() -> None:
    """The size of a stream is final."""
    receiving = ReceiveHalf()
    receiving.end(3, 100)
    with pytest.raises(FrameRefused):
        receiving.take(0, b"four", 100)
    assert receiving.take(0, b"123", 100) == [b"123"]
    assert receiving.complete


def test_a_piece_that_may_not_be_held_must_come_again() -> None:
    """It is not taken, while what is in order is."""
    receiving = ReceiveHalf()
    assert receiving.take(3, b"later", 100, may_hold=False) is None
    assert receiving.held == 0
    assert receiving.take(0, b"now", 100, may_hold=False) == [b"now"]


def test_nothing_is_copied_and_all_is_let_go() -> None:
    """A frame is a view of what was written; once acknowledged it holds nothing."""
    sending = SendHalf()
    sending.limit = 10_000
    data = bytes(1000)
    sending.write(data)
    piece = sending.cut(400, 400)
    assert piece is not None
    [view] = piece.views
    assert isinstance(view, memoryview)
    assert view.obj is data
    assert sending.acknowledge(piece) == 400
    assert piece.views == []
    assert sending.acknowledge(piece) == 0
    assert sending.acknowledged == 400


def test_a_lost_piece_goes_first_and_as_it_was() -> None:
    """What is lost and then acknowledged after all is not sent again."""
    sending = SendHalf()
    sending.limit = 100
    sending.write(b"abcdef")
    one, two = sending.cut(2, 2), sending.cut(2, 2)
    assert one is not None
    assert two is not None
    sending.lose(one)
    sending.lose(two)
    sending.acknowledge(one)
    again = sending.cut(2, 2)
    assert again is two
    assert sending.cut(100, 1) is not None


def test_a_lost_piece_waits_for_a_frame_that_it_fits() -> None:
    """It is not cut again."""
    sending = SendHalf()
    sending.limit = 100
    sending.write(b"abcdef")
    piece = sending.cut(6, 6)
    assert piece is not None
    sending.lose(piece)
    assert sending.sendable
    assert sending.cut(3, 3) is None
    assert sending.cut(3, 6) is piece
