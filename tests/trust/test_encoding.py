# SPDX-License-Identifier: MIT
"""base64url with one spelling per value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.errors import DocumentRefused
from gmesh.trust.encoding import b64url_decode, b64url_encode


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"f", "Zg"),
        (b"fo", "Zm8"),
        (b"foo", "Zm9v"),
        (b"foobar", "Zm9vYmFy"),
        (b"\xfb\xff", "-_8"),
    ],
)
def test_rfc_4648_vectors(data: bytes, text: str) -> None:
    """The vectors of RFC 4648 section 10, without padding."""
    assert b64url_encode(data) == text
    assert b64url_decode(text) == data


@pytest.mark.parametrize(
    "text", ["Zg==", "Zh", "Zm9=", "Z", "Zm9v Zm9v", "Zm9v\n", "+/8", "Zm.v", "Zmé", "Z\uff21"]
)
def test_other_spellings(text: str) -> None:
    """Padding, spare bits, white space and foreign characters are refused."""
    with pytest.raises(DocumentRefused) as caught:
        b64url_decode(text)
    assert caught.value.reason == "bad-encoding"


def test_size() -> None:
    """A known size is enforced."""
    assert b64url_decode("Zm9v", 3) == b"foo"
    with pytest.raises(DocumentRefused):
        b64url_decode("Zm9v", 4)


@given(st.binary())
def test_round_trip(data: bytes) -> None:
    """Whatever was encoded is decoded."""
    assert b64url_decode(b64url_encode(data), len(data)) == data


@given(st.text(max_size=12))
def test_one_spelling(text: str) -> None:
    """What is accepted is exactly what would be written."""
    try:
        data = b64url_decode(text)
    except DocumentRefused:
        return
    assert b64url_encode(data) == text
