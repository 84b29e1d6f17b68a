# SPDX-License-Identifier: MIT
"""
Everything that an authority decides, in random order, against a list of who decided what.

It goes on where L{Revoking} ends: operators of each role come and go and vote, invites wait for approval,
the authority's key is replaced, the clock is set back, the daemon restarts, the database is restored.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from authority.decisions import Truth
from authority.network import WHO_VOTES, Answered, Member
from authority.test_revoked_model import DAY, GRACE, PICK, Revoking
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test

from gmesh.authority import limits
from gmesh.authority.approval_rules import APPROVALS_FILE
from gmesh.authority.restore import Evidence
from gmesh.keyfiles import save_key
from gmesh.trust.ceremony import attach, rotate_authority, sign_detached
from gmesh.trust.documents import Document, Genesis, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey
from gmesh.trust.signed_requests import JOIN_TAG

VOTABLE = (*WHO_VOTES, "POST /admin/revocations", "POST /admin/policies")
ROLES = st.sampled_from(["read", "operate", "administer"])
NEVER = frozenset({"cert-revoked", "cert-expired"})
LOST = frozenset({"unknown-certificate", "name-taken", "enrolment-pending"})
"""What may become of a certificate of before a restore, beside being served."""


@dataclass
class Invited:
    """An invite: open, asked for (and waiting), approved, rejected, used or withdrawn."""

    place: int
    name: str
    member: Member
    approve: bool
    until: int
    state: str = "open"


class Deciding(Revoking):
    """L{Revoking}, with everybody else who decides something."""

    def __init__(self) -> None:
        super().__init__()
        network = self.network
        keys = network.keys
        self.second = keys.signing()
        body = {"key": b64url_encode(self.second.public), "role": "administer"}
        assert network.admin("POST", "/admin/operators", body).status == 201
        self.fresh = [keys.signing() for _ in range(4)]
        self.people = [keys.admin, self.second, keys.operator, keys.reader, *self.fresh]
        self.hand: SigningKey = keys.admin
        people = zip(self.people, ["administer", "administer", "operate", "read"], strict=False)
        self.truth = Truth({key.key_id: role for key, role in people})
        self.before = {serial for (serial,) in self.rows("SELECT serial FROM certificate")}
        self.invites: list[Invited] = []
        self.successor: Document[Genesis] | None = None
        self.dropped: list[SigningKey] = []
        self.backup: tuple[Path, Truth] | None = None
        self.again: Callable[[], object] = lambda: None

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Straight from the database."""
        found: list[tuple[Any, ...]] = []
        self.network.authority.store.read(lambda reader: reader.all(query)).addCallback(found.extend)
        return found

    @initialize(required=st.sampled_from([1, 2]))
    def begin(self, required: int) -> None:
        """One operator is enough, or what makes voters takes two; there are two members and a backup."""
        self.join()
        self.join()
        self.truth.required = required
        if required == 2:
            self.truth.votable = VOTABLE
            text = json.dumps({"required": 2, "operations": VOTABLE})
            (self.network.path / APPROVALS_FILE).write_text(text)
            self.network.restart()
        self.back_up()

    # Operators.

    def ask(
        self,
        method: str,
        target: str,
        value: Any,
        least: str,
        possible: bool,
        about: object = None,
        route: str = "",
    ) -> Answered | None:
        """Whoever's turn it is asks. @return: the answer if it was done, as it must have been."""
        network, operation = self.network, f"{method} {route or target}"
        asked = json.dumps([method, target, value], sort_keys=True)
        answer = network.admin(method, target, value, self.hand)
        expected = self.truth.ask(self.hand.key_id, operation, asked, least, possible, about, network.now)
        said = "waits" if answer.status == 202 else "done" if answer.status < 300 else "refused"
        assert said == expected, (method, target, value, answer.status, answer.body)
        assert answer.status < 500, answer.body
        return answer if said == "done" else None

    def revoke(self, value: dict[str, Any], changes: bool, about: object) -> bool:
        self.again = lambda: None
        return self.ask("POST", "/admin/revocations", value, "operate", changes, about) is not None

    @rule(number=PICK, able=st.booleans())
    def turn(self, number: int, able: bool) -> None:
        """Who asks from now on: an operator, a former one, or nobody's key."""
        roles = self.truth.roles
        among = [key for key in self.people if not able or roles.get(key.key_id) == "administer"]
        self.hand = among[number % len(among)]

    @precondition(lambda self: self.again)
    @rule(number=PICK, able=st.booleans())
    def agree(self, number: int, able: bool) -> None:
        """Somebody asks for the same as was asked for last."""
        self.turn(number, able)
        self.again()

    @rule(number=PICK, role=ROLES)
    def add_operator(self, number: int, role: str) -> None:
        """A key that may have been an operator's before."""
        self.again = lambda: self.add_operator(number, role)
        key = self.people[number % len(self.people)]
        new = key.key_id not in self.truth.roles and key.key_id not in self.truth.former
        body = {"key": b64url_encode(key.public), "role": role}
        if self.ask("POST", "/admin/operators", body, "administer", new):
            self.truth.roles[key.key_id] = role

    @rule(number=PICK)
    def remove_operator(self, number: int) -> None:
        """Neither oneself nor one of the last who may administer."""
        self.again = lambda: self.remove_operator(number)
        name, truth = self.people[number % len(self.people)].key_id, self.truth
        role = truth.roles.get(name)
        last = role == "administer" and truth.administrators() <= truth.required
        possible = role is not None and not last and name != self.hand.key_id
        target = f"/admin/operators/{name}"
        if self.ask("DELETE", target, None, "administer", possible, role, "/admin/operators/<id>"):
            self.leave(name)

    @rule(number=PICK, fresh=PICK)
    def replace_operator(self, number: int, fresh: int) -> None:
        """One's own key; an administrator's hand may replace anybody's."""
        self.again = lambda: self.replace_operator(number, fresh)
        name, truth = self.people[number % len(self.people)].key_id, self.truth
        key = self.fresh[fresh % len(self.fresh)]
        mine = name == self.hand.key_id or truth.roles.get(self.hand.key_id) == "administer"
        new = key.key_id not in truth.roles and key.key_id not in truth.former
        role = truth.roles.get(name)
        target, body = f"/admin/operators/{name}", {"key": b64url_encode(key.public)}
        possible = mine and new and role is not None
        if self.ask("POST", target, body, "", possible, role, "/admin/operators/<id>") and role:
            truth.roles[key.key_id] = role
            self.leave(name)

    def leave(self, name: str) -> None:
        del self.truth.roles[name]
        self.truth.former.add(name)
        left = (key for key in self.people if self.truth.roles.get(key.key_id) == "administer")
        self.network.keys.admin = next(left)

    @precondition(lambda self: self.members)
    @rule(number=PICK, compromised=st.booleans(), first=PICK, second=PICK)
    def revoke_together(self, number: int, compromised: bool, first: int, second: int) -> None:
        """Two ask for it, one after the other."""
        for hand in (first, second):
            self.turn(hand, True)
            self.revoke_node(number, compromised)

    # Invites.

    @rule(place=st.integers(0, 2), approve=st.booleans(), short=st.booleans())
    def invite(self, place: int, approve: bool, short: bool) -> None:
        """Somebody may join under a name that may be another's."""
        place = min(place, len(self.members))
        seed, ttl = self.network.keys.signing(), 3600 if short else 6 * DAY
        name = f"pump-{place}"
        value = {"invite_key": b64url_encode(seed.public), "name": name, "roles": ["client"]}
        value |= {"ttl": ttl, "approve": approve}
        if self.ask("POST", "/admin/invites", value, "operate", True):
            member = self.network.member(seed)
            self.invites.append(Invited(place, name, member, approve, self.network.now + ttl))

    @precondition(lambda self: self.invites)
    @rule(number=PICK)
    def use_invite(self, number: int) -> None:
        """A certificate for an open one, if the name is free; what waits for approval waits."""
        invite = self.invites[number % len(self.invites)]
        if invite.state == "used":
            return
        member, now = invite.member, self.network.now
        alive = invite.state in ("asked", "approved") or (invite.state == "open" and now < invite.until)
        free = invite.place == len(self.members) or (
            invite.place < len(self.members) and not self.lives(self.members[invite.place])
        )
        answer = self.network.join(member)
        if not alive or not free:
            assert answer.slug == ("name-taken" if alive else "enrolment-refused")
        elif invite.approve and invite.state != "approved":
            assert answer.status == 202
            invite.state = "asked"
        else:
            assert answer.status == 201
            invite.state = "used"
            self.members[invite.place : invite.place + 1] = [member]
            self.take(member)

    def lives(self, member: Member) -> bool:
        """Whether a name is still its."""
        assert member.certificate is not None
        ended = self.network.now > member.certificate.body.not_after + GRACE
        return member.node.key_id not in self.barred and not ended

    @precondition(lambda self: self.invites)
    @rule(number=PICK)
    def steal_invite(self, number: int) -> None:
        """Another host has read a used or withdrawn one."""
        invite = self.invites[number % len(self.invites)]
        if invite.state not in ("open", "asked"):
            thief = self.network.member(invite.member.invite.key)
            assert self.network.join(thief).slug == "enrolment-refused"

    @precondition(lambda self: self.invites)
    @rule(number=PICK, decision=st.sampled_from(["approve", "reject"]))
    def decide(self, number: int, decision: str) -> None:
        """An operator looks at what waits."""
        invite = self.invites[number % len(self.invites)]
        target = f"/admin/enrolments/{invite.member.invite.key.key_id}"
        body = {"decision": decision, "node_id": invite.member.node.key_id}
        if self.ask("POST", target, body, "operate", invite.state == "asked"):
            invite.state = "approved" if decision == "approve" else "rejected"

    @precondition(lambda self: self.invites)
    @rule(number=PICK)
    def withdraw_invite(self, number: int) -> None:
        """Worthless from then on, unless it was used."""
        invite = self.invites[number % len(self.invites)]
        target = f"/admin/invites/{invite.member.invite.key.key_id}"
        if self.ask("DELETE", target, None, "operate", invite.state not in ("used", "withdrawn")):
            invite.state = "withdrawn"

    # The genesis.

    @rule(stolen=st.booleans(), root=st.booleans())
    def publish_genesis(self, stolen: bool, root: bool) -> None:
        """Another authority key, signed by the root, or by whoever asks."""
        if len(self.chain) > 2:
            return
        self.again = lambda: self.publish_genesis(stolen, root)
        network, keys = self.network, self.network.keys
        if self.successor is None:
            self.new = keys.signing()
            save_key(network.path / f"authority-{len(self.chain) + 1}.key", self.new)
            self.successor = rotate_authority(
                self.chain[-1], network.now, add=self.new.public, valid_from=network.now, stolen=stolen
            )
            network.restart()
        signed = attach(self.successor, [sign_detached(self.successor, keys.root)], self.chain[-1])
        if not root:
            signed = sign_document(self.successor.body, [self.hand])
        body = {"genesis": signed.as_dict()}
        if self.ask("POST", "/admin/genesis", body, "administer", root, self.chain[-1].digest):
            listed = {entry.key for entry in signed.body.authority}
            if b64url_encode(keys.authority.public) not in listed:
                self.dropped.append(keys.authority)
            keys.authority, self.successor = self.new, None
            self.chain.append(signed)
            network.clock.advance(2)

    @precondition(lambda self: self.members)
    @rule(number=PICK, promoted=st.booleans(), own=st.booleans())
    def forge(self, number: int, promoted: bool, own: bool) -> None:
        """A certificate by an operator, or by an authority's key that was dropped, is worth nothing."""
        member = self.pick(number)
        genuine = member.certificate
        assert genuine is not None
        body = msgspec.structs.replace(
            genuine.body,
            serial=genuine.body.serial if own else 77,
            roles=("anchor",) if promoted else genuine.body.roles,
            not_after=genuine.body.not_after + DAY,
        )
        for signer in (self.hand, *self.dropped):
            member.certificate = sign_document(body, [signer])
            assert self.network.renew(member).slug in ("unknown-certificate", *NEVER)
        member.certificate = genuine

    # Time and accidents.

    @rule()
    def restart(self) -> None:
        """Whatever was decided is durable."""
        self.network.restart()

    @precondition(lambda self: self.members)
    @rule(number=PICK, hours=st.sampled_from([1, 23, 9000]))
    def clock_set_back(self, number: int, hours: int) -> None:
        """While it is wrong nothing is issued, whichever clock signs."""
        network, member = self.network, self.pick(number)
        stranger = network.invite("stranger")
        right = network.now
        network.offset -= hours * 3600
        for created in (right, network.now):
            headers, body = network.join_request(stranger)
            headers = network.signed(stranger.node, "POST", "/join", body, JOIN_TAG, created)
            assert network.ask("POST", "/join", headers, body).slug in ("clock-suspect", "stale")
        assert network.renew(member).slug in ("stale", "clock-suspect")
        network.offset += hours * 3600
        network.authority.clock.now()  # which sees the jump, and believes the time an hour later
        network.clock.advance(limits.CLOCK_SETTLE_SECONDS + 1)
        network.authority.clock.now()

    @rule()
    def back_up(self) -> None:
        """Of the database, and so of who may do what."""
        answer = self.network.admin("POST", "/admin/backup")
        assert answer.status == 201, answer.body
        self.network.clock.advance(1)
        self.backup = self.network.path / "backups" / answer.json["file"], deepcopy(self.truth)

    @precondition(lambda self: self.backup)
    @rule()
    def restore(self) -> None:
        """With what a node holds: what was revoked stays so, open invites and votes are gone."""
        assert self.backup is not None
        backup, then = self.backup
        network, files = self.network, []
        for kind in ("crl", "policy", "status"):
            files.append(self.path / f"{kind}.json")
            files[-1].write_bytes(network.ask("GET", f"/{kind}").body)
        network.stop()
        network.clock.advance(5)
        network.restore(backup, files[:1], files[1:2], evidence=Evidence(files[2:]))
        network.clock.advance(1)
        network.start()
        self.truth.former = then.former - self.truth.roles.keys()
        self.truth.proposals.clear()
        self.invites = []
        self.lost = LOST
        self.come_back()

    def come_back(self) -> None:
        """All members are heard of; only those that may not come back are not."""
        for member in self.members:
            assert member.certificate is not None
            body = member.certificate.body
            self.unknown.add(member.node.key_id)
            if self.lives(member) and not self.facts.revoked(body):
                answer = self.network.heartbeat(member)
                assert answer.status == 200, answer.body
                self.unknown.discard(member.node.key_id)
        known = {serial for (serial,) in self.rows("SELECT serial FROM certificate")}
        self.unknown |= {each.serial for each in self.issued} - known

    # What is true after each step.

    @invariant()
    def operators_are_those_who_were_named(self) -> None:
        """No other key may ask for anything."""
        assert (
            dict(self.rows("SELECT key_id, role FROM operator WHERE revoked_at IS NULL")) == self.truth.roles
        )

    @invariant()
    def no_vote_that_was_not_cast(self) -> None:
        """What waits, with whose votes."""
        shown: dict[tuple[str, str, str], set[str]] = {}
        for id, method, target, voter in self.rows(
            "SELECT id, method, target, approval_vote.key_id FROM approval"
            f" JOIN approval_vote ON approval_id = id WHERE expires_at > {self.network.now}"
        ):
            shown.setdefault((id, method, target), set()).add(voter)
        held = [
            (*json.loads(asked)[:2], sorted(proposal.voters))
            for asked, proposal in self.truth.proposals.items()
            if proposal.until > self.network.now
        ]
        assert sorted((*what[1:], sorted(votes)) for what, votes in shown.items()) == sorted(held)

    @invariant()
    def no_certificate_outside_the_model(self) -> None:
        """Each was handed out here, under that name, to that node; of some only the serial is known."""
        issued = {each.serial: (each.name, each.node_id) for each in self.issued}
        for serial, name, node_id in self.rows("SELECT serial, name, node_id FROM certificate"):
            assert (
                serial in self.before
                or issued[serial] == (name, node_id)
                or (not name and serial in self.facts.serials)
            )


def run(examples: int, steps: int, **more: Any) -> None:
    """So many orders of so many steps."""
    run_state_machine_as_test(
        Deciding, settings=settings(max_examples=examples, stateful_step_count=steps, **more)
    )


def test_decisions_in_any_order() -> None:
    """No certificate outside the model, no revoked node renewed, no vote that was not cast."""
    run(10, 40)


@pytest.mark.soak
def test_decisions_in_many_orders() -> None:
    """The same in new orders each time, and longer ones."""
    run(1000, 60, derandomize=False)
