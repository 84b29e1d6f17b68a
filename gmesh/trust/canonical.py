# SPDX-License-Identifier: MIT
"""
The canonical bytes of a JSON value (RFC 8785): the only form that is signed, digested and stored.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec
import rfc8785

from gmesh.errors import DocumentRefused
from gmesh.trust.json_rows import read_table
from gmesh.trust.limits import MAX_INTEGER

__all__ = ["canonical", "digest", "digest_of"]

_CONTAINERS = frozenset({dict, list, tuple})


def canonical(value: Any) -> bytes:
    """
    The RFC 8785 form of C{value}.

    @raise DocumentRefused: C{not-canonical}, for what has no such form: an integer beyond
        2^53-1, NaN, a lone surrogate, an object that is not JSON.
    """
    try:
        return _spelled_one_way(value) or rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, ValueError, TypeError, RecursionError) as error:
        raise DocumentRefused("not-canonical", f"no canonical form: {type(error).__name__}") from error


def _spelled_one_way(value: Any) -> bytes | None:
    """
    The same, made in C, where JSON leaves no choice but the order of names: integers up to 2^53-1 and
    ASCII text that needs no escape.  Nearly all that is signed is of that kind.

    @return: None for anything else, which the library must spell.
    """
    if type(value) is not dict or not _is_simple(value):
        return None
    data = msgspec.json.encode(value, order="sorted")
    return data if data.isascii() and b"\\" not in data and b"\x7f" not in data else None


def _is_simple(value: Any) -> bool:
    """Whether a list or object holds texts, integers up to 2^53-1, truth values, null and such alone."""
    if type(value) is dict:
        if not all(type(name) is str for name in value):
            return False
        value = value.values()
    elif read_table(value) is not None:
        return True
    for item in value:
        kind = type(item)
        if kind is str or kind is bool or item is None:
            continue
        if kind is int:
            if not -MAX_INTEGER <= item <= MAX_INTEGER:
                return False
        elif kind not in _CONTAINERS or not _is_simple(item):
            return False
    return True


def digest_of(data: bytes) -> str:
    """SHA-256 of canonical bytes, as documents name each other: 64 hex characters."""
    return sha256(data).hexdigest()


def digest(value: Any) -> str:
    """L{digest_of} the canonical form of C{value}."""
    return digest_of(canonical(value))
