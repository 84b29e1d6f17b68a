# SPDX-License-Identifier: MIT
"""A well-formed frame of each control kind, on a mesh of a relay and two clients."""

from __future__ import annotations

from typing import Any

from gmesh.testing.mesh import MemoryMesh
from gmesh.wire.frames import Kind, is_data
from gmesh.wire.messages import (
    CertAnswer,
    CertificateKey,
    CertRequest,
    Close,
    CloseReason,
    CommandRequest,
    DocumentPush,
    DocumentRequest,
    Ihave,
    Lsa,
    PathReply,
    PathRequest,
    Ping,
    Pong,
    RecordKey,
    RecordNumber,
    RecordSummary,
    SyncDigest,
    SyncList,
    SyncWant,
)

__all__ = ["CONTROL", "IDLE", "bodies", "grow"]

CONTROL = sorted(kind for kind in Kind if not is_data(kind))
IDLE = {Kind.RENEWAL, Kind.AUTHORITY}
"""Kinds that a link does not take: each costs next to nothing."""


def grow(mesh: MemoryMesh) -> MemoryMesh:
    """The relay r with the clients m and o, started and settled."""
    mesh.add("r", "relay")
    mesh.add("m", "client", peers=("r",))
    mesh.add("o", "client", peers=("r",))
    mesh.start()
    mesh.run_until(lambda: mesh["o"].reaches("r", "m") and mesh["m"].reaches("r", "o"))
    mesh.run(30)
    return mesh


def bodies(mesh: MemoryMesh) -> dict[int, bytes]:
    """A well-formed body of each kind, such as an honest node might send once."""
    m, issuer = mesh["m"], mesh.issuer
    key = m.handle, 0
    entry = mesh["r"].runtime.engine.store.get(key)
    assert entry is not None
    documents: dict[int, tuple[int, Any]] = {
        Kind.CRL: (issuer.crl.body.number, issuer.crl),
        Kind.POLICY: (issuer.policy.body.version, issuer.policy),
        Kind.STATUS: (issuer.status.body.number, issuer.status),
        Kind.GENESIS: (issuer.genesis_chain[-1].body.version, issuer.genesis_chain[-1]),
    }
    pushes = {kind: DocumentPush.first(number, held.encode()) for kind, (number, held) in documents.items()}
    requests = {kind + 1: DocumentRequest(number) for kind, (number, _) in documents.items()}
    made: dict[int, Any] = {
        Kind.HELLO: m.runtime._hello(True, ""),
        Kind.PING: Ping(1, 1),
        Kind.PONG: Pong(1, 1),
        Kind.CLOSE: Close(CloseReason.UNSPECIFIED),
        Kind.LSA: Lsa((entry.data,)),
        Kind.IHAVE: Ihave((RecordNumber(*key, 1),)),
        Kind.SYNC_DIGEST: SyncDigest(((0, bytes(8)),)),
        Kind.SYNC_LIST: SyncList((RecordSummary(*key, 1, bytes(4)),)),
        Kind.SYNC_WANT: SyncWant((RecordKey(*key),)),
        Kind.CERT_REQ: CertRequest((CertificateKey(m.handle, 1),)),
        Kind.CERT: CertAnswer((m.enrolled.certificate.encode(),)),
        Kind.COMMAND: DocumentPush.first(1, b"{}"),
        Kind.COMMAND_REQ: CommandRequest(0),
        Kind.PATH_REQ: PathRequest(1, mesh["o"].handle),
        Kind.PATH_REP: PathReply(1, ()),
        **pushes,
        **requests,
    }
    return {**dict.fromkeys((Kind.REKEY, *IDLE), b""), **{kind: body.encode() for kind, body in made.items()}}
