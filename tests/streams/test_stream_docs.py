# SPDX-License-Identifier: MIT
"""The chapter on streams says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from gmesh.stream_errors import StreamCode
from gmesh.streams import limits

CHAPTER = (Path(__file__).parents[2] / "docs" / "protocol" / "streams.rst").read_text()


def test_every_code_stands_in_its_table() -> None:
    """Number and slug, and no other."""
    rows = re.findall(r"^(\d+) +([a-z-]+) +\S", CHAPTER, re.M)
    assert rows == [(str(code.value), code.slug) for code in StreamCode]


def test_constants_have_the_values_of_the_code() -> None:
    """Each row of the table; a pair of values is two names, or a rate and its burst."""
    rows = re.findall(r"^\S.*?  +([0-9][0-9,. to]*?) +(``[A-Z].*)$", CHAPTER, re.M)
    assert len(rows) >= 24
    for text, named in rows:
        values = [float(part.replace(",", "")) for part in text.split(" to ")]
        held = [getattr(limits, name) for name in re.findall(r"``(\w+)``", named)]
        found = list(held[0]) if isinstance(held[0], tuple) else held
        assert found == values, named
