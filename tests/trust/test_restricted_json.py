# SPDX-License-Identifier: MIT
"""Strict JSON: acceptance cases C1, C2 and C3, and nothing but a refusal out of any bytes."""

from __future__ import annotations

import json
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.errors import DocumentRefused
from gmesh.trust.canonical import canonical
from gmesh.trust.limits import MAX_INTEGER
from gmesh.trust.restricted_json import check_restricted, parse_json

LIMIT = 1 << 20


def refuse(data: bytes, reason: str = "invalid-json") -> None:
    """Assert that C{data} is refused for C{reason}."""
    with pytest.raises(DocumentRefused) as caught:
        parse_json(data, LIMIT)
    assert caught.value.reason == reason


C1 = {
    "duplicate key": b'{"a":1,"a":1}',
    "duplicate key below": b'{"a":[{"b":1,"b":2}]}',
    "duplicate through an escape": b'{"a":1,"\\u0061":2}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "1e400": b'{"a":1e400}',
    "-0": b'{"a":-0}',
    "float": b'{"a":1.0}',
    "exponent": b'{"a":1e3}',
    "2^53": b'{"a":9007199254740992}',
    "-2^53": b'{"a":-9007199254740992}',
    "10,000 digits": b'{"a":' + b"1" * 10_000 + b"}",
    "leading zero": b'{"a":01}',
    "lone surrogate": b'{"a":"\\ud800"}',
    "reversed surrogates": b'{"a":"\\ude00\\ud83d"}',
    "raw surrogate": b'{"a":"\xed\xa0\x80"}',
    "BOM": b'\xef\xbb\xbf{"a":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-32": '{"a":1}'.encode("utf-32"),
    "bad UTF-8": b'{"a":"\xff"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}',
    "cut": b'{"a":1',
    "trailing text": b'{"a":1}x',
    "two values": b'{"a":1}{"a":1}',
    "trailing comma": b'{"a":1,}',
    "comment": b'{"a":1}//',
    "empty": b"",
    "array on top": b"[1]",
    "string on top": b'"a"',
    "raw control": b'{"a":"\n"}',
    "escaped control": b'{"a":"\\n"}',
    "escaped NUL": b'{"a":"\\u0000"}',
    "DEL": b'{"a":"\x7f"}',
    "C1 control": b'{"a":"\xc2\x85"}',
    "line separator": b'{"a":"\xe2\x80\xa8"}',
    "key with capital": b'{"A":1}',
    "key with dash": b'{"a-b":1}',
    "empty key": b'{"":1}',
    "long key": b'{"' + b"a" * 41 + b'":1}',
    "key not ASCII": '{"é":1}'.encode(),
    "NFD": '{"a":"e\u0301"}'.encode(),
    "NFD by escape": b'{"a":"e\\u0301"}',
    "depth 17": b'{"a":' + b"[" * 16 + b"]" * 16 + b"}",
    "depth 17 mixed": b'{"a":[' * 8 + b"{}" + b"]}" * 8,
    "depth 100,000": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "depth, never closed": b'{"a":' + b"[" * 100_000,
    "depth behind brackets in a string": b'{"b":"' + b"]" * 16 + b'","a":' + b"[" * 16 + b"]" * 16 + b"}",
    "depth behind an escaped quote": b'{"a":"\\"","b":' + b"[" * 16 + b"]" * 16 + b"}",
}


def test_a_cut_file_is_told_as_such() -> None:
    """What a full disk or a broken copy leaves is not called too deep alone."""
    with pytest.raises(DocumentRefused, match="left open"):
        parse_json(b'{"signed":{"a":1', LIMIT)


@pytest.mark.parametrize("data", C1.values(), ids=C1.keys())
def test_c1(data: bytes) -> None:
    """Each hostile spelling is refused as invalid-json."""
    refuse(data)


def test_size_comes_first() -> None:
    """Too many bytes are refused before anything reads them."""
    with pytest.raises(DocumentRefused) as caught:
        parse_json(b"\xff" * 11, 10)
    assert caught.value.reason == "too-large"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b' {"a" : 9007199254740991} \n', {"a": MAX_INTEGER}),
        (b'{"a":-9007199254740991}', {"a": -MAX_INTEGER}),
        (b'{"a":true,"b":null,"c":false}', {"a": True, "b": None, "c": False}),
        (b'{"a":"\\ud83d\\ude00\\u00e9\\/\\\\\\""}', {"a": '😀é/\\"'}),
        (b'{"' + b"a" * 40 + b'":0}', {"a" * 40: 0}),
        (b'{"a":"[[[[[[[[[[[[[[[[[[[[[[[["}', {"a": "[" * 24}),
        (b'{"a":"\\"[[[[[[[[[[[[[[[[[[[[[[[["}', {"a": '"' + "[" * 24}),
        (b'{"a":' + b"[" * 15 + b"]" * 15 + b"}", {"a": [[[[[[[[[[[[[[[]]]]]]]]]]]]]]]}),
    ],
)
def test_accepted(data: bytes, value: Any) -> None:
    """What the restricted form allows is read as it stands, up to every limit."""
    assert parse_json(data, LIMIT) == value


def test_normal_form_pairs() -> None:
    """Of two spellings of one text only the composed one is read."""
    for text in ("é", "Å", "ñandú", "각"):
        assert parse_json(json.dumps({"a": text}).encode(), LIMIT) == {"a": text}
        refuse(json.dumps({"a": unicodedata.normalize("NFD", text)}).encode())


def test_hostile_quotes_cost_linear_time() -> None:
    """A long run of escaped quotes is scanned once, not once per quote."""
    started = time.process_time()
    refuse(b'{"a":"' + b'\\"' * 400_000)
    assert time.process_time() - started < 2, "CPU time: a hundredth of a second, or minutes"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
)


@given(
    st.binary(max_size=100) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_bytes(data: bytes) -> None:
    """Only DocumentRefused comes out, and what is read has a canonical form that reads the same."""
    try:
        value = parse_json(data, LIMIT)
    except DocumentRefused:
        return
    assert parse_json(canonical(value), LIMIT) == value


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,3}", fullmatch=True), JSON, max_size=4), st.booleans())
def test_any_json(value: dict[str, Any], ascii_only: bool) -> None:
    """The reader and the check before signing accept the same values."""
    try:
        data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        read = parse_json(data, LIMIT)
    except DocumentRefused:
        with pytest.raises(DocumentRefused):
            check_restricted(value)
        return
    check_restricted(value)
    assert read == value


@given(st.binary(max_size=60), st.integers(0, 60), st.binary(max_size=2))
def test_mutated_document(noise: bytes, at: int, what: bytes) -> None:
    """Bytes changed anywhere in a good text are read or refused, nothing else."""
    good = b'{"signed":{"a":[1,{"b":"\\u00e9x"}],"c":true},"signatures":[],"d":-12}'
    data = good[:at] + what + noise + good[at + len(what) :]
    try:
        parse_json(data, LIMIT)
    except DocumentRefused as error:
        assert error.reason == "invalid-json"
