# SPDX-License-Identifier: MIT
"""The ceremony: a genesis made once, signed apart, assembled, and the rotation of the authority's key."""

from __future__ import annotations

from typing import Any

import nacl.signing
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust.network import DAY, NOW, key, spelled
from zope.interface import implementer

from gmesh.errors import DocumentRefused
from gmesh.interfaces import ISigner
from gmesh.trust import selfcheck
from gmesh.trust.ceremony import (
    ROTATION_OVERLAP,
    DetachedSignature,
    attach,
    first_genesis,
    next_genesis,
    quorums,
    rotate_authority,
    sign_detached,
)
from gmesh.trust.documents import Document, Genesis, parse_document
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.selfcheck import CHECKS, self_check
from gmesh.trust.verify import authority_keys, verify_next_genesis

ROOTS = ("alice", "bob", "carol")


def _unsigned(threshold: int = 2, **fields: Any) -> Document[Genesis]:
    return first_genesis(
        {
            "network": "lab",
            "root": {"threshold": threshold, "keys": list(spelled(*map(key, ROOTS)))},
            "authority": [{"key": spelled(key("authority"))[0]}],
            **fields,
        },
        NOW,
    )


def _signed(document: Document[Genesis], *holders: str) -> Document[Genesis]:
    return attach(document, [sign_detached(document, key(name)) for name in holders])


def test_two_of_three_sign_apart() -> None:
    """Signatures made on three machines from the same bytes make one believable genesis, in one form."""
    sent = _unsigned().encode()
    apart = [sign_detached(parse_document(sent, Genesis), key(name)).encode() for name in ("alice", "carol")]
    collected = [DetachedSignature.parse(data) for data in apart]
    one = attach(parse_document(sent, Genesis), collected)
    other = attach(parse_document(sent, Genesis), collected[::-1])
    verify_next_genesis(None, one, None, NOW)
    assert one.encode() == other.encode()


def test_detached_signature_verifies_without_gmesh() -> None:
    """PyNaCl finds the detached signature good over the documented input."""
    document = _unsigned()
    detached = sign_detached(document, key("bob"))
    data = b"gmesh-signature-v1\0genesis\0" + document.canonical
    nacl.signing.VerifyKey(key("bob").public).verify(data, b64url_decode(detached.signature, 64))


def test_one_of_two_is_not_enough() -> None:
    """With one signature missing the genesis is refused, and it is told whose are missing."""
    document = _signed(_unsigned(), "alice")
    (quorum,) = quorums(document, None)
    assert (quorum.signed, quorum.reached) == ((key("alice").key_id,), False)
    assert set(quorum.missing) == {key("bob").key_id, key("carol").key_id}
    with pytest.raises(DocumentRefused):
        verify_next_genesis(None, document)


def test_one_holder_counts_once() -> None:
    """The same holder twice is one signature."""
    document = _unsigned()
    again = attach(document, [sign_detached(document, key("alice"))] * 2)
    assert len(again.signatures) == 1


@pytest.mark.parametrize(
    ("holder", "of", "reason"),
    [
        ("mallory", {}, "unknown-key"),
        ("alice", {"network": "other"}, "wrong-digest"),
    ],
)
def test_foreign_signature_is_refused(holder: str, of: dict[str, Any], reason: str) -> None:
    """A signature by nobody's root key, or for another genesis, is not taken."""
    with pytest.raises(DocumentRefused) as refused:
        attach(_unsigned(), [sign_detached(_unsigned(**of), key(holder))])
    assert refused.value.reason == reason


def test_signature_of_another_is_refused() -> None:
    """A signature under another holder's name does not verify."""
    detached = sign_detached(_unsigned(), key("alice"))
    named = DetachedSignature(digest=detached.digest, key_id=key("bob").key_id, signature=detached.signature)
    with pytest.raises(DocumentRefused) as refused:
        attach(_unsigned(), [named])
    assert refused.value.reason == "bad-signature"


@implementer(ISigner)
class _Broken:
    """A signer whose hardware has gone wrong."""

    key_id = key("alice").key_id
    public = key("alice").public

    def sign(self, data: bytes) -> bytes:
        return bytes(64)


def test_broken_signer_is_noticed() -> None:
    """What a key has signed is verified before it leaves the machine."""
    with pytest.raises(DocumentRefused) as refused:
        sign_detached(_unsigned(), _Broken())
    assert refused.value.reason == "bad-signature"


@given(st.binary(max_size=300))
def test_no_bytes_hurt_the_reader(data: bytes) -> None:
    """Whatever a file holds is a detached signature or a refusal."""
    try:
        DetachedSignature.parse(data)
    except DocumentRefused as refused:
        assert refused.reason


