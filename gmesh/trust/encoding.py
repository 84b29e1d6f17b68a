# SPDX-License-Identifier: MIT
"""
Unpadded base64url with exactly one spelling per value.

The standard library's decoders drop stray characters and ignore spare bits, so one key would
have many names; here whatever does not come out again as it went in is refused.
"""

from __future__ import annotations

from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64

from gmesh.errors import DocumentRefused

__all__ = ["b64url_decode", "b64url_encode"]

# base64url, RFC 4648, section 5.
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_TO_URL = bytes.maketrans(b"+/", b"-_")


def b64url_encode(data: bytes) -> str:
    """C{data} as unpadded base64url."""
    return b2a_base64(data, newline=False).translate(_TO_URL, b"=").decode("ascii")


def b64url_decode(text: str, size: int | None = None) -> bytes:
    """
    The bytes that L{b64url_encode} spells as C{text}.

    @param size: how many bytes they must be, if that is known.
    @raise DocumentRefused: C{bad-encoding}, for any other character, padding, spare bits or size.
    """
    try:
        data = a2b_base64(text.encode("ascii").translate(_FROM_URL) + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, BinasciiError):
        data = b""
    if b64url_encode(data) != text:
        raise DocumentRefused(
            "bad-encoding", "not unpadded base64url: a foreign character, padding, length or spare bits"
        )
    if size is not None and len(data) != size:
        raise DocumentRefused("bad-encoding", f"base64url of {len(data)} bytes where {size} are expected")
    return data
