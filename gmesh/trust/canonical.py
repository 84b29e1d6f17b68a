# SPDX-License-Identifier: MIT
"""
The canonical bytes of a JSON value (RFC 8785): the only form that is signed, digested and stored.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import rfc8785

from gmesh.errors import DocumentRefused
from gmesh.trust.tables import table_json

__all__ = ["canonical", "digest", "digest_of"]


def canonical(value: Any) -> bytes:
    """
    The RFC 8785 form of C{value}.

    @raise DocumentRefused: C{not-canonical}, for what has no such form: an integer beyond
        2^53-1, NaN, a lone surrogate, an object that is not JSON.
    """
    try:
        tables = _tables(value)
        return _with_tables(value, tables) if tables else rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, ValueError, TypeError, RecursionError) as error:
        raise DocumentRefused("not-canonical", f"no canonical form: {type(error).__name__}") from error


def _tables(value: Any) -> dict[str, bytes]:
    """The long tables among the members of an object, in canonical form."""
    if type(value) is not dict:
        return {}
    return {name: data for name, item in value.items() if (data := table_json(item)) is not None}


def _with_tables(value: dict[str, Any], tables: dict[str, bytes]) -> bytes:
    """The same as the library makes, which is asked for all but the tables."""
    names = list(json.loads(rfc8785.dumps(dict.fromkeys(value, 0))))
    members = [
        rfc8785.dumps(name) + b":" + (tables.get(name) or rfc8785.dumps(value[name])) for name in names
    ]
    return b"{" + b",".join(members) + b"}"


def digest_of(data: bytes) -> str:
    """SHA-256 of canonical bytes, as documents name each other: 64 hex characters."""
    return sha256(data).hexdigest()


def digest(value: Any) -> str:
    """L{digest_of} the canonical form of C{value}."""
    return digest_of(canonical(value))
