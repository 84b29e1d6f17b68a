# SPDX-License-Identifier: MIT
"""
Operators: whose keys may act, and in which role.

The policy names them, so adding or removing one publishes a policy in the same transaction.  The way back
in when the last administrator's key is lost is offline: anybody who can write the state directory holds the
authority's key anyway; L{recover_operator} only does it properly, with a policy that names the new operator
and a row in the audit.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta
from twisted.internet.defer import Deferred

from gmesh.authority import audit, limits
from gmesh.authority.approval_rules import read_rules
from gmesh.authority.approvals import Approvals
from gmesh.authority.auth import Caller, RequestBody
from gmesh.authority.database_copy import copy_end, explained
from gmesh.authority.issuer import policy_text
from gmesh.authority.policies import Policies
from gmesh.authority.state import LOCK, StateDirectory, check_state
from gmesh.authority.store import operators
from gmesh.authority.store.transaction import Reader, Transaction, transaction
from gmesh.authority.store.writer import Store
from gmesh.daemon.lock import StateLock
from gmesh.errors import ConfigurationError, RequestRefused
from gmesh.keyfiles import Passphrases
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import check_public, decode_public, key_id
from gmesh.trust.names import Key

__all__ = ["OperatorBody", "OperatorKeyBody", "Operators", "recover_operator"]

Json = dict[str, Any]


class OperatorBody(RequestBody, frozen=True):
    """C{POST /admin/operators}: a key and what it may do."""

    key: Key
    role: Literal["read", "operate", "administer"]
    name: Annotated[str, Meta(max_length=limits.REASON_CHARACTERS)] = ""


class OperatorKeyBody(RequestBody, frozen=True):
    """C{POST /admin/operators/<key_id>}: the key that takes its place."""

    key: Key


class Operators:
    """The use cases of administrators who name operators."""

    def __init__(self, store: Store, policies: Policies, approvals: Approvals) -> None:
        self._store = store
        self._policies = policies
        self._approvals = approvals

    def add(self, caller: Caller, body: OperatorBody) -> Deferred[Json]:
        """
        Let a key act, and publish the policy that says so.

        @raise RequestRefused: C{conflict} for a key that is, or was, an operator's.
        """
        name = key_id(decode_public(body.key))

        def decide(tx: Transaction) -> Json:
            caller.claim(tx)
            row = operators.OperatorRow(name, body.key, body.role, body.name, tx.now, caller.key_id)
            if not operators.add(tx, row):
                raise RequestRefused("conflict", "this key is, or was, an operator's: make a new one")
            audit.record(
                tx, caller.key_id, "add-operator", name, request_id=caller.request_id, role=body.role
            )
            version = self._policies.name_operators(tx, caller)
            return {"key_id": name, "role": body.role, "policy_version": version}

        return self._store.decide(decide)

    def remove(self, caller: Caller, name: str) -> Deferred[Json]:
        """
        Refuse a key from now on, and publish the policy without it.

        @raise RequestRefused: C{not-found}; C{last-administrator}; C{forbidden-role} for one's own key.
        """

        def decide(tx: Transaction) -> Json:
            caller.claim(tx)
            row = operators.get(tx, name)
            if row is None or row.revoked_at is not None:
                raise RequestRefused("not-found", "no operator has this key")
            tx.speaks_of(role=row.role)
            if row.role == "administer" and operators.administrators(tx) <= self._approvals.rules.required:
                raise RequestRefused(
                    "last-administrator", "too few would be left to administer: add one first"
                )
            if name == caller.key_id:
                raise RequestRefused(
                    "forbidden-role", "nobody may remove their own key: ask another operator"
                )
            operators.revoke(tx, name)
            audit.record(tx, caller.key_id, "remove-operator", name, request_id=caller.request_id)
            version = self._policies.name_operators(tx, caller)
            return {"key_id": name, "policy_version": version}

        return self._store.decide(decide)

    def replace(self, caller: Caller, name: str, body: OperatorKeyBody) -> Deferred[Json]:
        """
        Put a new key in the place of an operator's: by themselves, or by an administrator.

        @raise RequestRefused: C{forbidden-role}, C{not-found}; C{conflict} for a key that is, or was,
            an operator's.
        """
        new = key_id(decode_public(body.key))

        def decide(tx: Transaction) -> Json:
            caller.claim(tx)
            if name != caller.key_id and not operators.may(caller.role, "administer"):
                raise RequestRefused("forbidden-role", "you may replace your own key only")
            row = operators.get(tx, name)
            if row is None or row.revoked_at is not None:
                raise RequestRefused("not-found", "no operator has this key")
            tx.speaks_of(role=row.role)
            fresh = operators.OperatorRow(new, body.key, row.role, row.name, tx.now, caller.key_id)
            if not operators.add(tx, fresh):
                raise RequestRefused("conflict", "this key is, or was, an operator's: make a new one")
            operators.revoke(tx, name)
            audit.record(
                tx, caller.key_id, "replace-operator", name, request_id=caller.request_id, new_key=new
            )
            version = self._policies.name_operators(tx, caller)
            return {
                "key_id": new,
                "role": row.role,
                "replaces": name,
                "policy_version": version,
            }

        return self._store.decide(decide)

    def page(self) -> Deferred[Json]:
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


def recover_operator(
    state: Path,
    public: bytes,
    name: str,
    now: int,
    passphrases: Passphrases | None = None,
    engine: Any = None,
) -> int:
    """
    Let a key administer; every daemon of the database must be stopped.

    @param public: the new operator's key.
    @param passphrases: asked for the signing keys that are sealed.
    @param engine: L{gmesh.authority.interfaces.IEngine} of the database, if it is not the file in C{state}.
    @return: the version of the policy that names it.
    @raise ConfigurationError: C{in-use}; C{conflict} if the key administers already; C{missing-file}, for
        a directory without a database: none is made, for the authority has its own elsewhere.
    @raise StoreError: if the database cannot be used.
    """
    operator = key_id(check_public(public))
    check_state(state)
    lock = StateLock(state / LOCK, "gmesh-authority")
    try:
        directory = StateDirectory(state, now, passphrases, engine)
        engine = directory.engine
        if not engine.shared and not directory.database.exists():
            raise ConfigurationError(
                "missing-file",
                f"{directory.database} does not exist: name the database with --database or --database-file,"
                " or start the authority once",
            )
        nobody = copy_end(engine)
        with explained(nobody):
            if engine.shared:
                nobody.begin_source(alone=True)
        issuer = directory.issuer()
        directory.open(issuer, now, read_rules(state), shared=engine.shared)
        with explained(nobody), closing(engine.connect()) as connection, transaction(connection, now) as tx:
            held = operators.get(tx, operator)
            if held is not None and held.revoked_at is None and held.role == "administer":
                raise ConfigurationError("conflict", "this key administers already")
            operators.forget(tx, operator)
            row = operators.OperatorRow(operator, b64url_encode(public), "administer", name, now, "recovery")
            operators.add(tx, row)
            policy = issuer.next_policy(tx, policy_text(issuer.in_force(tx)), "recovery")
            audit.record(tx, "authority", "recover-operator", operator, policy=policy.body.version)
    finally:
        lock.release()
    return policy.body.version
