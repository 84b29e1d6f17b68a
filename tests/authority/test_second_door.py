# SPDX-License-Identifier: MIT
"""
No second door to issuance: every way a certificate can come into being, tried with whatever an outsider has.

There is one way in, an invite that an operator made, and one way on, a certificate that this authority
is known to have given out.  The tables below have a row for each thing that looks like one of them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from authority.network import Answered, Member, Network
from authority.state_files import DAY
from authority.theft import Theft
from twisted.internet.defer import succeed

from gmesh.authority.history import History
from gmesh.authority.rate_limit import RateLimits, RequestRate
from gmesh.authority.restore import Evidence
from gmesh.errors import RequestRefused
from gmesh.node.authority_relay import _question
from gmesh.trust.documents import Certificate, Crl, Document, Policy, Status, parse_document, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import SigningKey
from gmesh.trust.signed_requests import JOIN_TAG, NODE_TAG

OTHER_NETWORK = "ab" * 16


class World:
    """
    A theft that was answered: C{theft.key} is dropped, the backup is of before.

    @ivar replaced: a host whose name another one has now: it was revoked.
    @ivar demoted: a relay that was made a client by a later invite; its certificate of before.
    """

    def __init__(self, theft: Theft) -> None:
        self.theft, self.network = theft, theft.network
        network = theft.network
        self.replaced = network.joined("pump-2", "anchor")
        network.admin("POST", "/admin/revocations", {"node": "pump-2"})
        network.joined("pump-2")
        self.demoted = network.joined("pump-3", "relay")
        anew = network.invite("pump-3")
        anew.node, anew.noise = self.demoted.node, self.demoted.noise
        assert network.join(anew).status == 201
        theft.rotate()

    def known(self) -> tuple[list[Any], list[Any]]:
        """Every certificate and every member that the authority vouches for."""
        certificates = self.network.admin("GET", "/admin/certificates?limit=500").json["certificates"]
        members = self.network.admin("GET", "/admin/nodes?limit=500").json["nodes"]
        return (
            [(row["serial"], row["name"], row["node_id"]) for row in certificates if row["node_id"]],
            [(row["name"], row["node_id"], row["roles"], row["revoked"]) for row in members],
        )


# What somebody shows as their certificate.


def shown(world: World, signer: SigningKey | None = None, **changed: Any) -> Member:
    return world.theft.intruder(signer, **changed)


def again(member: Member) -> Member:
    """The same host, to show something else."""
    other = Member(member.invite, member.node, member.noise)
    other.certificate = member.certificate
    return other


def stranger(world: World) -> Member:
    """Signed by a key that no genesis ever had."""
    return shown(world, world.network.keys.signing())


def unsigned(world: World) -> Member:
    """No signature."""
    member = shown(world)
    held = certificate_of(member)
    member.certificate = Document(held.body, held.signed, ())
    return member


def altered(world: World) -> Member:
    """A member's own, with the signature of the newest key, and other roles since."""
    member = again(world.theft.honest)
    answer = world.network.renew(member)
    held = parse_document(json.dumps(answer.json["certificate"]).encode(), Certificate)
    body = msgspec.structs.replace(held.body, roles=("anchor",))
    value = {"signed": msgspec.to_builtins(body), "signatures": held.as_dict()["signatures"]}
    member.certificate = parse_document(json.dumps(value).encode(), Certificate)
    return member


def another_key(world: World) -> Member:
    """A member's own, shown by somebody with another key."""
    member = shown(world)
    member.certificate = world.theft.honest.certificate
    return member


def dropped(world: World) -> Member:
    """By the stolen key, as if given out today."""
    return shown(world)


def dropped_and_ended(world: World) -> Member:
    """By the stolen key, ended within the grace."""
    end = world.network.now - 20 * DAY
    return shown(world, not_before=end - DAY, issued_at=end - DAY, not_after=end)


