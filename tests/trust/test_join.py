# SPDX-License-Identifier: MIT
"""Join requests: the invite key vouches for exactly these keys, here and now."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust.network import NOW, Network, key, noise_key

from gmesh.errors import DocumentRefused
from gmesh.trust.documents import signature_input
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.join import make_join_request, parse_join_request, verify_join_request
from gmesh.trust.keys import verify

NETWORK = Network()
INVITE = Invite(
    ("http://authority.example",),
    NETWORK.network_id,
    1,
    NETWORK.genesis.digest,
    key("authority").key_id,
    key("invite").seed,
)
REQUEST = make_join_request(INVITE, key("node"), noise_key("node").public, NETWORK.network_id, NOW, bytes(16))
SMALL_ORDER_KEY = b64url_encode(b"\x01" + bytes(31))


def changed(change: dict[str, Any], resign: bool = False) -> bytes:
    """The request with other fields, signed again by the invite key if asked."""
    value = json.loads(REQUEST.encode()) | change
    if resign:
        del value["invite_signature"]
        signature = key("invite").sign(signature_input("join", value))
        value["invite_signature"] = b64url_encode(signature)
    return json.dumps(value).encode()


def test_round_trip() -> None:
    """A request is read back and verifies."""
    read = parse_join_request(REQUEST.encode())
    assert read == REQUEST
    verify_join_request(read)


def test_seed_is_not_sent() -> None:
    """The request holds public keys only, and nothing of the invite string."""
    assert b64url_encode(INVITE.seed) not in REQUEST.encode().decode()
    assert set(json.loads(REQUEST.encode())) == {
        "network_id",
        "authority",
        "invite_key",
        "node_key",
        "noise_key",
        "created",
        "nonce",
        "invite_signature",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"network_id": "0" * 32},
        {"authority": "0" * 32},
        {"invite_key": b64url_encode(key("other").public)},
        {"node_key": b64url_encode(key("other").public)},
        {"noise_key": b64url_encode(noise_key("other").public)},
        {"created": NOW + 1},
        {"nonce": b64url_encode(bytes(15) + b"\1")},
        {"invite_signature": "A" * 86},
    ],
)
def test_every_field_is_signed(change: dict[str, Any]) -> None:
    """Swapping any one field breaks the signature of the invite key."""
    with pytest.raises(DocumentRefused) as caught:
        verify_join_request(parse_join_request(changed(change)))
    assert caught.value.reason == "bad-signature"


@pytest.mark.parametrize(
    "change",
    [
        {"node_key": SMALL_ORDER_KEY},
        {"noise_key": b64url_encode(bytes(32))},
        {"noise_key": b64url_encode(b"\x01" + bytes(31))},
    ],
)
def test_weak_keys(change: dict[str, Any]) -> None:
    """Small-order identity keys and low-order Noise keys are refused though the invite vouches for them."""
    with pytest.raises(DocumentRefused) as caught:
        verify_join_request(parse_join_request(changed(change, resign=True)))
    assert caught.value.reason == "bad-key"


def test_weak_invite_key() -> None:
    """A small-order invite key is refused whatever it signed."""
    value = {"invite_key": SMALL_ORDER_KEY, "invite_signature": b64url_encode(b"\x01" + bytes(63))}
    with pytest.raises(DocumentRefused):
        verify_join_request(parse_join_request(changed(value)))


@pytest.mark.parametrize(
    "change",
    [{"more": 1}, {"created": "now"}, {"nonce": ""}, {"created": -1}, {"node_key": None}, {"authority": 7}],
)
def test_fields(change: dict[str, Any]) -> None:
    """Each field has its form, and there is no other."""
    with pytest.raises(DocumentRefused) as caught:
        parse_join_request(changed(change))
    assert caught.value.reason == "invalid-field"


def test_makers_mistakes() -> None:
    """A request for another network, or with a short nonce, cannot be made."""
    with pytest.raises(DocumentRefused):
        make_join_request(INVITE, key("node"), noise_key("node").public, "0" * 32, NOW, bytes(16))
    with pytest.raises(ValueError, match="nonce"):
        make_join_request(INVITE, key("node"), noise_key("node").public, NETWORK.network_id, NOW, b"")


def test_not_another_signature() -> None:
    """The invite key's signature over a join serves as no document type."""
    unsigned = json.loads(REQUEST.encode())
    del unsigned["invite_signature"]
    signature = key("invite").sign(signature_input("join", unsigned))
    for kind in ("genesis", "certificate", "crl", "policy", "status", "command", "receipt"):
        assert not verify(key("invite").public, signature, signature_input(kind, unsigned))


@given(st.binary(max_size=100), st.integers(0, len(REQUEST.encode())))
def test_any_bytes(noise: bytes, at: int) -> None:
    """Only DocumentRefused comes out of any bytes."""
    whole = REQUEST.encode()
    for data in (noise, whole[:at] + noise + whole[at:]):
        try:
            verify_join_request(parse_join_request(data))
        except DocumentRefused:
            continue
        assert parse_join_request(data) == REQUEST
