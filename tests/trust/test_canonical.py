# SPDX-License-Identifier: MIT
"""Canonical JSON: RFC 8785's own vectors, and the standard library as a second implementation."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from gmesh.errors import DocumentRefused
from gmesh.trust.canonical import canonical, digest
from gmesh.trust.limits import MAX_INTEGER

RFC_8785_SAMPLE = r"""
{
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}
"""
RFC_8785_BYTES = bytes.fromhex(  # section 3.2.4
    """
    7b 22 6c 69 74 65 72 61 6c 73 22 3a 5b 6e 75 6c 6c 2c 74 72
    75 65 2c 66 61 6c 73 65 5d 2c 22 6e 75 6d 62 65 72 73 22 3a
    5b 33 33 33 33 33 33 33 33 33 2e 33 33 33 33 33 33 33 2c 31
    65 2b 33 30 2c 34 2e 35 2c 30 2e 30 30 32 2c 31 65 2d 32 37
    5d 2c 22 73 74 72 69 6e 67 22 3a 22 e2 82 ac 24 5c 75 30 30
    30 66 5c 6e 41 27 42 5c 22 5c 5c 5c 5c 5c 22 2f 22 7d
    """
)


def test_rfc_8785_sample() -> None:
    """The sample of section 3.2.2 gives the bytes of section 3.2.4."""
    assert canonical(json.loads(RFC_8785_SAMPLE)) == RFC_8785_BYTES


def test_rfc_8785_key_order() -> None:
    """Keys sort by UTF-16 code units, as in section 3.2.3."""
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    in_order = [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]
    assert list(json.loads(canonical(value)).values()) == in_order


RESTRICTED = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abz019_", min_size=1, max_size=40), inner),
    max_leaves=20,
)


@given(RESTRICTED)
def test_second_implementation(value: Any) -> None:
    """In the restricted form the standard library writes the same bytes."""
    twin = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert canonical(value) == twin
    assert digest(value) == sha256(twin).hexdigest()


TEXT = st.text() | st.text(st.characters(max_codepoint=0x7F))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXT | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(st.dictionaries(TEXT, JSON))
def test_the_library_decides(value: dict[str, Any]) -> None:
    """Of any object, floats and escapes included, come the bytes that rfc8785 makes, or its refusal."""
    try:
        expected = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        with pytest.raises(DocumentRefused):
            canonical(value)
    else:
        assert canonical(value) == expected


@pytest.mark.parametrize(
    "value", [2**53, -(2**53), float("nan"), float("inf"), "\ud800", b"", {1: 2}, object()]
)
def test_no_canonical_form(value: Any) -> None:
    """What has no canonical form is refused as a document, never as a crash."""
    with pytest.raises(DocumentRefused) as caught:
        canonical({"a": value})
    assert caught.value.reason == "not-canonical"