def test_rotation_overlaps() -> None:
    """N+1 lists both keys; the new one begins when the overlap is over, and both roots accept it."""
    first = _signed(_unsigned(), "alice", "bob")
    second = rotate_authority(first, NOW + DAY, add=key("authority-2").public)
    assert [entry.valid_from for entry in second.body.authority] == [NOW, NOW + DAY + ROTATION_OVERLAP]
    signed = attach(second, [sign_detached(second, key(name)) for name in ("bob", "carol")], first)
    verify_next_genesis(first, signed, None, NOW + DAY)
    during = authority_keys(signed.body, NOW + DAY)
    assert set(during) == {key("authority").key_id}
    after = authority_keys(signed.body, NOW + DAY + ROTATION_OVERLAP)
    assert set(after) == {key("authority").key_id, key("authority-2").key_id}


def test_rotation_ends_with_a_drop() -> None:
    """N+2 lists the new key alone."""
    first = _signed(_unsigned(), "alice", "bob")
    second = _signed(rotate_authority(first, NOW, add=key("authority-2").public), "alice", "bob")
    third = rotate_authority(second, NOW + 4 * DAY, drop=[key("authority").key_id])
    assert set(authority_keys(third.body)) == {key("authority-2").key_id}
    assert (third.body.version, third.body.previous) == (3, second.digest)


def test_a_key_beyond_the_most_waits_for_a_drop() -> None:
    """The refusal says what to do, and with it the rotation goes on."""
    genesis = _signed(_unsigned(), "alice", "bob")
    for number in range(2, 9):
        genesis = _signed(rotate_authority(genesis, NOW, key(f"authority-{number}").public), "alice", "bob")
    with pytest.raises(DocumentRefused, match=r"lists 8 authority keys.*: drop one") as refused:
        rotate_authority(genesis, NOW, key("authority-9").public)
    assert refused.value.reason == "conflict"
    dropped = [key("authority-2").key_id]
    assert len(rotate_authority(genesis, NOW, key("authority-9").public, drop=dropped).body.authority) == 8


def test_theft_has_no_overlap() -> None:
    """After a theft the new key stands alone, from now on."""
    first = _signed(_unsigned(), "alice", "bob")
    second = rotate_authority(first, NOW + 5, add=key("authority-2").public, stolen=True)
    assert set(authority_keys(second.body, NOW + 5)) == {key("authority-2").key_id}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"drop": [key("authority").key_id]}, "conflict"),
        ({"drop": ["0" * 32], "add": key("authority-2").public}, "unknown-key"),
        ({"add": key("authority").public}, "conflict"),
        ({"add": bytes([1]) + bytes(31)}, "bad-key"),
        ({"add": key("alice").public}, "invalid-field"),
        ({"stolen": True}, "conflict"),
        ({"add": key("authority-2").public, "drop": [key("authority").key_id]}, "conflict"),
        ({}, "no-change"),
    ],
)
def test_rotation_that_would_break_the_network(arguments: dict[str, Any], reason: str) -> None:
    """A step after which nobody could sign, or a root key as the authority's, is refused before signing."""
    with pytest.raises(DocumentRefused) as refused:
        rotate_authority(_signed(_unsigned(), "alice", "bob"), NOW, **arguments)
    assert refused.value.reason == reason


def test_next_genesis_keeps_what_is_not_changed() -> None:
    """Only the fields named change; version, chain and network id are set."""
    first = _signed(_unsigned(anchors=[{"name": "b", "endpoint": "tcp:b.example:7443"}]), "alice", "bob")
    second = next_genesis(first, NOW + 1, {"authority_urls": ["https://a.example"]})
    assert second.body.anchors == first.body.anchors
    assert (second.body.version, second.body.network_id) == (2, first.digest[:32])
    assert second.body.authority_urls == ("https://a.example",)


def test_new_root_keys_need_the_old_ones() -> None:
    """Replacing the root takes both thresholds; each is told apart."""
    first = _signed(_unsigned(), "alice", "bob")
    fresh = ("dave", "erin")
    root = {"threshold": 2, "keys": list(spelled(*map(key, fresh)))}
    second = next_genesis(first, NOW + 1, {"root": root})
    by_new = attach(second, [sign_detached(second, key(name)) for name in fresh], first)
    assert [quorum.reached for quorum in quorums(by_new, first)] == [False, True]
    with pytest.raises(DocumentRefused):
        verify_next_genesis(first, by_new)
    by_both = attach(by_new, [sign_detached(second, key(name)) for name in ("alice", "carol")], first)
    verify_next_genesis(first, by_both)


def test_self_check_passes() -> None:
    """On a sound installation every check is made."""
    assert self_check() == CHECKS


def test_self_check_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that verifies anything is found out before a key signs."""
    monkeypatch.setattr(selfcheck, "verify", lambda public, signature, data: True)
    with pytest.raises(DocumentRefused) as refused:
        self_check()
    assert refused.value.reason == "self-check"
