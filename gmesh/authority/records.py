# SPDX-License-Identifier: MIT
"""What may be looked up: pages of invites, enrolments, members, certificates, operators and the audit."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from gmesh.authority.audit import printable
from gmesh.authority.clock import SteadyClock
from gmesh.authority.issuer import Issuer
from gmesh.authority.membership import Presence
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import certificates, enrolments, invites, nodes, operators
from gmesh.authority.store.nodes import NodeRow
from gmesh.authority.store.transaction import Reader
from gmesh.authority.store.writer import Store
from gmesh.errors import RequestRefused
from gmesh.trust.documents import RevocationReason
from gmesh.trust.names import is_service
from gmesh.trust.policy import PolicyRules, Subject

__all__ = ["Records"]

Json = dict[str, Any]


class Records:
    """Reads only; a page starts after the last key of the one before, so it never scans."""

    def __init__(self, store: Store, issuer: Issuer, clock: SteadyClock, presence: Presence) -> None:
        self._store = store
        self._issuer = issuer
        self._presence = presence
        self._clock = clock

    def invites(self, after: str, limit: int) -> Deferred[Json]:
        """A page of invites."""

        def page(reader: Reader) -> Json:
            rows = invites.page(reader, after, limit)
            now = self._clock.now()
            listed = [
                {
                    "id": row.id,
                    "name": row.name,
                    "roles": list(row.roles),
                    "state": invites.state(row, now),
                    "expires_at": row.expires_at,
                    "created_by": row.created_by,
                    "used_serial": row.used_serial,
                }
                for row in rows
            ]
            return {"invites": listed, "next": rows[-1].id if len(rows) == limit else None}

        return self._store.read(page)

    def enrolments(self, after: str, limit: int) -> Deferred[Json]:
        """A page of joins by invites that need approval."""

        def page(reader: Reader) -> Json:
            rows = enrolments.page(reader, after, limit)
            listed = [
                {
                    "id": row.id,
                    "name": name,
                    "roles": json.loads(roles),
                    "node_key": row.node_key,
                    "state": row.state,
                    "requested_at": row.requested_at,
                    "decided_by": row.decided_by,
                    "decided_at": row.decided_at,
                }
                for row, name, roles in rows
            ]
            return {"enrolments": listed, "next": rows[-1][0].id if len(rows) == limit else None}

        return self._store.read(page)

    def nodes(self, after: str, limit: int) -> Deferred[Json]:
        """A page of members."""

        def page(reader: Reader) -> Json:
            rows = [self._newest(row) for row in nodes.page(reader, after, limit)]
            listed = [
                {
                    "name": row.name,
                    "node_id": row.node_id,
                    "roles": list(row.roles),
                    "serial": row.serial,
                    "not_after": row.not_after,
                    "revoked": row.barred_at is not None,
                    "last_seen": row.last_seen,
                    "numbers": None if row.numbers is None else msgspec.Raw(row.numbers.encode()),
                }
                for row in rows
            ]
            return {"nodes": listed, "next": rows[-1].name if len(rows) == limit else None}

        return self._store.read(page)

    def _newest(self, row: NodeRow) -> NodeRow:
        """With what its newest heartbeat said, though that may not be written down yet."""
        heard = self._presence.unwritten(row.node_id)
        return row if heard is None else msgspec.structs.replace(row, last_seen=heard[0], numbers=heard[1])

    def certificates(self, after: int, limit: int) -> Deferred[Json]:
        """A page of certificates."""

        def page(reader: Reader) -> Json:
            rows = certificates.page(reader, after, limit)
            listed = [
                {
                    "serial": row.serial,
                    "name": row.name,
                    "node_id": row.node_id,
                    "not_before": row.not_before,
                    "not_after": row.not_after,
                    "revoked_at": row.revoked_at,
                    "reason": None if row.reason is None else RevocationReason(row.reason).slug,
                }
                for row in rows
            ]
            return {"certificates": listed, "next": rows[-1].serial if len(rows) == limit else None}

        return self._store.read(page)

    def certificate(self, serial: int) -> Deferred[bytes]:
        """One certificate in file form. @raise RequestRefused: C{not-found}."""

        def get(reader: Reader) -> bytes:
            row = certificates.get(reader, serial)
            if row is None:
                raise RequestRefused("not-found", "no certificate has this serial")
            return row.document

        return self._store.read(get)

    def audit(self, after: int, limit: int) -> Deferred[Json]:
        """A page of the audit chain."""

        def page(reader: Reader) -> Json:
            rows = audit_rows.page(reader, after, limit)
            listed = [
                {"seq": seq, "hash": digest.hex(), "row": msgspec.Raw(entry)} for seq, entry, digest in rows
            ]
            size, head = reader.audit_head
            return {
                "entries": listed,
                "size": size,
                "head": head.hex(),
                "next": rows[-1][0] if len(rows) == limit else None,
            }

        return self._store.read(page)

    def explain(self, source: str, target: str, service: str) -> Deferred[Json]:
        """
        May C{source} reach C{service} of C{target}, under the policy in force, and by which rule?

        @raise RequestRefused: C{not-found}, if one of them is no member; C{invalid-field}.
        """
        if not is_service(service):
            raise RequestRefused("invalid-field", "?service= must name a service")

        def explain(reader: Reader) -> Json:
            policy = self._issuer.in_force(reader)
            ends = {"source": _member(reader, source), "target": _member(reader, target)}
            one, other = (Subject(row.name, frozenset(row.roles)) for row in ends.values())
            decision = PolicyRules(policy.body).decide(one, other, service)
            return {
                "allowed": decision.allowed,
                "rule": decision.rule,
                "rule_text": None if decision.rule is None else policy.signed["rules"][decision.rule],
                "policy_version": policy.body.version,
                "service": service,
                **{
                    end: {
                        "name": row.name,
                        "roles": list(row.roles),
                        "revoked": row.barred_at is not None,
                    }
                    for end, row in ends.items()
                },
            }

        return self._store.read(explain)

    def operators(self) -> Deferred[Json]:
        """Everybody who may ask."""

        def page(reader: Reader) -> Json:
            return {
                "operators": [
                    {
                        "key_id": row.key_id,
                        "key": row.operator_key,
                        "role": row.role,
                        "name": row.name,
                        "added_at": row.added_at,
                        "added_by": row.added_by,
                    }
                    for row in operators.everyone(reader)
                ],
                "next": None,
            }

        return self._store.read(page)


def _member(reader: Reader, name: str) -> NodeRow:
    row = nodes.by_name(reader, name)
    if row is None:
        raise RequestRefused("not-found", f"no node is named {printable(name)}")
    return row
