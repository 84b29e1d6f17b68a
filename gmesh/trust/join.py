# SPDX-License-Identifier: MIT
"""
The body of a join request: the invite key vouches for two new keys.

The node key signs the HTTP request around it (tag C{gmesh-join-v1}), the digest of this body
included, so that neither half can be swapped.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gmesh.errors import DocumentRefused
from gmesh.interfaces import ISigner
from gmesh.trust.canonical import canonical
from gmesh.trust.document import signature_input
from gmesh.trust.encoding import b64url_decode, b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.keys import (
    KEY_SIZE,
    SIGNATURE_SIZE,
    check_noise_public,
    check_public,
    decode_noise_public,
    decode_public,
    verify,
)
from gmesh.trust.limits import MAX_JOIN_REQUEST, NONCE_SIZE
from gmesh.trust.names import Identifier, Key, Nonce, Signature, Time, human_error
from gmesh.trust.restricted_json import parse_json

__all__ = ["JoinRequest", "make_join_request", "parse_join_request", "verify_join_request"]

_TYPE = "join"


class JoinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Admit these keys by this invite.

    @ivar authority: key_id of the authority the invite names.
    @ivar invite_signature: by the invite key, over all the other fields.
    """

    network_id: Identifier
    authority: Identifier
    invite_key: Key
    node_key: Key
    noise_key: Key
    created: Time
    nonce: Nonce
    invite_signature: Signature

    def encode(self) -> bytes:
        """The request body, canonical JSON."""
        return canonical(msgspec.to_builtins(self))


def make_join_request(
    invite: Invite, node_key: ISigner, noise_public: bytes, network_id: str, created: int, nonce: bytes
) -> JoinRequest:
    """
    The request of a host that holds C{invite}.

    @param node_key: the new identity key (its public half is used here).
    @param noise_public: the new Noise key, 32 bytes.
    @param nonce: 16 random bytes.
    """
    if network_id != invite.network_id:
        raise DocumentRefused("wrong-network", "the invite is for another network")
    if len(nonce) != NONCE_SIZE:
        raise ValueError(f"a nonce has {NONCE_SIZE} bytes")
    unsigned: dict[str, Any] = {
        "network_id": network_id,
        "authority": invite.authority,
        "invite_key": b64url_encode(invite.key.public),
        "node_key": b64url_encode(check_public(node_key.public)),
        "noise_key": b64url_encode(check_noise_public(noise_public)),
        "created": created,
        "nonce": b64url_encode(nonce),
    }
    signature = invite.key.sign(signature_input(_TYPE, unsigned))
    return JoinRequest(**unsigned, invite_signature=b64url_encode(signature))


def parse_join_request(data: bytes) -> JoinRequest:
    """
    Read a request body; nothing is verified yet.

    @raise DocumentRefused: C{too-large}, C{invalid-json} or C{invalid-field}; nothing else comes out.
    """
    value = parse_json(data, MAX_JOIN_REQUEST)
    try:
        return msgspec.convert(value, JoinRequest, strict=True)
    except msgspec.ValidationError as error:
        raise DocumentRefused("invalid-field", f"join: {human_error(error)}") from error


def verify_join_request(request: JoinRequest, invite_key_checked: bool = False) -> None:
    """
    Check the signature of the invite key, then the three keys themselves.

    @param invite_key_checked: only a key that was checked before can be found among the invites.
    @raise DocumentRefused: C{bad-signature}, C{bad-encoding} or C{bad-key}.
    """
    unsigned = msgspec.to_builtins(request)
    del unsigned["invite_signature"]
    signature = b64url_decode(request.invite_signature, SIGNATURE_SIZE)
    invite_key = b64url_decode(request.invite_key, KEY_SIZE)
    if not verify(invite_key, signature, signature_input(_TYPE, unsigned)):
        raise DocumentRefused("bad-signature", "the invite key did not sign this join request")
    if not invite_key_checked:
        check_public(invite_key)
    decode_public(request.node_key)
    decode_noise_public(request.noise_key)
