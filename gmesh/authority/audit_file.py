# SPDX-License-Identifier: MIT
"""
The audit chain as a file: C{audit.jsonl} of the authority, and what C{gmesh admin audit export} writes.

A file proves nothing by itself: whoever can write it can compute every hash anew.  It counts as far as
it passes through heads that somebody else holds.
Tests: C{tests/authority/test_audit_file.py}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from gmesh.authority.audit import chain_hash
from gmesh.errors import DocumentRefused, StoreError
from gmesh.files import read_capped
from gmesh.trust.documents import AuditHead, Status, parse_document
from gmesh.trust.floors import Floors
from gmesh.trust.limits import DOCUMENT_LIMITS, MAX_INTEGER

__all__ = ["AuditRow", "HeldHead", "Survey", "audit_rows", "heads_in", "number_in", "status_head", "survey"]

LINE_BYTES = 256 * 1024
"""Of one row; the longest, a revocation with all its serials, has a tenth."""
HEAD_FILE_BYTES = 64 * 1024
HEADS_NAMED = 64
"""By the row of a restore, one for each audit that it read."""
_BEGINNINGS = (b'"restore"', b'"promotion"')
_DIGITS = len(str(MAX_INTEGER))


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    seq: int
    hash: str
    row: msgspec.Raw


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line. @ivar entry: the row's bytes, as they were hashed."""

    seq: int
    entry: bytes
    digest: bytes

    def read(self) -> dict[str, Any]:
        """What the row says. @raise StoreError: C{audit-broken}, if that is no JSON object."""
        try:
            return msgspec.json.decode(self.entry, type=dict[str, Any])
        except (msgspec.DecodeError, ValueError) as error:
            raise StoreError("audit-broken", f"audit row {self.seq} is not an object") from error

    def begun_epoch(self) -> int | None:
        """The epoch that a restore, or the promotion of a standby, began with this row."""
        if not any(word in self.entry for word in _BEGINNINGS):
            return None
        row = self.read()
        target = row.get("target")
        return number_in(target) if row.get("action") in ("restore", "promotion") else None

    def borne_out(self) -> list[HeldHead]:
        """
        The heads that audits met when the restore of this row read them.

        @raise StoreError: C{audit-broken}, if it does not say so in the form of a head.
        """
        try:
            heads = msgspec.convert(self.read().get("borne_out", []), list[AuditHead])
        except msgspec.ValidationError as error:
            raise StoreError("audit-broken", f"audit row {self.seq} names no heads") from error
        return [status_head("an earlier restore", head) for head in heads[:HEADS_NAMED]]


def number_in(text: object) -> int | None:
    """The number that a row gives as text; None for anything else, and for one that no document can bear."""
    if not isinstance(text, str) or not text.isdecimal() or len(text) > _DIGITS:
        return None
    return int(text)


@dataclass(frozen=True, slots=True)
class HeldHead:
    """Where the chain stood. @ivar where: who says so, for people."""

    where: str
    epoch: int
    size: int
    digest: str


@dataclass(slots=True)
class Survey:
    """
    What a file is worth.

    @ivar size: rows whose hashes follow from each other.
    @ivar head: of the last of them, hexadecimal.
    @ivar epoch: of its end, as its rows of restores say.
    @ivar met: heads that the chain passes through.
    @ivar forked: heads that name another row than the file has.
    @ivar beyond: heads that lie behind the end.
    @ivar other_epoch: heads of rows that a restore took back: they cannot be compared.
    @ivar named: the heads that its restores name, each with the number of the restore's row.
    @ivar broken: why it ends before the file does; empty if it does not.
    """

    size: int = 0
    head: str = "0" * 64
    epoch: int = 0
    met: list[HeldHead] = field(default_factory=list)
    forked: list[HeldHead] = field(default_factory=list)
    beyond: list[HeldHead] = field(default_factory=list)
    other_epoch: list[HeldHead] = field(default_factory=list)
    named: list[tuple[int, HeldHead]] = field(default_factory=list)
    broken: str = ""

    @property
    def verified(self) -> int:
        """Up to which row the chain is borne out."""
        return max((head.size for head in self.met), default=0)

    @property
    def vouched(self) -> list[HeldHead]:
        """The heads of other audits that rows of this one name, as far as it is borne out itself."""
        verified = self.verified
        return [head for seq, head in self.named if seq <= verified]


def audit_rows(path: Path) -> Iterator[AuditRow]:
    """
    The lines of a file, unverified.

    @raise StoreError: C{audit-broken}, for what is not a row, naming it.
    """
    number = 0
    with open(path, "rb") as stream:
        while line := stream.readline(LINE_BYTES):
            number += 1
            try:
                read = msgspec.json.decode(line, type=_Line)
                row = AuditRow(read.seq, bytes(read.row), bytes.fromhex(read.hash))
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                raise StoreError("audit-broken", f"line {number} of {path} is not an audit row") from error
            yield row


def survey(path: Path, heads: Sequence[HeldHead]) -> Survey:
    """Recompute the chain of a file from its first row, and compare it with these heads."""
    found, head = Survey(), bytes(32)
    waiting: dict[int, list[HeldHead]] = {}
    for held in heads:
        waiting.setdefault(held.size, []).append(held)
    try:
        for row in audit_rows(path):
            if row.seq != found.size + 1:
                raise StoreError("audit-broken", f"audit row {found.size + 1} is missing in {path}")
            head = chain_hash(row.seq, head, row.entry)
            if head != row.digest:
                raise StoreError("audit-broken", f"audit row {row.seq} of {path} does not carry its hash")
            found.size, found.head = row.seq, head.hex()
            if (begun := row.begun_epoch()) is not None:
                found.epoch = begun or found.epoch
                found.named += [(row.seq, head) for head in row.borne_out()]
            for held in waiting.pop(row.seq, ()):
                same = found.met if held.digest == found.head else found.forked
                (same if held.epoch == found.epoch else found.other_epoch).append(held)
    except StoreError as error:
        found.broken = error.detail
    for held in (held for some in waiting.values() for held in some if held.size):
        (found.beyond if held.epoch == found.epoch else found.other_epoch).append(held)
    return found


def status_head(where: str, head: AuditHead) -> HeldHead:
    """The head that a status, or a node's floors, name."""
    return HeldHead(where, head.epoch, head.size, head.head)


def heads_in(paths: Iterable[Path]) -> list[HeldHead]:
    """
    The heads in files that somebody keeps: C{floors.json} and C{status.json} of nodes, C{audit-head.json}
    of an operator.  They are believed as they are: who signed a status is not asked.

    @raise StoreError: C{bad-head}, for a file that is none of these.
    """
    return [held for path in paths for held in _heads_in(path)]


def _heads_in(path: Path) -> list[HeldHead]:
    data = read_capped(path, max(HEAD_FILE_BYTES, DOCUMENT_LIMITS["status"]))
    try:
        value = msgspec.json.decode(data, type=dict)
        if "signed" in value:
            heads = [parse_document(data, Status).body.audit]
        elif "head" in value:
            heads = [msgspec.convert(value, AuditHead)]
        else:
            heads = Floors.from_dict(value).audits
    except (msgspec.DecodeError, msgspec.ValidationError, DocumentRefused) as error:
        raise StoreError(
            "bad-head", f"{path} is neither floors.json nor status.json nor audit-head.json"
        ) from error
    return [status_head(str(path), head) for head in heads]
