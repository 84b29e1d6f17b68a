# SPDX-License-Identifier: MIT
"""Members come, renew, are revoked in each way and come back: what the CRLs say against a list of facts."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from authority.network import Member, Network
from authority.revoked_nodes import DAY, list_nodes
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gmesh.authority.rate_limit import RateLimits, RequestRate
from gmesh.trust.documents import Certificate, Crl, CrlDelta, Document, parse_any_document, parse_document
from gmesh.trust.revocation import apply_delta
from gmesh.trust.state import TrustState

GRACE = 30 * DAY + 300
FREE = RequestRate(1_000_000, 1e8)
PICK = st.integers(0, 99)
MEMORY = Path("/dev/shm")
"""Where no commit waits for a disk, on Linux."""


@dataclass
class Facts:
    """What operators revoked, as they meant it: a node by the serials that it had then."""

    serials: set[int] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)

    def revoked(self, certificate: Certificate) -> bool:
        """Whether somebody revoked it."""
        return certificate.serial in self.serials or certificate.node_id in self.keys


class Revoking(RuleBasedStateMachine):
    """
    An authority, its members, and a reader who follows the CRL by deltas.

    @ivar lost: what may become of an old certificate, beside being served.
    @ivar unknown: serials and nodes that the database does not know.
    """

    lost: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.network = Network(self.path / "authority", RateLimits(FREE, FREE, FREE))
        list_nodes(self.network, 90)
        self.facts = Facts()
        self.members: list[Member] = []
        self.issued: list[Certificate] = []
        self.shown: list[tuple[Member, Document[Certificate]]] = []
        self.barred: set[str] = set()
        self.chain = [self.network.genesis]
        self.unknown: set[int | str] = set()
        self.reader = self.served()

    def teardown(self) -> None:
        """Nothing is left."""
        self.network.stop()
        shutil.rmtree(self.path)

    def served(self) -> Document[Crl]:
        return parse_document(self.network.ask("GET", "/crl").body, Crl)

    def take(self, member: Member) -> None:
        """It has a new certificate."""
        assert member.certificate is not None
        self.issued.append(member.certificate.body)
        self.shown.append((member, member.certificate))

    def pick(self, number: int) -> Member:
        return self.members[number % len(self.members)]

    def revoke(self, value: dict[str, Any], changes: bool, about: object) -> bool:
        """
        @param changes: whether anything of it was not revoked before.
        @param about: what it speaks of.
        @return: whether it was done.
        """
        answer = self.network.admin("POST", "/admin/revocations", value)
        assert answer.status == (201 if changes else 409)
        return changes

    @precondition(lambda self: len(self.members) < 3)
    @rule()
    def join(self) -> None:
        """A new host."""
        member = self.network.joined(f"pump-{len(self.members)}")
        self.members.append(member)
        self.take(member)

    @precondition(lambda self: self.members)
    @rule(number=PICK)
    def renew(self, number: int) -> None:
        """Half a day later; whoever may not is told why."""
        self.network.clock.advance(DAY / 2)
        member = self.pick(number)
        assert member.certificate is not None
        answer = self.network.renew(member)
        if self.network.now > member.certificate.body.not_after + GRACE:
            assert answer.slug in {"cert-expired", "cert-revoked"} | self.lost
        elif member.node.key_id in self.barred or self.facts.revoked(member.certificate.body):
            assert answer.slug in {"cert-revoked"} | self.lost
        else:
            assert answer.status == 201, answer.body
            member.certificate = certificate_of(answer.json["certificate"])
            self.take(member)

    @precondition(lambda self: self.members)
    @rule(number=PICK, compromised=st.booleans())
    def revoke_node(self, number: int, compromised: bool) -> None:
        """By its name; a thief may have its key."""
        member = self.pick(number)
        node_id = member.node.key_id
        if node_id in self.unknown:
            return
        changes = node_id not in self.barred or (compromised and node_id not in self.facts.keys)
        body = {"node": self.named(member), **({"reason": "key-compromise"} if compromised else {})}
        if self.revoke(body, changes, node_id):
            self.cut(node_id, compromised)

    @precondition(lambda self: self.members)
    @rule(number=PICK)
    def revoke_key(self, number: int) -> None:
        """By its id."""
        node_id = self.pick(number).node.key_id
        if node_id in self.unknown:
            return
        changes = node_id not in self.barred or node_id not in self.facts.keys
        if self.revoke({"key": node_id}, changes, node_id):
            self.cut(node_id, True)

    def cut(self, node_id: str, key: bool) -> None:
        self.barred.add(node_id)
        self.facts.serials |= {each.serial for each in self.issued if each.node_id == node_id}
        if key:
            self.facts.keys.add(node_id)

    @precondition(lambda self: self.issued)
    @rule(number=PICK)
    def revoke_serial(self, number: int) -> None:
        """One certificate, perhaps a superseded one, that is still kept."""
        certificate = self.issued[number % len(self.issued)]
        if self.network.now <= certificate.not_after + GRACE and certificate.serial not in self.unknown:
            serial, changes = certificate.serial, not self.facts.revoked(certificate)
            if self.revoke({"serial": serial}, changes, serial):
                self.facts.serials.add(serial)

    @precondition(lambda self: self.members)
    @rule(number=PICK)
    def join_again(self, number: int) -> None:
        """With the same name and key, where an operator wants it back."""
        member = self.pick(number)
        again = self.network.invite(self.named(member))
        again.node, again.noise = member.node, member.noise
        answer = self.network.join(again)
        if member.node.key_id in self.facts.keys:
            assert answer.slug == "cert-revoked"
        else:
            assert answer.status == 201
            self.members[self.members.index(member)] = again
            self.barred.discard(member.node.key_id)
            self.unknown.discard(member.node.key_id)
            self.take(again)

    def named(self, member: Member) -> str:
        return f"pump-{self.members.index(member)}"

    @rule(days=st.sampled_from([1, 9, 30, 32]))
    def wait(self, days: int) -> None:
        """Things end, CRLs are made anew, rows are pruned."""
        self.network.clock.advance(days * DAY)
        self.network.clock.advance(30)

    @precondition(lambda self: self.shown)
    @rule(number=PICK)
    def show(self, number: int) -> None:
        """A member is heard of under any certificate that it ever had."""
        member, certificate = self.shown[number % len(self.shown)]
        newest, member.certificate = member.certificate, certificate
        answer = self.network.heartbeat(member)
        member.certificate = newest
        if self.network.now > certificate.body.not_after + GRACE:
            assert answer.slug in ("cert-expired", "cert-revoked", "unknown-certificate")
        elif self.facts.revoked(certificate.body):
            assert answer.slug in {"cert-revoked"} | self.lost
        elif answer.status != 200:
            assert answer.slug in self.lost
        else:
            self.unknown.discard(certificate.body.serial)

    @rule()
    def follow(self) -> None:
        """By one delta from where the reader was, or by the whole: the same bytes."""
        got = parse_any_document(self.network.ask("GET", f"/crl?since={self.reader.body.number}").body)
        if isinstance(got.body, CrlDelta):
            got = apply_delta(self.reader, got)
        self.reader = got
        assert self.reader.encode() == self.network.ask("GET", "/crl").body

    @invariant()
    def the_crl_says_what_was_meant(self) -> None:
        """Of each certificate that could still be believed or renewed; nothing is listed twice."""
        trust = TrustState(self.network.network_id, self.chain)
        crl = self.served()
        trust.offer(crl, self.network.now)
        for certificate in self.issued:
            if self.network.now <= certificate.not_after + GRACE:
                said = trust.revoked(certificate.serial, certificate.node_id)
                assert said is self.facts.revoked(certificate), certificate
        ours = {member.node.key_id for member in self.members}
        assert len([1 for entry in crl.body.revoked_nodes if entry[0] in ours]) <= len(ours)


def certificate_of(value: dict[str, Any]) -> Document[Certificate]:
    """A certificate inside an answer."""
    return parse_document(json.dumps(value).encode(), Certificate)


TestRevoking = Revoking.TestCase
TestRevoking.settings = settings(max_examples=10, stateful_step_count=25)
