# SPDX-License-Identifier: MIT
"""
The least number of each document that may still be believed.

A floor belongs to the authority key that signed, and the one that counts is the highest over
the keys of the current genesis: floors never go back, yet a genesis that drops a stolen key
also drops the numbers the thief published with it.
Tests: C{tests/trust/test_state.py}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

from gmesh.errors import DocumentRefused
from gmesh.trust.documents import AuditHead
from gmesh.trust.limits import AUDIT_HEADS
from gmesh.trust.names import Identifier, Number, human_error

__all__ = ["Floors"]


class _Text(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    genesis: Number = 0
    crl: dict[Identifier, Number] = msgspec.field(default_factory=dict)
    policy: dict[Identifier, Number] = msgspec.field(default_factory=dict)
    status: dict[Identifier, Number] = msgspec.field(default_factory=dict)
    audit: AuditHead | None = None
    earlier_audit: Annotated[tuple[AuditHead, ...], msgspec.Meta(max_length=AUDIT_HEADS)] = ()


class Floors:
    """
    Floors of one host, as C{floors.json} keeps them.

    @ivar genesis: the newest genesis version ever held.
    @ivar audit: the furthest head of the authority's audit chain ever seen, or None.
    @ivar earlier_audit: some heads of before, oldest first, ever closer towards the newest: a chain that
        was rewritten and then went on does not pass through them.
    """

    def __init__(self) -> None:
        self.genesis = 0
        self.audit: AuditHead | None = None
        self.earlier_audit: list[AuditHead] = []
        self._numbers: dict[str, dict[str, int]] = {"crl": {}, "policy": {}, "status": {}}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Floors:
        """
        Read what L{to_dict} made.

        @raise DocumentRefused: C{bad-floors}.
        """
        try:
            text = msgspec.convert(dict(value), _Text, strict=True)
        except msgspec.ValidationError as error:
            raise DocumentRefused("bad-floors", f"floors: {human_error(error)}") from error
        floors = cls()
        floors.genesis = text.genesis
        floors.audit = text.audit
        floors.earlier_audit = list(text.earlier_audit)
        floors._numbers = {"crl": text.crl, "policy": text.policy, "status": text.status}
        return floors

    def to_dict(self) -> dict[str, Any]:
        """All floors as JSON values."""
        value: dict[str, Any] = {"genesis": self.genesis}
        value.update({kind: dict(numbers) for kind, numbers in self._numbers.items()})
        if self.audit is not None:
            value["audit"] = msgspec.to_builtins(self.audit)
        if self.earlier_audit:
            value["earlier_audit"] = msgspec.to_builtins(self.earlier_audit)
        return value

    @property
    def audits(self) -> list[AuditHead]:
        """Every head that is kept, oldest first."""
        return [*self.earlier_audit, *([] if self.audit is None else [self.audit])]

    def effective(self, kind: str, key_ids: Iterable[str]) -> int:
        """The floor of documents of C{kind} while these are the authority's keys."""
        numbers = self._numbers[kind]
        return max((numbers.get(key_id, 0) for key_id in key_ids), default=0)

    def see_audit(self, audit: AuditHead) -> tuple[str, str] | None:
        """
        Remember the furthest audit head.

        @return: an alarm, slug and sentence, if the chain was cut, forked or restored.
        """
        seen = self.audit
        if seen is None or (audit.epoch, audit.size) > (seen.epoch, seen.size):
            self.audit = audit
            if seen is not None:
                self.earlier_audit.append(seen)
                self._thin(audit.size)
        if seen is None:
            return None
        if audit.epoch != seen.epoch:
            return "audit-epoch", f"the audit chain went from epoch {seen.epoch} to {audit.epoch}"
        if audit.size < seen.size or (audit.size == seen.size and audit.head != seen.head):
            return "audit-fork", f"the audit chain lost rows: {audit.size} after {seen.size}"
        return None

    def _thin(self, newest: int) -> None:
        """Drop the head that is missed least: its neighbours lie close, for its age. The first one stays."""
        heads = self.earlier_audit
        if len(heads) > AUDIT_HEADS:
            after = [*heads[1:], heads[-1]]
            gaps = {
                place: max(1, after[place].size - heads[place - 1].size) / max(1, newest - heads[place].size)
                for place in range(1, len(heads))
            }
            del heads[min(gaps, key=gaps.__getitem__)]

    def lift(self, kind: str, key_ids: Iterable[str], number: int) -> None:
        """A document of this number, signed by these keys, is held: never go below it again."""
        numbers = self._numbers[kind]
        for key_id in key_ids:
            numbers[key_id] = max(number, numbers.get(key_id, 0))