def back_dated(world: World) -> Member:
    """By the stolen key, from long before the theft, for a month to come."""
    begun = world.network.now - 300 * DAY
    return shown(world, not_before=begun, issued_at=begun, not_after=world.network.now + 29 * DAY)


def promoted(world: World) -> Member:
    """By the stolen key: a member's serial, name and keys, other roles."""
    member = again(world.theft.honest)
    body = msgspec.structs.replace(certificate_of(member).body, roles=("anchor",))
    member.certificate = sign_document(body, [world.theft.key])
    return member


def countersigned(world: World) -> Member:
    """By the stolen key and a stranger's."""
    member = shown(world)
    keys = [world.theft.key, world.network.keys.signing()]
    member.certificate = sign_document(certificate_of(member).body, keys)
    return member


def foreign(world: World) -> Member:
    """By the newest key, which a careless person uses for a second network, too."""
    return shown(world, world.theft.new, network_id=OTHER_NETWORK)


def ended(world: World) -> Member:
    """By the newest key, ended beyond the grace."""
    end = world.network.now - 40 * DAY
    return shown(world, world.theft.new, not_before=end - DAY, issued_at=end - DAY, not_after=end)


def to_come(world: World) -> Member:
    """By the newest key, under a serial that is not given out yet: of a twin, or a thief who is not known."""
    return shown(world, world.theft.new, serial=2**52)


def of_the_replaced(world: World) -> Member:
    """Genuine, of a host that was revoked."""
    return world.replaced


def certificate_of(member: Member) -> Document[Certificate]:
    assert member.certificate is not None
    return member.certificate


Shown = Callable[[World], Member]
BAD: list[Shown] = [
    stranger,
    unsigned,
    altered,
    another_key,
    dropped,
    dropped_and_ended,
    back_dated,
    promoted,
    countersigned,
    foreign,
    ended,
    to_come,
    of_the_replaced,
]


# Where it is shown.


def as_it_is(world: World) -> None:
    """The authority as the rotation left it."""


def restored(world: World) -> None:
    """From the backup of before, with files of nodes."""
    world.theft.restore_honestly()


def restored_with_the_audit(world: World) -> None:
    """With a node's status, too, so that the audit of the lost days counts."""
    files = [world.theft.held(Crl)], [world.theft.held(Policy)]
    world.theft.restore(*files, evidence=Evidence(statuses=[world.theft.held(Status)]))


def restored_twice(world: World) -> None:
    """The second time with the audit of the first."""
    restored_with_the_audit(world)
    world.network.clock.advance(5)
    restored_with_the_audit(world)


def migrated(world: World) -> None:
    """From the schema of before, which knew nothing of lost certificates."""
    world.network.stop()
    world.network.change(
        "DROP TABLE lost_certificate",
        "DROP TABLE readmission",
        "DELETE FROM migration WHERE name = 'lost_certificates'",
    )
    world.network.clock.advance(1)
    world.network.start()


PLACES = [
    as_it_is,
    restored,
    restored_with_the_audit,
    restored_twice,
    pytest.param(migrated, marks=pytest.mark.sqlite("migrates a file of an older release")),
]


# How it is sent.


def relayed(network: Network, member: Member, target: str, value: Any) -> Answered:
    """By way of an anchor, which passes on what C{_question} reads."""
    body = json.dumps(value).encode()
    headers = network.signed(member.node, "POST", target, body, NODE_TAG)
    question = {"ask": "00", "method": "POST", "target": target, "body": base64.b64encode(body).decode()}
    listed = [list(pair) for pair in headers.items()]
    parts = _question({**question, "headers": listed}, member.node.key_id)
    return network.ask(parts[1], parts[2], parts[3], parts[4])


