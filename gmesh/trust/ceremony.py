# SPDX-License-Identifier: MIT
"""
How a genesis comes about: made once, signed by each root holder apart, assembled, judged.

A root holder never sends a key and never receives one: what travels is the unsigned genesis, one
way, and a detached signature of a few lines, the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec

from gmesh.errors import DocumentRefused
from gmesh.interfaces import ISigner
from gmesh.trust import limits
from gmesh.trust.body import invalid_field
from gmesh.trust.documents import AuthorityKey, Document, Genesis, document_from_dict, sign_document
from gmesh.trust.encoding import b64url_decode, b64url_encode
from gmesh.trust.keys import SIGNATURE_SIZE, check_public, decode_public, key_id, verify
from gmesh.trust.names import Digest, Identifier, Signature, human_error
from gmesh.trust.restricted_json import parse_json
from gmesh.trust.verify import network_id, root_keys

__all__ = [
    "MAX_DETACHED",
    "ROTATION_OVERLAP",
    "DetachedSignature",
    "Quorum",
    "attach",
    "first_genesis",
    "next_genesis",
    "quorums",
    "rotate_authority",
    "sign_detached",
]

ROTATION_OVERLAP = 48 * 3600
"""Seconds from publication until a new authority key signs: every node holds it by then."""

GENESIS_LIFE = 10 * 365 * 86_400
#: Names of Noise protocols (revision 34, section 8).
SUITES = ("Noise_XX_25519_AESGCM_SHA256", "Noise_XX_25519_ChaChaPoly_SHA256")
MAX_DETACHED = 4 * 1024


class DetachedSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One root holder's signature, and which genesis it is for."""

    TYPE: ClassVar[str] = "genesis-signature"
    type: Literal["genesis-signature"] = "genesis-signature"
    digest: Digest
    key_id: Identifier
    signature: Signature

    def encode(self) -> bytes:
        """The file form."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> DetachedSignature:
        """@raise DocumentRefused: C{invalid-json}, C{invalid-field}."""
        try:
            return msgspec.convert(parse_json(data, MAX_DETACHED), cls, strict=True)
        except msgspec.ValidationError as error:
            raise DocumentRefused("invalid-field", f"no detached signature: {human_error(error)}") from error


@dataclass(frozen=True, slots=True)
class Quorum:
    """
    How far the signatures are, by the root keys of one version.

    @ivar version: of the genesis that lists the keys.
    @ivar signed: key_ids that signed validly.
    @ivar missing: key_ids that did not.
    """

    version: int
    threshold: int
    signed: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def reached(self) -> bool:
        """Whether enough have signed."""
        return len(self.signed) >= self.threshold


def first_genesis(fields: Mapping[str, Any], now: int) -> Document[Genesis]:
    """
    The unsigned first genesis of a network.

    @param fields: of the signed part; C{network}, C{root} and C{authority} have no default.
    @raise DocumentRefused: if the outcome breaks a rule of the genesis.
    """
    issued_at = fields.get("issued_at", now)
    if not isinstance(issued_at, int):
        raise invalid_field("issued_at is a time")
    defaults = {
        "type": "genesis",
        "version": 1,
        "issued_at": issued_at,
        "expires_at": issued_at + GENESIS_LIFE,
        "suites": list(SUITES),
        "anchors": [],
        "authority_urls": [],
        "policy": {"version": 0},
    }
    return _unsigned(_dated(defaults | dict(fields)))


def _dated(signed: dict[str, Any]) -> dict[str, Any]:
    """
    The same, each authority key without times lasting as long as the genesis, and an admission without one
    required at once.
    """
    admission = signed.get("admission")
    if isinstance(admission, dict):
        signed = signed | {"admission": {"required_from": signed["issued_at"]} | admission}
    entries = signed.get("authority")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return signed
    times = {"valid_from": signed["issued_at"], "valid_to": signed["expires_at"]}
    return signed | {"authority": [times | entry for entry in entries]}


def _unsigned(signed: dict[str, Any]) -> Document[Genesis]:
    return sign_document(document_from_dict({"signed": signed, "signatures": []}, Genesis).body, [])


def next_genesis(previous: Document[Genesis], now: int, changes: Mapping[str, Any]) -> Document[Genesis]:
    """
    The unsigned genesis that follows C{previous}: the same but for C{changes}.

    @param changes: fields of the signed part; times, version and chain are set here unless given.
    @raise DocumentRefused: if the outcome breaks a rule of the genesis, or nothing would change.
    """
    body = previous.body
    if not {name for name, value in changes.items() if previous.signed.get(name) != value} - {"issued_at"}:
        raise DocumentRefused("no-change", f"nothing would differ from genesis {body.version}")
    signed = {
        **previous.signed,
        "network_id": body.network_id or network_id(previous),
        "version": body.version + 1,
        "previous": previous.digest,
        "issued_at": max(now, body.issued_at + 1),
        **changes,
    }
    return _unsigned(_dated(signed))


def rotate_authority(
    previous: Document[Genesis],
    now: int,
    add: bytes | None = None,
    valid_from: int | None = None,
    valid_to: int | None = None,
    drop: Collection[str] = (),
    stolen: bool = False,
) -> Document[Genesis]:
    """
    The unsigned genesis that replaces an authority key, or drops one that was replaced before.

    @param add: the new public key.
    @param valid_from: when the new key begins to sign; L{ROTATION_OVERLAP} from C{now}, when left out.
    @param valid_to: when it ends; with the genesis, when left out.
    @param drop: key_ids that are no longer believed.
    @param stolen: no overlap: only the new key is listed, from C{now} on.
    @raise DocumentRefused: C{bad-key}, C{unknown-key}, C{conflict}.
    """
    held = {key_id(decode_public(entry.key)): entry for entry in previous.body.authority}
    unknown = sorted(set(drop) - held.keys())
    if unknown:
        raise DocumentRefused(
            "unknown-key", f"genesis {previous.body.version} lists no authority key {unknown[0]}"
        )
    if stolen and add is None:
        raise DocumentRefused("conflict", "after a theft a new key is needed: nothing else would be listed")
    kept = [] if stolen else [entry for name, entry in held.items() if name not in drop]
    if add is not None:
        if key_id(check_public(add)) in held:
            raise DocumentRefused(
                "conflict", f"genesis {previous.body.version} lists this key already: make a new one"
            )
        if len(kept) == limits.MAX_AUTHORITY_KEYS:
            raise DocumentRefused(
                "conflict",
                f"genesis {previous.body.version} lists {len(kept)} authority keys, the most there may be:"
                " drop one that was replaced",
            )
        start = valid_from if valid_from is not None else now if stolen else now + ROTATION_OVERLAP
        end = valid_to if valid_to is not None else previous.body.expires_at
        kept.append(AuthorityKey(key=b64url_encode(add), valid_from=start, valid_to=end))
    if not any(entry.valid_from <= now < entry.valid_to for entry in kept):
        raise DocumentRefused(
            "conflict", "no listed key could sign now: keep the old one until the new one's time has come"
        )
    return next_genesis(previous, now, {"authority": msgspec.to_builtins(kept)})


def sign_detached(document: Document[Genesis], signer: ISigner) -> DetachedSignature:
    """
    C{signer}'s signature over a genesis.

    @raise DocumentRefused: C{bad-signature} if what the signer made does not verify.
    """
    signature = signer.sign(document.signature_input)
    if not verify(signer.public, signature, document.signature_input):
        raise DocumentRefused("bad-signature", "the key has made a signature that does not verify")
    return DetachedSignature(digest=document.digest, key_id=signer.key_id, signature=b64url_encode(signature))


def attach(
    document: Document[Genesis],
    detached: Collection[DetachedSignature],
    previous: Document[Genesis] | None = None,
) -> Document[Genesis]:
    """
    The genesis with these signatures beside the ones it has, each verified, in the order of key_ids.

    @raise DocumentRefused: C{wrong-digest}, C{unknown-key}, C{bad-signature}.
    """
    keys = root_keys(document.body) | (root_keys(previous.body) if previous is not None else {})
    signatures = dict(document.signatures)
    for one in detached:
        if one.digest != document.digest:
            raise DocumentRefused("wrong-digest", f"the signature by {one.key_id} is for another genesis")
        if one.key_id not in keys:
            raise DocumentRefused("unknown-key", f"{one.key_id} is not a root key of this genesis")
        raw = b64url_decode(one.signature, SIGNATURE_SIZE)
        if not verify(keys[one.key_id], raw, document.signature_input):
            raise DocumentRefused("bad-signature", f"the signature by {one.key_id} does not verify")
        signatures[one.key_id] = raw
    return Document(document.body, document.signed, tuple(sorted(signatures.items())))


def quorums(document: Document[Genesis], previous: Document[Genesis] | None) -> list[Quorum]:
    """Whose signatures are there and whose are not: by the previous version's root keys, and by its own."""
    return [_quorum(document, one.body) for one in (previous, document) if one is not None]


def _quorum(document: Document[Genesis], lists: Genesis) -> Quorum:
    data, signatures = document.signature_input, dict(document.signatures)
    keys = root_keys(lists)
    good = [
        name for name, public in keys.items() if name in signatures and verify(public, signatures[name], data)
    ]
    missing = [name for name in keys if name not in good]
    return Quorum(lists.version, lists.root.threshold, tuple(good), tuple(missing))
