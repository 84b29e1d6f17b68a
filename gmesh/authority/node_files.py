# SPDX-License-Identifier: MIT
"""
What nodes hold, taken in at a restore: CRLs and policies from outside the database.

Evidence for somebody (a policy, a number) counts only if a key of the newest genesis signed it.
Evidence against somebody (an entry of a CRL) counts from a key that was dropped, too: whoever stole
it can bar members, which is seen and undone, but admits nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from gmesh.authority.store import certificates, nodes, operators
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH, Transaction
from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.files import read_capped
from gmesh.trust.documents import Body, Crl, Document, Genesis, Policy, parse_document
from gmesh.trust.keys import decode_public, key_id
from gmesh.trust.limits import DOCUMENT_LIMITS, MAX_INTEGER
from gmesh.trust.verify import authority_keys, verify_signatures

__all__ = ["NodeFile", "NodeFiles", "follow_policy", "merge_crl", "read_node_files"]

B = TypeVar("B", Crl, Policy)


@dataclass(frozen=True, slots=True)
class NodeFile(Generic[B]):
    """
    A document and where it was found.

    @ivar dropped: only keys signed it that the newest genesis lists no more.
    """

    path: Path
    document: Document[B]
    dropped: bool


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """
    The files given to a restore.

    @ivar crls: signed by a key of the newest genesis.
    @ivar dropped_crls: signed by dropped keys only.
    @ivar policies: signed by a key of the newest genesis.
    """

    crls: list[NodeFile[Crl]]
    dropped_crls: list[NodeFile[Crl]]
    policies: list[NodeFile[Policy]]

    def epoch(self, bound: int) -> int:
        """
        The highest epoch that a number in these files is of; -1 without files.

        @param bound: the highest that can be right.
        @raise ConfigurationError: C{epoch-beyond}, naming the file that lies above.
        """
        numbers = [(file.path, file.document.body.number) for file in self.crls]
        numbers += [(file.path, file.document.body.version) for file in self.policies]
        for path, number in numbers:
            if number // SERIALS_PER_EPOCH > bound:
                raise ConfigurationError(
                    "epoch-beyond",
                    f"{path}: number {number} is of epoch {number // SERIALS_PER_EPOCH}, and this authority"
                    f" cannot have come beyond {bound}: leave that file out, and compare the clock",
                )
        return max((number // SERIALS_PER_EPOCH for _, number in numbers), default=-1)


def read_node_files(
    crls: Sequence[Path], policies: Sequence[Path], chain: Sequence[Document[Genesis]], network: str
) -> NodeFiles:
    """
    Read files of nodes and judge who signed them.

    @param chain: the whole genesis chain, its newest version the newest that anybody here knows.
    @raise ConfigurationError: for what no authority key ever signed, and for a policy that only dropped
        keys signed; it names the file.
    """
    found = [_read(path, Crl, chain, network) for path in crls]
    texts = [_read(path, Policy, chain, network) for path in policies]
    for file in texts:
        if file.dropped:
            version = chain[-1].body.version
            raise ConfigurationError(
                "dropped-key",
                f"{file.path}: this policy is signed by a key that genesis {version} dropped, so a thief may"
                f" have written it: take policy.json of a node that holds genesis {version}, or none",
            )
    return NodeFiles(
        [file for file in found if not file.dropped], [file for file in found if file.dropped], texts
    )


def _read(path: Path, struct: type[B], chain: Sequence[Document[Genesis]], network: str) -> NodeFile[B]:
    try:
        document = parse_document(read_capped(path, DOCUMENT_LIMITS[struct.TYPE]), struct)
        dropped = _is_dropped(document, chain)
    except DocumentRefused as error:
        hint = ": if a newer genesis lists its key, put that genesis.json into --state" * (
            error.reason == "unknown-key"
        )
        raise ConfigurationError(error.reason, f"{path}: {error.detail}{hint}") from error
    if document.body.network_id != network:
        raise ConfigurationError("wrong-network", f"{path} belongs to another network")
    return NodeFile(path, document, dropped)


def _is_dropped(document: Document[Body], chain: Sequence[Document[Genesis]]) -> bool:
    """@raise DocumentRefused: if no authority key of any genesis signed it."""
    try:
        verify_signatures(document, authority_keys(chain[-1].body))
    except DocumentRefused:
        ever: dict[str, bytes] = {}
        for genesis in chain:
            ever |= authority_keys(genesis.body)
        verify_signatures(document, ever)
        return True
    return False


def merge_crl(tx: Transaction, crl: Crl, epoch: int, last_end: int = MAX_INTEGER) -> list[str]:
    """
    Revoke what a CRL names, but for serials of C{epoch} or later: none of them is given out yet.

    @param last_end: when any certificate has ended; entries that say later end then, and leave our CRLs.
    @return: what was not revoked before: names of nodes, and serials and key_ids where none is known.
    """
    done = []
    for serial, not_after, reason in crl.revoked:
        row = certificates.get(tx, serial)
        if row is not None:
            if certificates.revoke(tx, serial, reason):
                done.append(row.name or f"serial {serial}")
                node = nodes.by_id(tx, row.node_id)
                if node is not None and node.serial == serial:
                    nodes.bar(tx, row.node_id)
        elif serial // SERIALS_PER_EPOCH < epoch:
            end = min(not_after, last_end)
            certificates.add(tx, certificates.unknown_revoked(serial, end, tx.now, reason))
            done.append(f"serial {serial}")
    for name, not_after in crl.revoked_keys:
        nodes.bar(tx, name)
        end = max(min(not_after, last_end), certificates.last_end(tx, name))
        if certificates.revoke_key(tx, name, end, 1):
            node = nodes.by_id(tx, name)
            done.append(f"key {name}" if node is None else f"key of {node.name}")
    return done


def follow_policy(tx: Transaction, policy: Policy) -> None:
    """Let those operate whom C{policy} names, and nobody else."""
    wanted = {key_id(decode_public(operator.key)): operator for operator in policy.operators}
    for row in operators.everyone(tx):
        if row.key_id not in wanted or wanted[row.key_id].role != row.role:
            operators.forget(tx, row.key_id)
    for name, operator in wanted.items():
        operators.forget_revoked(tx, name)
        operators.add(
            tx, operators.OperatorRow(name, operator.key, operator.role, "restored", tx.now, "restore")
        )
