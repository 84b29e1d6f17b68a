# SPDX-License-Identifier: MIT
"""Spellings, told in words."""

from __future__ import annotations

import msgspec
import pytest

from gmesh.trust import names


@pytest.mark.parametrize("kind", names._WORDS)
def test_each_pattern_is_told_in_words(kind: object) -> None:
    """A text that does not fit is told what would; the regular expression stays in the code."""
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(" ", kind)
    assert names.spoken(refused.value) == f"Expected {names._WORDS[kind]}"


def test_every_pattern_has_words() -> None:
    """A new spelling comes with its words."""
    patterned = [
        kind
        for kind in vars(names).values()
        if any(getattr(meta, "pattern", None) for meta in getattr(kind, "__metadata__", ()))
    ]
    assert len(patterned) > 10 and all(kind in names._WORDS for kind in patterned)


def test_the_place_stays() -> None:
    """What else msgspec says is kept: where the value stands."""
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert([["a", "A"]], list[list[names.Name]])
    assert names.spoken(refused.value) == f"Expected {names._WORDS[names.Name]} - at `$[0][1]`"
