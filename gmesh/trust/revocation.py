# SPDX-License-Identifier: MIT
"""
Making CRLs and deltas, and applying deltas so that the full bytes come out the same everywhere.

A delta first drops what ended before C{drop_expired_before}, then adds or replaces; number and
times are its own, and C{result_signatures} are those of the full document it leads to.
Tests: C{tests/trust/test_revocation.py}, C{tests/trust/test_revoked.py}.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import TypeVar

import msgspec

from gmesh.errors import DocumentRefused
from gmesh.trust.documents import (
    Crl,
    CrlDelta,
    Document,
    RevokedKey,
    RevokedNode,
    RevokedSerial,
    SignatureEntry,
)
from gmesh.trust.encoding import b64url_decode, b64url_encode
from gmesh.trust.json_rows import collector_paused
from gmesh.trust.keys import SIGNATURE_SIZE
from gmesh.trust.limits import DOCUMENT_LIMITS

__all__ = ["apply_delta", "lost_entries", "make_crl", "make_delta"]

Entry = TypeVar("Entry", RevokedSerial, RevokedNode, RevokedKey)


def make_crl(
    network_id: str,
    number: int,
    issued_at: int,
    next_update: int,
    revoked: Iterable[RevokedSerial],
    revoked_nodes: Iterable[RevokedNode],
    revoked_keys: Iterable[RevokedKey],
) -> Crl:
    """A CRL of these entries in any order; of two for the same serial, node or key the later one stands."""
    return Crl(
        network_id=network_id,
        number=number,
        issued_at=issued_at,
        next_update=next_update,
        revoked=_merged(revoked),
        revoked_nodes=_merged(revoked_nodes),
        revoked_keys=_merged(revoked_keys),
    )


def make_delta(old: Crl, new: Document[Crl], drop_expired_before: int) -> CrlDelta:
    """
    What turns C{old} into C{new}.

    @param drop_expired_before: entries of C{old} that ended before then are not in C{new}.
    @raise DocumentRefused: C{no-delta}, if no delta leads from one to the other.
    """
    kept = _kept(old, drop_expired_before)
    delta = CrlDelta(
        network_id=new.body.network_id,
        from_number=old.number,
        number=new.body.number,
        issued_at=new.body.issued_at,
        next_update=new.body.next_update,
        added=_others(new.body.revoked, kept[0]),
        added_nodes=_others(new.body.revoked_nodes, kept[1]),
        added_keys=_others(new.body.revoked_keys, kept[2]),
        drop_expired_before=drop_expired_before,
        result_signatures=tuple(
            SignatureEntry(key_id=key_id, signature=b64url_encode(signature))
            for key_id, signature in new.signatures
        ),
    )
    if _assemble(old, delta) != new.body:
        raise DocumentRefused("no-delta", f"no delta leads from CRL {old.number} to {new.body.number}")
    return delta


def lost_entries(old: Crl, new: Crl) -> list[str]:
    """What C{old} revokes and C{new} does not, though it had not ended when C{new} was made."""
    serials, keys = ({entry[0] for entry in entries} for entries in (new.revoked, new.revoked_keys))
    below = {node_id: serial for node_id, serial, *_ in new.revoked_nodes}
    lost = [f"serial {e[0]}" for e in old.revoked if e[0] not in serials and e[1] > new.issued_at]
    lost += [
        f"node {node_id}"
        for node_id, serial, not_after, _ in old.revoked_nodes
        if below.get(node_id, 0) < serial and not_after > new.issued_at
    ]
    return lost + [f"key {e[0]}" for e in old.revoked_keys if e[0] not in keys and e[1] > new.issued_at]


def apply_delta(full: Document[Crl], delta: Document[CrlDelta]) -> Document[Crl]:
    """
    The full CRL that C{delta} leads to, with its signatures, still to be verified.

    @raise DocumentRefused: C{wrong-base}, if the delta starts from another CRL; C{too-large}.
    """
    body = delta.body
    if body.from_number != full.body.number or body.network_id != full.body.network_id:
        raise DocumentRefused(
            "wrong-base", f"a delta from CRL {body.from_number} where {full.body.number} is held"
        )
    with collector_paused():
        result = _assembled(full.body, body)
    if len(result.encode()) > DOCUMENT_LIMITS[Crl.TYPE]:
        raise DocumentRefused("too-large", "the CRL that the delta leads to is larger than readers accept")
    return result


def _assembled(old: Crl, delta: CrlDelta) -> Document[Crl]:
    assembled = _assemble(old, delta)
    signed = msgspec.to_builtins(assembled)
    for table in ("revoked", "revoked_nodes", "revoked_keys"):
        signed[table] = [list(entry) for entry in signed[table]]
    signatures = tuple(
        (entry.key_id, b64url_decode(entry.signature, SIGNATURE_SIZE)) for entry in delta.result_signatures
    )
    return Document(assembled, signed, signatures)


def _assemble(old: Crl, delta: CrlDelta) -> Crl:
    revoked, nodes, keys = _kept(old, delta.drop_expired_before)
    return make_crl(
        old.network_id,
        delta.number,
        delta.issued_at,
        delta.next_update,
        chain(revoked, delta.added),
        chain(nodes, delta.added_nodes),
        chain(keys, delta.added_keys),
    )


def _kept(crl: Crl, ends_from: int) -> tuple[list[RevokedSerial], list[RevokedNode], list[RevokedKey]]:
    """The entries that do not end before then, of each table."""
    return (
        [entry for entry in crl.revoked if entry[1] >= ends_from],
        [entry for entry in crl.revoked_nodes if entry[2] >= ends_from],
        [entry for entry in crl.revoked_keys if entry[1] >= ends_from],
    )


def _others(entries: Iterable[Entry], than: Iterable[Entry]) -> tuple[Entry, ...]:
    known = set(than)
    return tuple(entry for entry in entries if entry not in known)


def _merged(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    latest = {entry[0]: entry for entry in entries}
    return tuple(latest[key] for key in sorted(latest))
