# SPDX-License-Identifier: MIT
"""Spellings, told in words."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from gmesh.trust import names
from gmesh.trust.documents import Policy


@pytest.mark.parametrize("kind", names._WORDS)
def test_each_pattern_is_told_in_words(kind: object) -> None:
    """A text that does not fit is told what would; the regular expression stays in the code."""
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(" ", kind)
    assert names.human_error(refused.value) == f"Expected {names._WORDS[kind]}"


def test_every_pattern_has_words() -> None:
    """A new spelling comes with its words."""
    patterned = [
        kind
        for kind in vars(names).values()
        if any(getattr(meta, "pattern", None) for meta in getattr(kind, "__metadata__", ()))
    ]
    assert len(patterned) > 10 and all(kind in names._WORDS for kind in patterned)


def test_the_place_stays() -> None:
    """What else msgspec says is kept, in words: where the value stands."""
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert([["a", "A"]], list[list[names.Name]])
    assert names.human_error(refused.value) == f"Expected {names._WORDS[names.Name]}, in [0][1]"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rules": [{"effect": "permit", "from": ["*"], "to": ["*"], "services": ["*"]}]}, "allow, deny"),
        ({"control": {"reload": "king"}}, "administer, operate, read"),
        ({"operators": [{"key": "A" * 43, "role": "king"}]}, "administer, operate, read"),
    ],
)
def test_a_word_that_is_none_of_a_few_is_told_with_them(change: dict[str, object], told: str) -> None:
    """At any depth: in a list, in an object of any names, behind another name than the field's."""
    good = {
        "type": "policy", "network_id": "0" * 32, "version": 1, "issued_at": 1, "expires_at": 2,
        "max_hops": 1, "certificate": {"default": 1, "max": 1, "renew_grace": 1}, "max_nodes": 1,
        "stale_grace": 1, "rules": [], "operators": [], "control": {},
    }  # fmt: skip
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(good | change, Policy)
    words = names.human_error(refused.value, Policy).partition("; there are ")[2]
    assert ", ".join(sorted(words.split(", "))) == told
    assert "; there are" not in names.human_error(refused.value)


def test_a_choice_that_may_be_left_out() -> None:
    """The None of an optional field is no word to choose."""
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert({"colour": "pink"}, _Optional)
    assert names.human_error(refused.value, _Optional).endswith("there are green, red")


class _Optional(msgspec.Struct):
    colour: Literal["green", "red"] | None = None
