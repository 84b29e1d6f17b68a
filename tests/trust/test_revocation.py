# SPDX-License-Identifier: MIT
"""CRLs and deltas: the same full bytes come out everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trust.network import DAY, NOW, Network

from gmesh.errors import DocumentRefused
from gmesh.trust.documents import sign_document
from gmesh.trust.revocation import apply_delta, make_crl, make_delta
from gmesh.trust.verify import verify_signatures

NETWORK = Network()
KEYS = {NETWORK.authority.key_id: NETWORK.authority.public}
ENTRIES = st.dictionaries(
    st.integers(0, 30), st.tuples(st.integers(NOW - 5, NOW + 5), st.sampled_from([0, 1, 9]))
)
IDS = st.integers(0, 9).map(lambda n: f"{n:032x}")
NODE_ENTRIES = st.dictionaries(
    IDS, st.tuples(st.integers(0, 30), st.integers(NOW - 5, NOW + 5), st.sampled_from([0, 1, 9]))
)
KEY_ENTRIES = st.dictionaries(IDS, st.integers(NOW - 5, NOW + 5))


def listed(entries: dict[Any, tuple[int, ...]]) -> list[Any]:
    """Entries as a CRL has them."""
    return [(name, *rest) for name, rest in entries.items()]


@settings(max_examples=60)
@given(ENTRIES, ENTRIES, NODE_ENTRIES, NODE_ENTRIES, KEY_ENTRIES, KEY_ENTRIES, st.integers(NOW - 6, NOW + 6))
def test_delta_reproduces_the_full_bytes(
    before: dict[int, tuple[int, int]],
    added: dict[int, tuple[int, int]],
    nodes_before: dict[str, tuple[int, int, int]],
    nodes_added: dict[str, tuple[int, int, int]],
    keys_before: dict[str, int],
    keys_added: dict[str, int],
    limit: int,
) -> None:
    """Drop, then add or replace: the receiver's file equals the authority's, signature and all."""
    old = NETWORK.crl(1, listed(before), keys_before.items(), revoked_nodes=listed(nodes_before))
    kept = {serial: entry for serial, entry in before.items() if entry[0] >= limit}
    nodes_kept = {name: entry for name, entry in nodes_before.items() if entry[1] >= limit}
    keys_kept = {name: end for name, end in keys_before.items() if end >= limit}
    new = NETWORK.crl(
        2,
        listed(kept | added),
        (keys_kept | keys_added).items(),
        issued_at=NOW + 1,
        revoked_nodes=listed(nodes_kept | nodes_added),
    )
    delta = sign_document(make_delta(old.body, new, limit), [NETWORK.authority])
    full = apply_delta(old, delta)
    assert full == new and full.encode() == new.encode()
    verify_signatures(full, KEYS)


def test_crl_is_sorted_and_the_later_entry_stands() -> None:
    """Entries in any order give one list, one entry a serial, a node and a key."""
    serials = [(5, NOW, 0), (2, NOW, 0), (5, NOW + 1, 1)]
    keys = [("b" * 32, NOW), ("a" * 32, NOW), ("b" * 32, NOW + 1)]
    nodes = [("b" * 32, 4, NOW, 0), ("a" * 32, 7, NOW, 0), ("b" * 32, 9, NOW + 1, 1)]
    body = make_crl(NETWORK.network_id, 1, NOW, NOW + DAY, serials, nodes, keys)
    assert body.revoked_nodes == (("a" * 32, 7, NOW, 0), ("b" * 32, 9, NOW + 1, 1))
    assert body.revoked == ((2, NOW, 0), (5, NOW + 1, 1))
    assert body.revoked_keys == (("a" * 32, NOW), ("b" * 32, NOW + 1))


def test_no_delta() -> None:
    """An entry that vanished before its end cannot be told by a delta."""
    old = NETWORK.crl(1, [(1, NOW + DAY, 0)])
    with pytest.raises(DocumentRefused) as caught:
        make_delta(old.body, NETWORK.crl(2), NOW)
    assert caught.value.reason == "no-delta"


def test_wrong_base() -> None:
    """A delta is applied to the number it starts from, only."""
    one, two, three = NETWORK.crl(1), NETWORK.crl(2, [(1, NOW + DAY, 0)]), NETWORK.crl(3)
    delta = sign_document(make_delta(two.body, three, NOW + 2 * DAY), [NETWORK.authority])
    with pytest.raises(DocumentRefused) as caught:
        apply_delta(one, delta)
    assert caught.value.reason == "wrong-base"


def test_delta_onto_another_crl_of_that_number() -> None:
    """A forged base gives bytes that the authority's signature does not fit."""
    good, forged = NETWORK.crl(1, [(1, NOW + DAY, 0)]), NETWORK.crl(1)
    delta: Any = sign_document(
        make_delta(good.body, NETWORK.crl(2, [(1, NOW + DAY, 0), (2, NOW + DAY, 0)]), NOW),
        [NETWORK.authority],
    )
    with pytest.raises(DocumentRefused) as caught:
        verify_signatures(apply_delta(forged, delta), KEYS)
    assert caught.value.reason == "bad-signature"
