# SPDX-License-Identifier: MIT
"""
Files that nodes hold, given to a restore, and who signed them.

Tests: C{tests/authority/test_dropped_key.py}, C{tests/authority/test_lost_days.py}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from gmesh.authority.audit_file import HeldHead, status_head
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.files import read_capped
from gmesh.trust.documents import Body, Crl, Document, Genesis, Policy, Status, parse_document
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.verify import authority_keys, verify_signatures

__all__ = ["NodeFile", "NodeFiles", "read_node_files"]

B = TypeVar("B", Crl, Policy, Status)


@dataclass(frozen=True, slots=True)
class NodeFile(Generic[B]):
    """
    A document and where it was found.

    @ivar dropped: only keys signed it that the newest genesis no longer lists.
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
    @ivar statuses: signed by a key of the newest genesis.
    """

    crls: list[NodeFile[Crl]]
    dropped_crls: list[NodeFile[Crl]]
    policies: list[NodeFile[Policy]]
    statuses: list[NodeFile[Status]]

    @property
    def crl(self) -> int:
        """The highest number of a CRL that counts; -1 without one."""
        return max((file.document.body.number for file in self.crls), default=-1)

    @property
    def policy(self) -> int:
        """The highest version of a policy; -1 without one."""
        return max((file.document.body.version for file in self.policies), default=-1)

    @property
    def heads(self) -> list[HeldHead]:
        """Where nodes saw the audit chain."""
        return [status_head(str(file.path), file.document.body.audit) for file in self.statuses]

    def epoch(self, bound: int) -> int:
        """
        The highest epoch of a number in these files; -1 without files.

        @param bound: the highest that can be right.
        @raise ConfigurationError: C{epoch-beyond}, naming the file that lies above.
        """
        numbers = [(file.path, file.document.body.number) for file in self.crls]
        numbers += [(file.path, file.document.body.version) for file in self.policies]
        numbers += [(file.path, file.document.body.number) for file in self.statuses]
        for path, number in numbers:
            if number // SERIALS_PER_EPOCH > bound:
                raise ConfigurationError(
                    "epoch-beyond",
                    f"{path}: number {number} is of epoch {number // SERIALS_PER_EPOCH}, and this authority"
                    f" cannot have come beyond {bound}: leave that file out, and compare the clock",
                )
        return max((number // SERIALS_PER_EPOCH for _, number in numbers), default=-1)


def read_node_files(
    crls: Sequence[Path],
    policies: Sequence[Path],
    statuses: Sequence[Path],
    chain: Sequence[Document[Genesis]],
    network: str,
) -> NodeFiles:
    """
    Read files of nodes and judge who signed them.

    @param chain: the whole genesis chain, its newest version the newest that anybody here knows.
    @raise ConfigurationError: for what no authority key ever signed, and for a policy or a status that only
        dropped keys signed; it names the file.
    """
    found = [_read(path, Crl, chain, network) for path in crls]
    texts = [_read(path, Policy, chain, network) for path in policies]
    words = [_read(path, Status, chain, network) for path in statuses]
    files: list[NodeFile[Any]] = [*texts, *words]
    for file in files:
        if file.dropped:
            kind, version = file.document.type, chain[-1].body.version
            raise ConfigurationError(
                "dropped-key",
                f"{file.path}: this {kind} is signed by a key that genesis {version} dropped, so a thief may"
                f" have written it: take {kind}.json of a node that holds genesis {version}, or none",
            )
    return NodeFiles(
        [file for file in found if not file.dropped], [file for file in found if file.dropped], texts, words
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
