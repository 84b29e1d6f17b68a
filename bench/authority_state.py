# SPDX-License-Identifier: MIT
"""State directories for the bench of the authority, and its clients' requests, signed beforehand."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gmesh.authority.approval_rules import NO_APPROVALS
from gmesh.authority.issuer import DocumentIssuer, Wanted
from gmesh.authority.state import StateDirectory
from gmesh.authority.store import certificates, invites, nodes, sqlite
from gmesh.authority.store.transaction import Transaction, transaction
from gmesh.cli.init import create_network
from gmesh.keyfiles import Passphrases, load_key
from gmesh.trust.documents import Certificate, Document, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import NoiseKey, SigningKey, key_id
from gmesh.trust.signed_requests import JOIN_TAG, NODE_TAG, sign_request

__all__ = ["State", "million"]

DAY = 86_400
URL = "http://127.0.0.1:8440"


class State:
    """
    A network made by C{gmesh init}, and whoever is to join it.

    @ivar path: the state directory of its authority.
    @param age: how many seconds ago it was made.
    """

    def __init__(self, directory: Path, age: int = 0) -> None:
        self.genesis = create_network(directory / "net", "bench", URL, [], int(time.time()) - age)
        self.path = directory / "net/authority"
        policy = json.loads((self.path / "policy-initial.json").read_text()) | {"max_nodes": 1_000_000}
        (self.path / "policy-initial.json").write_text(json.dumps(policy))
        self.operator = directory / "net/operator"
        self.authority = load_key(self.path / "authority.key", Passphrases())
        self.issuer = self._open()

    def _open(self) -> DocumentIssuer:
        now = int(time.time())
        directory = StateDirectory(self.path, now)
        issuer = directory.issuer()
        directory.open(issuer, now, NO_APPROVALS)
        return issuer

    def _write(self, write: Any) -> None:
        connection = sqlite.connect(self.path / "authority.sqlite")
        try:
            with transaction(connection, int(time.time())) as tx:
                write(tx)
        finally:
            connection.close()

    def invites(self, count: int, prefix: str) -> list[Invite]:
        """So many open invites."""
        made = [
            Invite(
                urls=(URL,),
                network_id=self.issuer.network_id,
                genesis_version=1,
                genesis_digest=self.genesis.digest,
                authority=self.authority.key_id,
                seed=os.urandom(32),
            )
            for _ in range(count)
        ]

        def write(tx: Transaction) -> None:
            for number, invite in enumerate(made):
                row = invites.InviteRow(
                    id=invite.key.key_id,
                    invite_key=b64url_encode(invite.key.public),
                    name=f"{prefix}-{number}",
                    roles=("client",),
                    lifetime=None,
                    node_key=None,
                    approve=False,
                    created_at=tx.now,
                    created_by="bench",
                    expires_at=tx.now + DAY,
                )
                invites.add(tx, row)

        self._write(write)
        return made

    def members(
        self, count: int, prefix: str = "member", age: int = 0
    ) -> list[tuple[SigningKey, Document[Certificate]]]:
        """So many nodes that joined so many seconds ago."""
        made: list[tuple[SigningKey, Document[Certificate]]] = []

        def write(tx: Transaction) -> None:
            tx.now -= age
            for number in range(count):
                node, noise = SigningKey.generate(), b64url_encode(NoiseKey.generate().public)
                key, name = b64url_encode(node.public), f"{prefix}-{number}"
                wanted = Wanted(name, node.key_id, key, noise, ("client",), DAY)
                (row,) = self.issuer.certificates(tx, [wanted])
                certificates.add(tx, row)
                nodes.claim_noise_key(tx, noise, node.key_id)
                nodes.put(
                    tx,
                    nodes.NodeRow(name, node.key_id, key, ("client",), None, row.serial, row.not_after),
                )
                made.append((node, parse_document(row.document, Certificate)))

        self._write(write)
        return made

    def joins(self, invited: Iterable[Invite]) -> list[bytes]:
        """A join request for each invite, ready for the wire."""
        now, ready = int(time.time()), []
        for invite in invited:
            node = SigningKey.generate()
            noise = NoiseKey.generate().public
            request = make_join_request(invite, node, noise, self.issuer.network_id, now, os.urandom(16))
            ready.append(self._signed(node, "/join", request.encode(), JOIN_TAG, now))
        return ready

    def renewals(self, members: Iterable[tuple[SigningKey, Document[Certificate]]]) -> list[bytes]:
        """A renewal of each."""
        now = int(time.time())
        bodies = (
            (node, {"certificate": document.as_dict(), "noise_key": document.body.noise_key})
            for node, document in members
        )
        return [
            self._signed(node, "/renew", json.dumps(body).encode(), NODE_TAG, now) for node, body in bodies
        ]

    def heartbeats(
        self, members: Iterable[tuple[SigningKey, Document[Certificate]]], each: int
    ) -> list[list[bytes]]:
        """For each member its heartbeats in their order."""
        now = int(time.time())
        return [
            [
                self._signed(
                    node,
                    "/heartbeat",
                    json.dumps({"certificate": document.as_dict(), "sent_ms": now * 1000 + number}).encode(),
                    NODE_TAG,
                    now,
                )
                for number in range(each)
            ]
            for node, document in members
        ]

    def _signed(self, signer: SigningKey, path: str, body: bytes, tag: str, created: int) -> bytes:
        headers = sign_request(
            signer,
            "POST",
            path,
            body,
            audience=self.authority.key_id,
            created=created,
            nonce=os.urandom(16),
            tag=tag,
        )
        # What the floor verifies: one plain signature over the body.
        headers["Bench-Key"] = b64url_encode(signer.public)
        headers["Bench-Signature"] = b64url_encode(signer.sign(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return (
            f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode()
            + body
        )


def million(state: State, count: int, revoked: int) -> None:
    """Fill a database with so many certificates of as many nodes, every so-manieth of them revoked."""
    ((_, document),) = state.members(1)
    template = document.encode()
    now = int(time.time())
    every = max(1, count // revoked)
    connection = sqlite3.connect(state.path / "authority.sqlite", isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO node (name, node_id, node_key, roles, serial, not_after) VALUES (?,?,?,?,?,?)",
            ((f"n-{n}", _node_id(n), f"k{n:042}", '["client"]', 10 + n, now + DAY) for n in range(count)),
        )
        connection.executemany(
            f"INSERT INTO certificate ({certificates._COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)",
            (
                (
                    10 + n,
                    f"n-{n}",
                    _node_id(n),
                    f"x{n:042}",
                    template,
                    now,
                    now + DAY + n % DAY,
                    now if n % every == 0 else None,
                    0 if n % every == 0 else None,
                )
                for n in range(count)
            ),
        )
        connection.execute(
            "INSERT INTO revoked_certificate (serial, not_after, reason)"
            " SELECT serial, not_after, reason FROM certificate WHERE revoked_at IS NOT NULL"
        )
        connection.execute("UPDATE counter SET n = ? WHERE name = 'serial'", (count + 10,))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


def flood(state: State, counts: list[int]) -> None:
    """Members C{flood-COUNT} with so many certificates each."""
    for (_, document), count in zip(state.members(len(counts)), counts, strict=True):
        body = document.body
        connection = sqlite3.connect(state.path / "authority.sqlite", isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("BEGIN")
            (last,) = connection.execute("SELECT n FROM counter WHERE name = 'serial'").fetchone()
            connection.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
                " INSERT INTO certificate (serial, name, node_id, noise_key, document, not_before, not_after)"
                " SELECT ? + i, name, node_id, noise_key, document, not_before, not_after + i % ?"
                " FROM certificate, n WHERE serial = ?",
                (count - 1, last, DAY, body.serial),
            )
            connection.execute(
                "UPDATE node SET name = ?, serial = ? WHERE node_id = ?",
                (f"flood-{count}", last + count - 1, body.node_id),
            )
            connection.execute("UPDATE counter SET n = ? WHERE name = 'serial'", (last + count,))
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()


def _node_id(number: int) -> str:
    return key_id(number.to_bytes(32, "big"))
