# SPDX-License-Identifier: MIT
"""What the validator finds wrong, as people read it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from gmesh.trust.names import human_error


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    effect: Literal["allow", "deny"] = "allow"
    to: Annotated[tuple[str, ...], Meta(min_length=1, max_length=2)] = ("*",)


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=3)]
    ttl: Annotated[int, Meta(ge=1, le=31622400)] = 1
    v: Literal[1] = 1
    approve: bool | None = None
    rules: list[_Rule] = []
    pair: tuple[int, int] = (1, 2)
    counts: dict[str, Annotated[int, Meta(ge=0)]] = {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ttl": 31622401}, "Expected a whole number, at most 31622400, in ttl"),
        ({"ttl": 0}, "Expected a whole number, at least 1, in ttl"),
        ({"ttl": 2**70}, "Expected a whole number, at most 31622400, in ttl"),
        ({"ttl": "1h"}, "Expected a whole number, got a text, in ttl"),
        ({"ttl": None}, "Expected a whole number, got nothing, in ttl"),
        ({"ttl": 1.5}, "Expected a whole number, got a number, in ttl"),
        ({"v": 2}, "2 is not known, in v; it must be 1"),
        ({"approve": "yes"}, "Expected true or false or nothing, got a text, in approve"),
        ({"name": "long"}, "Expected a text of at most 3 characters, in name"),
        ({"rules": 1}, "Expected a list, got a whole number, in rules"),
        (
            {"rules": [{"effect": "permit"}]},
            "'permit' is not known, in rules[0].effect; there are allow, deny",
        ),
        ({"rules": [{"to": []}]}, "Expected a list of at least 1 items, in rules[0].to"),
        ({"rules": [{"to": ["a", "b", "c"]}]}, "Expected a list of at most 2 items, in rules[0].to"),
        ({"rules": [{"From": []}]}, "there is an unknown field From, in rules[0]"),
        ({"pair": [1]}, "Expected a list of 2 items, got 1, in pair"),
        ({"counts": {"a": -1}}, "Expected a whole number, at least 0, in counts[...]"),
        ({"naem": "p"}, "there is an unknown field naem"),
    ],
)
def test_b19_what_the_validator_finds_is_told_in_words(change: dict[str, Any], told: str) -> None:
    """Without types of Python, signs and paths of JSON."""
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert({"name": "p"} | change, _Request, strict=True)
    assert human_error(refused.value, _Request) == told


def test_b19_a_missing_field_is_told_in_words() -> None:
    """And a value that is no object at all."""
    for value, told in (({}, "the field name is missing"), ([], "Expected an object, got a list")):
        with pytest.raises(msgspec.ValidationError) as refused:
            msgspec.convert(value, _Request, strict=True)
        assert human_error(refused.value) == told


def test_b19_a_name_that_looks_like_a_message_stays_as_it_is() -> None:
    """What others wrote is quoted, not read."""
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert({"name": "p", "x` - at `$.y": 1}, _Request, strict=True)
    assert human_error(refused.value).startswith("there is an unknown field x")
