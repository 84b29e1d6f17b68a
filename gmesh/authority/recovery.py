# SPDX-License-Identifier: MIT
"""
The way back in when the last administrator's key is lost: offline, by whoever has the authority's host.

Whoever can write the state directory holds the authority's key anyway; this only does it properly,
with a policy that names the new operator and a row in the audit.
"""

from __future__ import annotations

from pathlib import Path

from gmesh.authority import audit
from gmesh.authority.issuer import policy_text
from gmesh.authority.state import LOCK, StateDirectory, check_state
from gmesh.authority.store import engine, operators
from gmesh.authority.store.transaction import transaction
from gmesh.daemon.lock import StateLock
from gmesh.errors import ConfigurationError
from gmesh.keyfiles import Passphrases
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import check_public, key_id

__all__ = ["recover_operator"]


def recover_operator(
    state: Path, public: bytes, name: str, now: int, passphrases: Passphrases | None = None
) -> int:
    """
    Let a key administer; the daemon must be stopped.

    @param public: the new operator's key.
    @param passphrases: asked for the signing keys that are sealed.
    @return: the version of the policy that names it.
    @raise ConfigurationError: C{in-use}; C{conflict} if the key administers already.
    @raise StoreError: if the database cannot be used.
    """
    operator = key_id(check_public(public))
    check_state(state)
    lock = StateLock(state / LOCK, "gmesh-authority")
    try:
        directory = StateDirectory(state, now, passphrases)
        issuer = directory.issuer()
        directory.open(issuer, now)
        connection = engine.connect(directory.database)
        try:
            with transaction(connection, now) as tx:
                held = operators.get(tx, operator)
                if held is not None and held.revoked_at is None and held.role == "administer":
                    raise ConfigurationError("conflict", "this key administers already")
                operators.forget(tx, operator)
                row = operators.OperatorRow(
                    operator, b64url_encode(public), "administer", name, now, "recovery"
                )
                operators.add(tx, row)
                policy = issuer.next_policy(tx, policy_text(issuer.in_force(tx)), "recovery")
                audit.record(tx, "authority", "recover-operator", operator, policy=policy.body.version)
        finally:
            connection.close()
    except engine.EngineError as error:
        raise engine.explain(error, state) from error
    finally:
        lock.release()
    return policy.body.version
