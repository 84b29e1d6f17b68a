# SPDX-License-Identifier: MIT
"""Long tables take a short way through C; what comes out is what the long way gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from gmesh.errors import DocumentRefused
from gmesh.trust.canonical import canonical
from gmesh.trust.documents import Crl, CrlDelta, Document, document_from_dict, parse_document, sign_document
from gmesh.trust.json_rows import MIN_ROWS, plain_table, read_table
from gmesh.trust.keys import SigningKey
from gmesh.trust.limits import DOCUMENT_LIMITS, MAX_INTEGER
from gmesh.trust.restricted_json import check_restricted, parse_json

KEY = SigningKey.from_seed(bytes(range(32)))
WHOLE = st.integers(-MAX_INTEGER, MAX_INTEGER)
IDENTIFIER = st.text("0123456789abcdef", min_size=32, max_size=32)
ROWS = st.lists(WHOLE, max_size=4) | st.tuples(IDENTIFIER, WHOLE) | st.tuples(IDENTIFIER, WHOLE, WHOLE, WHOLE)


def crl(count: int = 100) -> Document[Crl]:
    """A signed CRL of so many serials, nodes and keys."""
    return sign_document(
        Crl(
            network_id="0" * 32,
            number=7,
            issued_at=1000,
            next_update=2000,
            revoked=tuple((serial * 3, 5000 + serial, serial % 10) for serial in range(count)),
            revoked_nodes=tuple((f"{number:032x}", number, 5000, 0) for number in range(count)),
            revoked_keys=tuple((f"{number:032x}", 5000) for number in range(count)),
        ),
        [KEY],
    )


def slowly(data: bytes) -> Document[Crl]:
    """The way every other document is read."""
    return document_from_dict(parse_json(data, DOCUMENT_LIMITS["crl"]), Crl)


@given(st.lists(ROWS, min_size=1, max_size=5), st.dictionaries(st.text(max_size=3), WHOLE, max_size=3))
def test_a_table_is_spelled_as_the_library_spells_it(rows: list[Any], more: dict[str, int]) -> None:
    """Canonical bytes do not depend on how long a list of rows is, nor on the names beside it."""
    value = {**more, "rows": rows * MIN_ROWS, "short": rows}
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "row",
    [
        [True],
        [1.0],
        [None],
        ["7"],
        [MAX_INTEGER + 1],
        [-MAX_INTEGER - 1],
        [[1]],
        {"a": 1},
        7,
        ["g" * 32, 7],
        ["a" * 32, 7, 7, 7, 7],
        ["a" * 32, 7, 7, "7"],
        "7",
    ],
)
def test_what_is_no_table(row: Any) -> None:
    """Floats, truth values, texts that are no identifier, integers beyond 2^53-1: the long way."""
    assert read_table([[1]] * MIN_ROWS + [row]) is None
    assert plain_table([[1]] * MIN_ROWS + [row]) is None
    assert read_table([[1]] * (MIN_ROWS - 1)) is None


@pytest.mark.parametrize("row", [[1.5], [MAX_INTEGER + 1], ["\u2028", 1]])
def test_a_long_list_hides_nothing(row: Any) -> None:
    """What may not stand in a document is found at the end of a long table too."""
    with pytest.raises(DocumentRefused):
        check_restricted({"rows": [[1]] * 1000 + [row]})


def test_a_crl_is_read_the_same_both_ways() -> None:
    """Body, plain form, signatures, digest and bytes are equal, and so is what equality compares."""
    made = crl()
    data = made.encode()
    short, long = parse_document(data, Crl), slowly(data)
    assert short == long == made
    assert (short.body, short.signed, short.digest, short.encode()) == (
        long.body,
        long.signed,
        long.digest,
        data,
    )
    tables = ("revoked", "revoked_nodes", "revoked_keys")
    assert all(isinstance(short.signed[table][0], list) for table in tables)
    assert all(read_table(short.signed[table]) is not None for table in tables)


DATA = crl(3).encode()
CHANGES = [
    (b'"number":7', b'"number":7,"number":7'),
    (b'"number":7', b'"number":7.0'),
    (b'"number":7', b'"number":-0'),
    (b'"number":7', b'"number":9007199254740992'),
    (b'"number":7', b'"number":true'),
    (b'"number":7', b'"number":7,"more":1'),
    (b'"type":"crl"', b'"type":"crl-delta"'),
    (b',"type":"crl"', b""),
    (b"[0,5000,0]", b"[6,5000,0]"),
    (b'0",0,5000,0]', b'4",0,5000,0]'),
    (b'0",0,5000,0]', b'1",0,5000,0]'),
    (b'0",0,5000,0]', b'0",0,5000]'),
    (b'"network_id":"0', b'"network_id":"\x7f'),
    (b'"signatures":[', b'"signatures":[null,'),
]


@pytest.mark.parametrize("change", CHANGES)
def test_both_ways_refuse_alike(change: tuple[bytes, bytes]) -> None:
    """What one reader refuses the other does, for the same reason."""
    data = DATA.replace(*change, 1)
    assert data != DATA
    refused = []
    for read in (lambda: parse_document(data, Crl), lambda: slowly(data)):
        with pytest.raises(DocumentRefused) as caught:
            read()
        refused.append(caught.value.reason)
    assert refused[0] == refused[1]


def test_another_spelling_is_read_as_the_same_crl() -> None:
    """Spaces, other key order and escapes change no document: its own bytes are the canonical ones."""
    value = json.loads(DATA)
    spelled = json.dumps(dict(reversed(value.items())), indent=1).replace("crl", "\\u0063rl").encode()
    assert parse_document(spelled, Crl) == crl(3)
    assert parse_document(spelled, Crl).encode() == DATA


def test_a_key_that_signs_twice_is_refused_both_ways() -> None:
    """Two signatures of one key are one too many, in canonical bytes as well."""
    start, end = DATA.index(b"[") + 1, DATA.index(b"]")
    entry = DATA[start:end]
    doubled = DATA[:start] + entry + b"," + DATA[start:]
    for read in (lambda: parse_document(doubled, Crl), lambda: slowly(doubled)):
        with pytest.raises(DocumentRefused):
            read()


@given(st.binary(max_size=40), st.integers(0, len(DATA)), st.integers(0, 40))
def test_any_bytes(noise: bytes, at: int, cut: int) -> None:
    """Bytes changed anywhere: both ways refuse, or read the same."""
    data = DATA[:at] + noise + DATA[at + cut :]
    found: list[Any] = []
    for read in (lambda: parse_document(data, Crl), lambda: slowly(data)):
        try:
            found.append(read())
        except DocumentRefused as error:
            found.append(error.reason)
    assert found[0] == found[1]


def test_a_crl_is_no_delta() -> None:
    """A CRL in canonical bytes is refused where a delta is asked for."""
    with pytest.raises(DocumentRefused) as caught:
        parse_document(DATA, CrlDelta)
    assert caught.value.reason == "wrong-type"
