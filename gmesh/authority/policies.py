# SPDX-License-Identifier: MIT
"""Policies and the genesis: the versions, the publication of the next, and what the one in force allows."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from gmesh.authority import audit
from gmesh.authority.auth import Caller, RequestBody
from gmesh.authority.issuer import DocumentIssuer, PolicyText, policy_text
from gmesh.authority.published import Publisher
from gmesh.authority.replicas import check_signers
from gmesh.authority.store import documents, nodes
from gmesh.authority.store.nodes import NodeRow
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import RequestRefused
from gmesh.files import write_atomic
from gmesh.trust.documents import Document, Genesis, Policy, parse_document
from gmesh.trust.names import Number, is_service
from gmesh.trust.policy import PolicyRules, Subject
from gmesh.trust.verify import verify_genesis_chain

__all__ = ["GenesisBody", "Policies", "PolicyBody"]

Json = dict[str, Any]


class PolicyBody(RequestBody, frozen=True):
    """C{POST /admin/policies}: a new text, or an earlier version to return to."""

    text: dict[str, Any] | None = None
    version: Number | None = None
    expected_version: Number | None = None
    dry_run: bool = False


class GenesisBody(RequestBody, frozen=True):
    """C{POST /admin/genesis}: the next version, signed by the root keys."""

    genesis: dict[str, Any]


class Policies:
    """The use cases of administrators who set the rules."""

    def __init__(self, store: Store, issuer: DocumentIssuer, publisher: Publisher) -> None:
        self._store = store
        self._issuer = issuer
        self._publisher = publisher

    def publish(self, caller: Caller, body: PolicyBody) -> Deferred[Json]:
        """
        Publish a policy text, or that of an earlier version, under the next version.

        @raise DocumentRefused: C{invalid-field}, whatever the text breaks.
        @raise RequestRefused: C{conflict} if C{expected_version} is not the one in force; C{not-found}.
        """
        if (body.text is None) == (body.version is None):
            raise RequestRefused("invalid-field", "give either text, or the version to return to")

        def decide(tx: Transaction) -> Json:
            caller.claim(tx)
            held = self._issuer.in_force(tx).body.version
            tx.speaks_of(policy=held)
            if body.expected_version not in (None, held):
                raise RequestRefused("conflict", f"the policy in force is version {held} now")
            text = body.text if body.text is not None else self._text_of(tx, body.version or 0)
            if body.dry_run:
                raise DryRun({"version": None, "text": policy_text(self._issuer.next_policy(tx, text, ""))})
            return self._publish(tx, caller, text, "publish-policy")

        return self._store.decide(decide).addErrback(DryRun.answer)

    def page(self, before: int, limit: int) -> Deferred[Json]:
        """A page of versions, newest first."""

        def page(reader: Reader) -> Json:
            rows = documents.policies(reader, before, limit)
            listed = [{"version": row[0], "issued_at": row[1], "published_by": row[2]} for row in rows]
            return {"policies": listed, "next": rows[-1][0] if len(rows) == limit else None}

        return self._store.read(page)

    def one(self, version: int) -> Deferred[bytes]:
        """One version in file form. @raise RequestRefused: C{not-found}."""

        def get(reader: Reader) -> bytes:
            found = documents.policy(reader, version)
            if found is None:
                raise RequestRefused("not-found", "there is no policy of this version")
            return found

        return self._store.read(get)

    def explain(self, source: str, target: str, service: str) -> Deferred[Json]:
        """
        May C{source} reach C{service} of C{target}, under the policy in force, and by which rule?

        @raise RequestRefused: C{not-found}, if one of them is not a member; C{invalid-field}.
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

    def publish_genesis(self, caller: Caller, document: Document[Genesis]) -> Deferred[Json]:
        """
        Take the next version of the genesis: signed by the root keys of this one and of itself.

        The answer names the authority keys that it lists and that are not held here.

        @raise DocumentRefused: if the chain does not allow it.
        @raise RequestRefused: C{conflict} if none of the authority keys it lists is held here, or by another
            daemon of the same database.
        """

        def publish(tx: Transaction) -> Json:
            caller.claim(tx)
            chain = [parse_document(data, Genesis) for data in documents.genesis_chain(tx)]
            tx.speaks_of(genesis=chain[-1].digest)
            verify_genesis_chain([*chain, document], self._issuer.network_id, tx.now)
            if not self._issuer.keys.listed(document.body):
                raise RequestRefused(
                    "conflict",
                    "no key held here is listed in it: put the new key into --state first",
                )
            self._issuer.keys.signer(document.body, tx.now)
            own = self._store.replica
            check_signers(tx, document.body, tx.now, but="" if own is None else own.boot)
            documents.add_genesis(tx, document.body.version, document.encode())
            version = document.body.version
            more = {"request_id": caller.request_id, "digest": document.digest}
            audit.record(tx, caller.key_id, "publish-genesis", str(version), "done", **more)
            state = self._store.state
            tx.at_last(lambda: write_atomic(state / f"genesis.{version - 1}.json", chain[-1].encode()))
            tx.at_last(lambda: write_atomic(state / "genesis.json", document.encode()))
            tx.after_commit(self._publisher.genesis_changed, document)
            lacking = self._issuer.keys.lacking(document.body, tx.now)
            return {"version": version, "digest": document.digest, "lacking": lacking}

        return self._store.decide(publish)

    def name_operators(self, tx: Transaction, caller: Caller) -> int:
        """
        Publish the policy in force again, with the operators as this transaction leaves them.

        @return: its version.
        """
        text = policy_text(self._issuer.in_force(tx))
        version: int = self._publish(tx, caller, text, "operators-policy")["version"]
        return version

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


def _member(reader: Reader, name: str) -> NodeRow:
    row = nodes.by_name(reader, name)
    if row is None:
        raise RequestRefused("not-found", f"no node is named {audit.printable(name)}")
    return row