def attempts(network: Network, member: Member) -> list[Answered]:
    """Heartbeat and renewal, straight and by an anchor, with the Noise key it has and with a new one."""
    answers = [network.heartbeat(member), network.renew(member), network.renew(member, network.keys.noise())]
    certificate = certificate_of(member).as_dict()
    renewal = {"certificate": certificate, "noise_key": b64url_encode(member.noise.public)}
    answers.append(relayed(network, member, "/renew", renewal))
    network.clock.advance(0.01)
    beat = {"certificate": certificate, "sent_ms": int(network.wall() * 1000)}
    return [*answers, relayed(network, member, "/heartbeat", beat)]


@pytest.fixture(autouse=True)
def every_way_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alarm that the first forged certificate raises would refuse all that come after it."""
    monkeypatch.setattr(History, "weigh_certificate", lambda history, shown: succeed(None))


@pytest.fixture
def rates() -> RateLimits:
    """Nobody is turned away for asking often: that is not what holds here."""
    many = RequestRate(10**6, 10**6)
    return RateLimits(many, many, many)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a1_no_certificate_comes_of_one_that_was_not_given_out(
    theft: Theft, place: Callable[[World], None]
) -> None:
    """Refused each way, and nothing new is vouched for; a member with fewer roles may go on with those."""
    world = World(theft)
    tried = [(make, make(world)) for make in BAD]
    place(world)
    network, before = world.network, world.known()
    for make, member in tried:
        for answer in attempts(network, member):
            said = (make.__name__, answer.status, answer.body)
            assert answer.status in (400, 401, 403) and answer.slug != "enrolment-pending", said
    assert world.known() == before
    demoted = [answer for answer in attempts(network, world.demoted) if answer.status in (200, 201)]
    assert len(demoted) >= 2 if place in (as_it_is, migrated) else demoted == []
    for answer in demoted:
        certificate = answer.json.get("certificate")
        assert certificate is None or certificate["signed"]["roles"] == ["client"]


# Joining.


def unknown_invite(network: Network) -> Member:
    """An invite that nobody made."""
    return network.member(network.keys.signing())


def by_the_authoritys_key(network: Network) -> Member:
    """The authority's key, stolen, is no invite."""
    return network.member(network.keys.authority)


def by_an_operators_key(network: Network) -> Member:
    """Nor is an operator's."""
    return network.member(network.keys.admin)


def expired(network: Network) -> Member:
    """One that ended."""
    member = network.invite("gate", "anchor", ttl=60)
    network.clock.advance(61)
    return member


def withdrawn(network: Network) -> Member:
    """One that an operator took back."""
    member = network.invite("gate", "anchor")
    invite = member.invite.key.key_id
    assert network.admin("DELETE", f"/admin/invites/{invite}").status == 204
    return member


def used(network: Network) -> Member:
    """One that somebody else used."""
    member = network.joined("gate", "anchor")
    return Member(member.invite, network.keys.signing(), network.keys.noise())


def used_with_that_key(network: Network) -> Member:
    """The same node key, another Noise key: a retry is the same request."""
    member = network.joined("gate", "anchor")
    return Member(member.invite, member.node, network.keys.noise())


def for_another_key(network: Network) -> Member:
    """One that was made for one node key."""
    return network.invite("gate", "anchor", node_key=b64url_encode(network.keys.signing().public))


def rejected(network: Network) -> Member:
    """An operator said no."""
    member = network.invite("gate", "anchor", approve=True)
    assert network.join(member).status == 202
    target = f"/admin/enrolments/{member.invite.key.key_id}"
    assert network.admin("POST", target, {"decision": "reject", "node_id": member.node.key_id}).status == 200
    return member


def approved_for_others(network: Network) -> Member:
    """An operator said yes to the keys of another host."""
    member = network.invite("gate", "anchor", approve=True)
    assert network.join(member).status == 202
    target = f"/admin/enrolments/{member.invite.key.key_id}"
    assert network.admin("POST", target, {"decision": "approve", "node_id": member.node.key_id}).status == 200
    return Member(member.invite, network.keys.signing(), network.keys.noise())


