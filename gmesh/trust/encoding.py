# SPDX-License-Identifier: MIT
"""
Unpadded base64url with exactly one spelling per value.

C{base64.urlsafe_b64decode} drops stray characters and ignores spare bits, so one key would
have many names; here each other spelling is refused.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from gmesh.errors import DocumentRefused

__all__ = ["b64url_decode", "b64url_encode"]

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")


def b64url_encode(data: bytes) -> str:
    """C{data} as unpadded base64url."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64url_decode(text: str, size: int | None = None) -> bytes:
    """
    The bytes that L{b64url_encode} spells as C{text}.

    @param size: how many bytes they must be, if that is known.
    @raise DocumentRefused: C{bad-encoding}, for any other character, padding, spare bits or size.
    """
    if _ALPHABET.fullmatch(text) is None or len(text) % 4 == 1:
        raise DocumentRefused("bad-encoding", "not unpadded base64url: foreign character, padding or length")
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64url_encode(data) != text:
        raise DocumentRefused("bad-encoding", "base64url with spare bits that are not zero")
    if size is not None and len(data) != size:
        raise DocumentRefused("bad-encoding", f"base64url of {len(data)} bytes where {size} are expected")
    return data
