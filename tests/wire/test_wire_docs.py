# SPDX-License-Identifier: MIT
"""The chapter on the wire says what the code does."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from gmesh.wire import limits
from gmesh.wire.flood_messages import MAX_IHAVE, MAX_SYNC_LIST, MAX_SYNC_WANT
from gmesh.wire.frames import Kind, is_data
from gmesh.wire.messages import CloseReason, Inner, Outcome

CHAPTER = (Path(__file__).parents[2] / "docs" / "protocol" / "wire.rst").read_text()


def test_every_kind_stands_in_its_table() -> None:
    """Name, number and class of all frame kinds, and no other."""
    rows = re.findall(r"^([A-Z][A-Z0-9_]+) +(\d+) +(control|data) ", CHAPTER, re.M)
    assert rows == [(kind.name, str(kind.value), "data" if is_data(kind) else "control") for kind in Kind]


def test_every_inner_kind_stands_in_its_table() -> None:
    """Name and number of the inner frames."""
    table = CHAPTER[CHAPTER.index("Inner frames\n====") :]
    rows = re.findall(r"^([A-Z]+) +(\d+) +(?:`|as)", table, re.M)
    assert rows == [(kind.name, str(kind.value)) for kind in Inner]


@pytest.mark.parametrize("numbers", [CloseReason, Outcome])
def test_reasons_and_outcomes_stand_in_their_tables(numbers: type[IntEnum]) -> None:
    """Number and slug of each."""
    for member in numbers:
        assert re.search(rf"^{member.value} +{member.slug}( |$)", CHAPTER, re.M), member


def test_constants_have_the_values_of_the_code() -> None:
    """Each row of the table of constants."""
    rows = re.findall(r"^\S.*?  +([0-9][0-9,^ to-]*?) +(``[A-Z].*)$", CHAPTER, re.M)
    assert len(rows) >= 28
    for text, names in rows:
        values = [eval_number(part) for part in text.split(" to ")]
        for value, name in zip(values[::-1], re.findall(r"``(\w+)``", names)[::-1], strict=False):
            assert getattr(limits, name) == value, name


def eval_number(text: str) -> int:
    """A number of the table: C{16,384} or C{2^53 - 1}."""
    base, _, less = text.replace(",", "").partition(" - ")
    number, _, power = base.partition("^")
    return int(number) ** int(power or 1) - int(less or 0)


def test_entries_that_fill_a_frame_are_counted_right() -> None:
    """The most entries of IHAVE, SYNC_LIST and SYNC_WANT."""
    for most in (MAX_IHAVE, MAX_SYNC_LIST, MAX_SYNC_WANT):
        assert f"up to {most:,}" in CHAPTER
