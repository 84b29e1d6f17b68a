# SPDX-License-Identifier: MIT
"""
Who may decide, and by which rules: operators and policies.

The policy names the operators, so adding or removing one publishes a policy in the same transaction.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from gmesh.authority import audit
from gmesh.authority.approvals import Approvals
from gmesh.authority.auth import Caller
from gmesh.authority.bodies import OperatorBody, OperatorKeyBody, PolicyBody
from gmesh.authority.issuer import Issuer, PolicyText, policy_text
from gmesh.authority.publisher import Publisher
from gmesh.authority.store import documents, operators
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import RequestRefused
from gmesh.files import write_atomic
from gmesh.trust.documents import Document, Genesis, Policy, parse_document
from gmesh.trust.keys import decode_public, key_id
from gmesh.trust.verify import verify_genesis_chain

__all__ = ["Governance"]

Json = dict[str, Any]


class Governance:
    """The use cases of administrators."""

    def __init__(self, store: Store, issuer: Issuer, publisher: Publisher, approvals: Approvals) -> None:
        self._store = store
        self._issuer = issuer
        self._publisher = publisher
        self._approvals = approvals
        self._state = store.path.parent

    def publish_policy(self, caller: Caller, body: PolicyBody) -> Deferred[Json]:
        """
        Publish a policy text, or that of an earlier version, under the next version.

        @raise DocumentRefused: C{invalid-field}, whatever the text breaks.
        @raise RequestRefused: C{conflict} if C{expected_version} is not the one in force; C{not-found}.
        """
        if (body.text is None) == (body.version is None):
            raise RequestRefused("invalid-field", "give either text, or the version to return to")

        def publish(tx: Transaction) -> Json:
            caller.claim(tx)
            held = self._issuer.in_force(tx).body.version
            if body.expected_version not in (None, held):
                raise RequestRefused("conflict", f"the policy in force is version {held} by now")
            text = body.text if body.text is not None else self._text_of(tx, body.version or 0)
            if body.dry_run:
                raise DryRun({"version": None, "text": policy_text(self._issuer.next_policy(tx, text, ""))})
            return self._publish(tx, caller, text, "publish-policy")

        return self._store.decide(publish).addErrback(DryRun.answer)

    def policies(self, before: int, limit: int) -> Deferred[Json]:
        """A page of versions, newest first."""

        def page(reader: Reader) -> Json:
            rows = documents.policies(reader, before, limit)
            listed = [{"version": row[0], "issued_at": row[1], "published_by": row[2]} for row in rows]
            return {"policies": listed, "next": rows[-1][0] if len(rows) == limit else None}

        return self._store.read(page)

    def policy(self, version: int) -> Deferred[bytes]:
        """One version in file form. @raise RequestRefused: C{not-found}."""

        def get(reader: Reader) -> bytes:
            found = documents.policy(reader, version)
            if found is None:
                raise RequestRefused("not-found", "there is no policy of this version")
            return found

        return self._store.read(get)

    def publish_genesis(self, caller: Caller, document: Document[Genesis]) -> Deferred[Json]:
        """
        Take the next version of the genesis: signed by the root keys of this one and of itself.

        @raise DocumentRefused: if the chain does not allow it.
        @raise RequestRefused: C{conflict} if none of the authority keys it lists is held here.
        """

        def publish(tx: Transaction) -> Json:
            caller.claim(tx)
            chain = [parse_document(data, Genesis) for data in documents.genesis_chain(tx)]
            verify_genesis_chain([*chain, document], self._issuer.network_id, tx.now)
            if not self._issuer.keys.listed(document.body):
                raise RequestRefused(
                    "conflict",
                    "no key held here is listed in it: put the new key into --state first",
                )
            self._issuer.keys.signer(document.body, tx.now)
            documents.add_genesis(tx, document.body.version, document.encode())
            version = document.body.version
            more = {"request_id": caller.request_id, "digest": document.digest}
            audit.record(tx, caller.key_id, "publish-genesis", str(version), "done", **more)
            write_atomic(self._state / f"genesis.{version - 1}.json", chain[-1].encode())
            write_atomic(self._state / "genesis.json", document.encode())
            tx.after_commit(self._publisher.genesis_changed, document)
            return {"version": version, "digest": document.digest}

        return self._store.decide(publish)

    def add_operator(self, caller: Caller, body: OperatorBody) -> Deferred[Json]:
        """
        Let a key act, and publish the policy that says so.

        @raise RequestRefused: C{conflict} for a key that is, or was, an operator's.
        """
        name = key_id(decode_public(body.key))

        def add(tx: Transaction) -> Json:
            caller.claim(tx)
            row = operators.OperatorRow(name, body.key, body.role, body.name, tx.now, caller.key_id)
            if not operators.add(tx, row):
                raise RequestRefused("conflict", "this key is, or was, an operator's: make a new one")
            audit.record(
                tx, caller.key_id, "add-operator", name, request_id=caller.request_id, role=body.role
            )
            published = self._publish(tx, caller, policy_text(self._issuer.in_force(tx)), "operators-policy")
            return {"key_id": name, "role": body.role, "policy_version": published["version"]}

        return self._store.decide(add)

    def remove_operator(self, caller: Caller, name: str) -> Deferred[Json]:
        """
        Refuse a key from now on, and publish the policy without it.

        @raise RequestRefused: C{not-found}; C{last-administrator}; C{forbidden-role} for one's own key.
        """

        def remove(tx: Transaction) -> Json:
            caller.claim(tx)
            row = operators.get(tx, name)
            if row is None or row.revoked_at is not None:
                raise RequestRefused("not-found", "no operator has this key")
            if row.role == "administer" and operators.administrators(tx) <= self._approvals.rules.required:
                raise RequestRefused(
                    "last-administrator", "too few would be left to administer: add one first"
                )
            if name == caller.key_id:
                raise RequestRefused("forbidden-role", "nobody removes his own key: ask another")
            operators.revoke(tx, name)
            audit.record(tx, caller.key_id, "remove-operator", name, request_id=caller.request_id)
            published = self._publish(tx, caller, policy_text(self._issuer.in_force(tx)), "operators-policy")
            return {"key_id": name, "policy_version": published["version"]}

        return self._store.decide(remove)

    def replace_operator(self, caller: Caller, name: str, body: OperatorKeyBody) -> Deferred[Json]:
        """
        Put a new key in the place of an operator's: by himself, or by an administrator.

        @raise RequestRefused: C{forbidden-role}, C{not-found}; C{conflict} for a key that is, or was,
            an operator's.
        """
        new = key_id(decode_public(body.key))

        def replace(tx: Transaction) -> Json:
            caller.claim(tx)
            if name != caller.key_id and not operators.may(caller.role, "administer"):
                raise RequestRefused("forbidden-role", "you may replace your own key only")
            row = operators.get(tx, name)
            if row is None or row.revoked_at is not None:
                raise RequestRefused("not-found", "no operator has this key")
            fresh = operators.OperatorRow(new, body.key, row.role, row.name, tx.now, caller.key_id)
            if not operators.add(tx, fresh):
                raise RequestRefused("conflict", "this key is, or was, an operator's: make a new one")
            operators.revoke(tx, name)
            audit.record(
                tx, caller.key_id, "replace-operator", name, request_id=caller.request_id, new_key=new
            )
            published = self._publish(tx, caller, policy_text(self._issuer.in_force(tx)), "operators-policy")
            return {
                "key_id": new,
                "role": row.role,
                "replaces": name,
                "policy_version": published["version"],
            }

        return self._store.decide(replace)

    def _publish(self, tx: Transaction, caller: Caller, text: PolicyText, action: str) -> Json:
        document = self._issuer.next_policy(tx, text, caller.key_id)
        version = document.body.version
        audit.record(
            tx, caller.key_id, action, str(version), request_id=caller.request_id, digest=document.digest
        )
        tx.after_commit(self._publisher.policy_changed, document)
        return {"version": version, "digest": document.digest}

    def _text_of(self, tx: Transaction, version: int) -> PolicyText:
        found = documents.policy(tx, version)
        if found is None:
            raise RequestRefused("not-found", "there is no policy of this version")
        return policy_text(parse_document(found, Policy))


class DryRun(Exception):
    """Carries an answer out of a decision that is to be rolled back."""

    def __init__(self, value: Json) -> None:
        super().__init__()
        self.value = value

    @staticmethod
    def answer(failure: Any) -> Json:
        """The answer, from the failure of the decision."""
        failure.trap(DryRun)
        value: Json = failure.value.value
        return value
