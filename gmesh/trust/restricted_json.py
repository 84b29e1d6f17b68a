# SPDX-License-Identifier: MIT
"""
JSON from strangers, in the one restricted form gmesh reads.

Two readers must never see different things in the same bytes, and whatever is read must
survive canonicalisation unchanged.  So, before any field is looked at: a size limit, strict
UTF-8, depth at most 16, keys C{[a-z0-9_]{1,40}} and each once, no floats, no integer beyond
2^53-1 and no C{-0}, strings in NFC without control characters.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, NoReturn

from gmesh.errors import DocumentRefused
from gmesh.trust.json_rows import read_table
from gmesh.trust.limits import JSON_INTEGER_CHARACTERS, MAX_DEPTH, MAX_INTEGER, MAX_KEY_CHARACTERS

__all__ = ["check_restricted", "parse_json"]

_KEY = re.compile(rf"[a-z0-9_]{{1,{MAX_KEY_CHARACTERS}}}")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def parse_json(data: bytes, limit: int) -> dict[str, Any]:
    """
    One JSON object in the restricted form.

    @param limit: bytes at most.
    @raise DocumentRefused: C{too-large} or C{invalid-json}; nothing else comes out.
    """
    if len(data) > limit:
        raise DocumentRefused("too-large", f"{len(data)} bytes where {limit} are allowed")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused("not UTF-8") from error
    if _too_deep(data):
        raise _refused(f"brackets left open, or nested deeper than {MAX_DEPTH}")
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        raise _refused(f"not JSON, line {error.lineno}, column {error.colno}: {error.msg.lower()}") from error
    except ValueError as error:
        raise _refused("not JSON") from error
    if not isinstance(value, dict):
        raise _refused("an object is expected at the top")
    if not text.isascii() or "\\" in text or "\x7f" in text:
        _check_texts(value)
    return value


def check_restricted(value: Any, depth: int = 1) -> None:
    """
    Check an already built value against the same rules, before it is signed.

    @raise DocumentRefused: C{invalid-json}.
    """
    if isinstance(value, (dict, list, tuple)):
        if depth > MAX_DEPTH:
            raise _refused(f"nested deeper than {MAX_DEPTH}")
        if read_table(value) is not None and depth < MAX_DEPTH:
            return
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str) or _KEY.fullmatch(key) is None:
                    raise _refused("a key outside [a-z0-9_]{1,40}")
            value = value.values()
        for item in value:
            check_restricted(item, depth + 1)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, bool) or value is None:
        return
    elif not isinstance(value, int):
        raise _refused(f"a {type(value).__name__} cannot stand in a document")
    elif abs(value) > MAX_INTEGER:
        raise _refused("an integer beyond 2^53-1")


def _refused(detail: str) -> DocumentRefused:
    return DocumentRefused("invalid-json", detail)


def _too_deep(data: bytes) -> bool:
    """
    Count on the bytes, before any parser recurses: strip the innermost brackets, level by level.

    Unbalanced brackets are never stripped and count as too deep: a parser would recurse into them.
    """
    # Without an escape each second quotation mark ends a string: a third of what the pattern takes.
    outside = _STRING.sub(b"", data) if b"\\" in data else b"".join(data.split(b'"')[::2])
    brackets = outside.translate(_BRACKETS, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _refused("an object names the same key twice")
    for key in result:
        if _KEY.fullmatch(key) is None:
            raise _refused("a key outside [a-z0-9_]{1,40}")
    return result


def _integer(text: str) -> int:
    if len(text) > JSON_INTEGER_CHARACTERS or text == "-0":
        raise _refused("an integer beyond 2^53-1, or -0")
    value = int(text)
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise _refused("an integer beyond 2^53-1, or -0")
    return value


def _float(text: str) -> NoReturn:
    raise _refused("a number with a fraction or exponent, or NaN or Infinity")


_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_float
).decode


def _check_text(text: str) -> None:
    if text.isascii():
        if not text.isprintable():
            raise _refused("a string with a control character")
        return
    if any(unicodedata.category(character) in _CONTROL_CATEGORIES for character in text):
        raise _refused("a string with a control character, line separator or lone surrogate")
    if not unicodedata.is_normalized("NFC", text):
        raise _refused("a string that is not in Unicode normal form C")


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for item in value.values():
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)