def pending(network: Network) -> Member:
    """Nobody has decided yet."""
    return network.invite("gate", "anchor", approve=True)


def retried_too_late(network: Network) -> Member:
    """A retry long after the invite's end."""
    member = network.joined("gate", "anchor", ttl=60)
    network.clock.advance(60 + 3601)
    return member


def retried_when_revoked(network: Network) -> Member:
    """A retry for a certificate that was revoked since."""
    member = network.joined("gate", "anchor")
    assert network.admin("POST", "/admin/revocations", {"node": "gate"}).status == 201
    return member


JOINERS = [
    unknown_invite,
    by_the_authoritys_key,
    by_an_operators_key,
    expired,
    withdrawn,
    used,
    used_with_that_key,
    for_another_key,
    rejected,
    approved_for_others,
    pending,
    retried_too_late,
    retried_when_revoked,
]


@pytest.mark.parametrize("make", JOINERS, ids=lambda make: make.__name__)
def test_a1_no_certificate_comes_of_an_invite_that_does_not_give_it(
    network: Network, make: Callable[[Network], Member]
) -> None:
    """Once or twice asked, nothing is issued, and nobody is a member who was not before."""
    member = make(network)
    before = network.admin("GET", "/admin/certificates").json, network.admin("GET", "/admin/nodes").json
    for _ in range(2):
        answer = network.join(member)
        assert answer.status == (202 if make is pending else 403), answer.body
        assert answer.status == 202 or answer.slug == "enrolment-refused"
    assert before == (
        network.admin("GET", "/admin/certificates").json,
        network.admin("GET", "/admin/nodes").json,
    )


def test_a1_a_join_of_another_time_or_hand_counts_nothing(network: Network) -> None:
    """Signed yesterday, by another hand, for another network, seen on its way, or sent by an anchor."""
    member = network.invite("gate", "anchor")
    headers, body = network.join_request(member)
    fields = ("urls", "genesis_version", "genesis_digest", "authority", "seed")
    invite = Invite(network_id=OTHER_NETWORK, **{name: getattr(member.invite, name) for name in fields})
    elsewhere = make_join_request(
        invite, member.node, member.noise.public, OTHER_NETWORK, network.now, network.entropy(16)
    ).encode()
    signed = network.signed(member.node, "POST", "/join", elsewhere, JOIN_TAG)
    assert network.ask("POST", "/join", signed, elsewhere).slug == "enrolment-refused"
    stolen = network.signed(network.keys.signing(), "POST", "/join", body, JOIN_TAG)
    assert network.ask("POST", "/join", stolen, body).status in (400, 401, 403)
    question = {"ask": "00", "method": "POST", "target": "/join", "body": base64.b64encode(body).decode()}
    with pytest.raises(RequestRefused, match="only what a node asks is passed on"):
        _question({**question, "headers": [list(pair) for pair in headers.items()]}, "5e" * 16)
    network.clock.advance(DAY)
    assert network.ask("POST", "/join", headers, body).slug in ("stale", "enrolment-refused")
    assert network.admin("GET", "/admin/certificates").json["certificates"] == []
    headers, body = network.join_request(network.invite("gate-2", "anchor"))
    assert network.ask("POST", "/join", headers, body).status == 201
    assert network.ask("POST", "/join", headers, body).slug == "replayed"
    assert len(network.admin("GET", "/admin/certificates").json["certificates"]) == 1


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_the_honest_go_on_in_all_these_places(theft: Theft, place: Callable[[World], None]) -> None:
    """Or the table above would be empty words: a member of the backup and one of the newest key renew."""
    world = World(theft)
    young = world.network.joined("pump-9", "relay")
    place(world)
    for member, roles in ((theft.honest, ["client"]), (young, ["relay"])):
        answer = world.network.renew(member)
        assert answer.status in (200, 201), answer.body
        assert answer.json["certificate"]["signed"]["roles"] == roles
