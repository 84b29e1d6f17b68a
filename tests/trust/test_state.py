# SPDX-License-Identifier: MIT
"""What one host believes: floors, rollback, freeze, fast-forward, mix and match, rotation."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from trust.network import DAY, NO_DIGEST, NOW, Network, key

from gmesh.errors import DocumentRefused, PeerRefused
from gmesh.trust.documents import (
    AuditHead,
    Document,
    NumberedDigest,
    PolicyFloor,
    add_signature,
    parse_document,
    sign_document,
)
from gmesh.trust.floors import Floors
from gmesh.trust.limits import EPOCH, MAX_NUMBER
from gmesh.trust.revocation import make_delta
from gmesh.trust.state import Freshness, TrustState

KINDS = ("crl", "policy", "status")


class Host(TrustState):
    """Keeps what it is told of changes and alarms."""

    def __init__(self, network: Network, floors: Any = None, chain: Any = None) -> None:
        self.told: list[str] = []
        self.alarms: list[str] = []
        super().__init__(
            network.network_id,
            chain or network.chain,
            floors,
            changed=self.told.append,
            alarm=lambda slug, detail: self.alarms.append(slug),
        )


def believe(network: Network, *documents: Document[Any], floors: Any = None) -> Host:
    """A host that believes these documents, and keeps what it is told from now on."""
    state = Host(network, floors)
    for document in documents:
        assert state.offer(document, NOW)
    state.told.clear()
    state.alarms.clear()
    return state


def refused(state: Host, document: Document[Any], reason: str, now: float = NOW) -> None:
    """Assert that C{document} is refused for C{reason} and that nothing changed."""
    before = (state.genesis_chain, state.crl, state.policy, state.status, state.to_floors())
    told = list(state.told)
    with pytest.raises(DocumentRefused) as caught:
        state.offer(document, now)
    assert caught.value.reason == reason, caught.value.detail
    assert (state.genesis_chain, state.crl, state.policy, state.status, state.to_floors()) == before
    assert state.told == told


def judged(state: TrustState, document: Document[Any], now: float = NOW) -> str:
    """The reason a certificate is refused for, or C{good}."""
    try:
        assert state.judge_certificate(document, now) is document.body
    except PeerRefused as error:
        return error.reason
    return "good"


def make(network: Network, kind: str, number: int, **changes: Any) -> Document[Any]:
    """A document of this kind and number."""
    document: Document[Any] = getattr(network, kind)(number, **changes)
    return document


@pytest.mark.parametrize("kind", KINDS)
def test_newer_documents_are_believed_at_once(kind: str) -> None:
    """A higher number with a good signature is applied and told; the same again is not."""
    network = Network()
    state = Host(network)
    for number in (1, 2, 9):
        document = make(network, kind, number)
        assert state.offer(document, NOW)
        assert getattr(state, kind) is document
        assert not state.offer(document, NOW)
    assert state.told == [kind] * 3
    assert state.to_floors()[kind] == {network.authority.key_id: 9}


@pytest.mark.parametrize("kind", KINDS)
def test_rollback(kind: str) -> None:
    """A lower number is refused, also by a host that kept only its floors."""
    network = Network()
    state = believe(network, make(network, kind, 5))
    refused(state, make(network, kind, 4), "rollback")
    reborn = believe(network, floors=state.to_floors())
    refused(reborn, make(network, kind, 4), "rollback")
    assert reborn.offer(make(network, kind, 5), NOW)


def test_genesis_rollback() -> None:
    """A host does not start below the genesis it held, nor take another one of a held version."""
    network = Network()
    first = list(network.chain)
    network.next_genesis()
    state = believe(network)
    with pytest.raises(DocumentRefused) as caught:
        TrustState(network.network_id, first, state.to_floors())
    assert caught.value.reason == "rollback"
    assert not state.offer(first[0], NOW)
    branch = Network()
    refused(state, branch.next_genesis(authority=("elsewhere",)), "rollback")


def test_freeze() -> None:
    """A status that ran out makes the host stale, then lapsed; nothing that is newer is stopped."""
    network = Network()
    status = network.status(expires_at=NOW + 3600)
    state = believe(network, network.policy(stale_grace=2 * DAY), network.crl())
    assert state.freshness(NOW) is Freshness.LAPSED
    policy = state.policy
    assert policy is not None
    assert state.offer(network.status(policy=policy, expires_at=NOW + 3600), NOW)
    assert state.freshness(NOW + 3600) is Freshness.FRESH
    assert state.freshness(NOW + 3601) is Freshness.STALE
    assert state.freshness(NOW + 3600 + 2 * DAY) is Freshness.STALE
    assert state.freshness(NOW + 3601 + 2 * DAY) is Freshness.LAPSED
    assert state.time_floor == NOW
    late = network.status(2, policy=policy, issued_at=NOW - 3 * DAY, expires_at=NOW - 2 * DAY)
    assert state.offer(late, NOW) and state.time_floor == NOW - 3 * DAY
    assert status.body.number == 1


def test_default_grace() -> None:
    """Without a policy the grace is seven days."""
    network = Network()
    state = believe(network, network.status())
    assert state.freshness(NOW + 3600 + 7 * DAY) is Freshness.STALE
    assert state.freshness(NOW + 3601 + 7 * DAY) is Freshness.LAPSED


@pytest.mark.parametrize("kind", KINDS)
def test_fast_forward(kind: str) -> None:
    """A thief's highest number is forgotten with the genesis that drops the stolen key."""
    network = Network(authority=("stolen",))
    state = believe(network, make(network, kind, MAX_NUMBER, signer=key("stolen")))
    refused(state, make(network, kind, 6, signer=key("stolen")), "rollback")
    rotated = network.next_genesis(authority=("fresh",))
    assert state.offer(rotated, NOW)
    assert state.told == ["genesis", kind] and getattr(state, kind) is None
    refused(state, make(network, kind, MAX_NUMBER, signer=key("stolen")), "unknown-key")
    assert state.offer(make(network, kind, 6, signer=key("fresh")), NOW)
    refused(state, make(network, kind, 5, signer=key("fresh")), "rollback")


@pytest.mark.parametrize("kind", KINDS)
def test_floors_hold_over_an_overlap(kind: str) -> None:
    """While old and new key are both listed, the new key cannot go below the old one's number."""
    network = Network(authority=("old",))
    state = believe(network, make(network, kind, 5, signer=key("old")))
    assert state.offer(network.next_genesis(authority=("old", "new")), NOW)
    assert getattr(state, kind) is not None
    refused(state, make(network, kind, 4, signer=key("new")), "rollback")
    assert state.offer(make(network, kind, 6, signer=key("new")), NOW)


def test_mix_and_match() -> None:
    """A document of the number a status names must be the one it names."""
    network = Network()
    crl, policy = network.crl(3), network.policy(5)
    state = believe(network, network.status(crl=crl, policy=policy))
    refused(state, network.crl(3, issued_at=NOW + 1), "digest-mismatch")
    refused(state, network.policy(5, max_hops=3), "digest-mismatch")
    assert state.alarms == ["digest-mismatch"] * 2
    assert state.offer(crl, NOW) and state.offer(policy, NOW)
    assert state.offer(network.crl(4), NOW), "a higher number needs no status"


def test_status_about_another_document() -> None:
    """A status that names another document than the one held under that number is refused."""
    network = Network()
    crl, policy = network.crl(3), network.policy(5)
    state = believe(network, crl, policy)
    refused(state, network.status(crl=network.crl(3, issued_at=NOW + 1), policy=policy), "digest-mismatch")
    refused(state, network.status(crl=crl, policy=network.policy(5, max_hops=3)), "digest-mismatch")
    wrong = replace(network.status(crl=crl, policy=policy).body.genesis, digest=NO_DIGEST)
    refused(state, network.status(crl=crl, policy=policy, genesis=wrong), "digest-mismatch")
    assert state.offer(network.status(crl=network.crl(4), policy=network.policy(6)), NOW)


@pytest.mark.parametrize("kind", KINDS)
def test_one_number_one_document(kind: str) -> None:
    """Two different documents of one number: the second is refused, and told."""
    network = Network()
    state = believe(network, make(network, kind, 5))
    refused(state, make(network, kind, 5, issued_at=NOW + 1), "digest-mismatch")
    assert state.alarms == ["digest-mismatch"]


def test_policy_floor_of_the_genesis() -> None:
    """The root can forbid old policies whoever signed them."""
    network = Network()
    network.next_genesis(policy=PolicyFloor(version=4))
    state = believe(network)
    refused(state, network.policy(3), "rollback")
    assert state.offer(network.policy(4), NOW)


@pytest.mark.parametrize("kind", KINDS)
def test_foreign_documents(kind: str) -> None:
    """Another network, an unknown signer and a broken signature are refused."""
    network, other = Network(), Network(roots=("other",))
    state = believe(network)
    refused(state, make(other, kind, 1), "wrong-network")
    refused(state, make(network, kind, 1, signer=key("stranger")), "unknown-key")
    good = make(network, kind, 1)
    forged = Document(good.body, good.signed, ((network.authority.key_id, bytes(64)),))
    refused(state, forged, "bad-signature")


def test_not_a_belief() -> None:
    """Certificates, commands and receipts are not offered."""
    network = Network()
    state = believe(network)
    for document in (network.certificate(), network.command(), network.receipt()):
        refused(state, document, "wrong-type")


def test_genesis_steps() -> None:
    """Genesis versions come one at a time, and those a peer lacks can be told."""
    network = Network()
    start = list(network.chain)
    second, third = network.next_genesis(), network.next_genesis()
    state = Host(network, chain=start)
    refused(state, third, "version-gap")
    assert state.offer(second, NOW) and state.offer(third, NOW)
    assert state.genesis is third
    assert state.genesis_chain == tuple(network.chain)
    assert state.genesis_after(1) == (second, third) and state.genesis_after(3) == ()
    assert state.to_floors()["genesis"] == 3


def test_genesis_refused() -> None:
    """A genesis the roots did not sign changes nothing."""
    network = Network()
    state = believe(network)
    refused(state, network.next_genesis(signers=("authority",), keep=False), "unknown-key")


def test_revocation() -> None:
    """Serials and keys of the CRL are revoked from the moment it is applied."""
    network = Network()
    good, serial, stolen = (network.certificate(name, serial=n) for n, name in enumerate(("a", "b", "c"), 1))
    state = believe(network)
    assert [judged(state, document) for document in (good, serial, stolen)] == ["good"] * 3
    state.offer(network.crl(1, [(2, NOW + DAY, 0)], [(key("c").key_id, NOW + DAY)]), NOW)
    assert [judged(state, document) for document in (good, serial, stolen)] == ["good", "revoked", "revoked"]
    assert state.revoked(2, key("a").key_id) and state.revoked(1, key("c").key_id)
    assert not state.revoked(1, key("a").key_id)
    state.offer(network.crl(EPOCH + 1), NOW)
    assert judged(state, serial) == "good", "whoever restored the authority said that this may be lost"


def test_revocation_survives_another_encoding() -> None:
    """A revoked certificate stays revoked however its bytes are spelled."""
    network = Network()
    certificate = network.certificate()
    state = believe(network, network.crl(1, [(7, NOW + DAY, 0)]))
    text = certificate.encode().replace(b":", b" : ").replace(b"relay", b"\\u0072elay")
    assert text != certificate.encode()
    assert judged(state, parse_document(text, type(certificate.body))) == "revoked"


def test_reasons_of_a_judgement() -> None:
    """Each kind of bad certificate has its own reason, the first time and every time."""
    network, other = Network(), Network(roots=("other",))
    state = believe(network)
    good = network.certificate()
    forged = Document(good.body, good.signed, ((network.authority.key_id, bytes(64)),))
    for _ in range(2):
        assert judged(state, other.certificate()) == "wrong-network"
        assert judged(state, good) == "good"
        assert judged(state, forged) == "bad-signature"
        assert judged(state, network.certificate(signer=key("stranger"))) == "unknown-key"
        assert judged(state, good, NOW + DAY + 301) == "expired"
        assert judged(state, network.certificate(not_before=NOW + 400), NOW) == "not-yet-valid"
        assert judged(state, network.certificate(node_key="AQ" + "A" * 41)) == "bad-key"


def test_rotation_forgets_verdicts() -> None:
    """A certificate of a dropped key is refused though it was found good before."""
    network = Network(authority=("old",))
    state = believe(network)
    certificate = network.certificate(signer=key("old"))
    assert judged(state, certificate) == "good"
    state.offer(network.next_genesis(authority=("old", "new")), NOW)
    assert judged(state, certificate) == "good"
    state.offer(network.next_genesis(authority=("new",)), NOW)
    assert judged(state, certificate) == "unknown-key"


def test_authority_key_ends() -> None:
    """A remembered verdict does not outlive the key that signed, nor the genesis."""
    network = Network()
    certificate = network.certificate(not_after=NOW + 5000 * DAY)
    state = believe(network)
    assert judged(state, certificate) == "good"
    assert judged(state, certificate, NOW + 3650 * DAY + 300) == "good"
    assert judged(state, certificate, NOW + 3650 * DAY + 301) == "expired"
    network.next_genesis(expires_at=NOW + 4000 * DAY)
    state = believe(network)
    assert judged(state, certificate) == "good"
    assert judged(state, certificate, NOW + 3650 * DAY + 301) == "unknown-key"


def test_delta() -> None:
    """A delta onto the CRL held gives the full one; onto another it is refused."""
    network = Network()
    old = network.crl(1, [(1, NOW + DAY, 0), (2, NOW - DAY, 0)])
    new = network.crl(2, [(1, NOW + DAY, 0), (3, NOW + DAY, 1)])
    delta = sign_document(make_delta(old.body, new, NOW), [network.authority])
    state = believe(network)
    refused(state, delta, "wrong-base")
    state.offer(old, NOW)
    assert state.offer(delta, NOW)
    assert state.crl == new and state.revoked(3, "") and not state.revoked(2, "")
    assert not state.offer(delta, NOW)
    state.offer(network.crl(5, new.body.revoked), NOW)
    assert not state.offer(delta, NOW)


def test_audit_watch() -> None:
    """A cut, forked or restored audit chain is told; the furthest head is kept."""
    network = Network()
    state = believe(network)
    heads = [(0, 10, "a", None), (0, 12, "b", None), (0, 12, "c", "audit-fork"), (0, 11, "a", "audit-fork")]
    heads += [(0, 13, "d", None), (2, 5, "e", "audit-epoch"), (2, 6, "f", None), (1, 99, "a", "audit-epoch")]
    for number, (epoch, size, letter, alarm) in enumerate(heads, 1):
        state.offer(network.status(number, audit=AuditHead(epoch=epoch, size=size, head=letter * 64)), NOW)
        assert state.alarms == ([alarm] if alarm else [])
        state.alarms.clear()
    assert state.floors.audit == AuditHead(epoch=2, size=6, head="f" * 64)


def test_d1_a_crl_that_forgot_who_is_revoked_is_refused() -> None:
    """A snapshot that was put back counts on, and its CRLs lack what was revoked meanwhile."""
    network = Network()
    barred = [(2, NOW + DAY, 1)], [(key("c").key_id, NOW + DAY)]
    for lacks in (([], barred[1]), (barred[0], [])):
        state = believe(network, network.crl(5, *barred))
        refused(state, network.crl(6, *lacks), "crl-fork")
        assert state.alarms == ["crl-fork"]
        assert state.revoked(2, "") and state.revoked(9, key("c").key_id)
        state.offer(network.crl(7, barred[0] + [(3, NOW + DAY, 1)], barred[1]), NOW)
        assert state.revoked(3, "")
        state.offer(network.crl(8, issued_at=NOW + DAY + 1), NOW)
        assert not state.revoked(2, ""), "its certificate has ended"
    node = key("d").key_id
    state = believe(network, network.crl(5, revoked_nodes=[(node, 9, NOW + DAY, 1)]))
    for lacks in ([], [(node, 8, NOW + DAY, 1)]):
        refused(state, network.crl(6, revoked_nodes=lacks), "crl-fork")
    state.offer(network.crl(7, revoked_nodes=[(node, 12, NOW + DAY, 1)]), NOW)
    assert state.revoked(11, node)


def test_a6_two_databases_in_one_epoch_are_told() -> None:
    """A restore raises the epoch; without that, both publish with one key."""
    network = Network()
    state = believe(network)
    for number, instance, alarm in (
        (1, 7, None),
        (2, 7, None),
        (3, 8, "instance-fork"),
        (EPOCH, 9, None),
        (EPOCH + 1, 9, None),
    ):
        state.offer(network.status(number, instance=instance), NOW)
        assert [slug for slug in state.alarms if slug == "instance-fork"] == ([alarm] if alarm else [])
        state.alarms.clear()


def test_a14_a_node_keeps_heads_of_long_ago_and_of_now() -> None:
    """Few of them, the first among them, and ever closer towards the newest; they survive a restart."""
    floors = Floors()
    for size in range(1, 10_001):
        floors.see_audit(AuditHead(epoch=0, size=size, head=f"{size:064x}"))
        assert len(floors.audits) <= 16
    floors = Floors.from_dict(floors.to_dict())
    sizes = [head.size for head in floors.audits]
    assert (sizes[0], sizes[-2:]) == (1, [9_999, 10_000]) and sizes == sorted(sizes)
    ages = [10_000 - size for size in sizes[:-1]]
    assert all(older <= 4 * younger for older, younger in pairwise(ages)), ages


def test_epoch_jump_is_told() -> None:
    """A number that skips a whole epoch is believed, and told."""
    network = Network()
    state = believe(network, network.crl(1))
    state.offer(network.crl(1 + EPOCH), NOW)
    assert state.alarms == []
    state.offer(network.crl(2 + 3 * EPOCH), NOW)
    assert state.alarms == ["epoch-jump"]


def test_commands_are_judged_by_the_policy_held() -> None:
    """An operator's command counts once its policy is held."""
    network = Network()
    state = believe(network)
    command = add_signature(network.command(key("operator")), network.authority)
    with pytest.raises(DocumentRefused):
        state.judge_command(command, NOW)
    state.offer(network.policy(), NOW)
    assert state.judge_command(command, NOW) == "operate"


def test_a8_a_number_far_above_what_the_status_names_is_refused() -> None:
    """Whoever signed it; as much as comes within the age of a status is taken."""
    network = Network()
    newest = NumberedDigest(number=EPOCH + 7, digest="0" * 64)
    state = believe(network, network.policy(), network.status(1, commands=newest))
    near = network.command(number=EPOCH + 7 + 64)
    far = network.command(number=EPOCH + 7 + 65)
    assert state.judge_command(near, NOW) == "authority"
    with pytest.raises(DocumentRefused) as refused:
        state.judge_command(far, NOW)
    assert refused.value.reason == "ahead"


def test_floors_round_trip() -> None:
    """Floors come back as they were stored; anything else is refused as bad-floors."""
    network = Network()
    state = believe(network, network.crl(3), network.status(4, crl=network.crl(3)))
    text = state.to_floors()
    assert Floors.from_dict(text).to_dict() == text
    for bad in ({"crl": {"x": 1}}, {"genesis": -1}, {"crl": {"0" * 32: 1.5}}, {"more": 1}, {"audit": {}}):
        with pytest.raises(DocumentRefused) as caught:
            Floors.from_dict(bad)
        assert caught.value.reason == "bad-floors"


class NaiveHost:
    """The rule of floors in one line: never below what any current key has shown."""

    def __init__(self) -> None:
        self.keys = {"a"}
        self.seen: dict[str, int] = {}
        self.held: tuple[int, str] | None = None

    def offer(self, number: int, signer: str) -> bool:
        floor = max((self.seen.get(name, 0) for name in self.keys), default=0)
        if signer not in self.keys or number < floor or (self.held is not None and number == self.held[0]):
            return False
        self.seen[signer] = number
        self.held = (number, signer)
        return True

    def rotate(self, keys: set[str]) -> None:
        self.keys = keys
        if self.held is not None and self.held[1] not in keys:
            self.held = None


STEPS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from("abc")) | st.sets(st.sampled_from("abc"), min_size=1),
    max_size=12,
)


@settings(max_examples=40)
@given(STEPS)
def test_floors_agree_with_the_rule(steps: list[Any]) -> None:
    """Over any sequence of CRLs and rotations the host agrees with a naive one."""
    network = Network(authority=("a",))
    state, naive = believe(network), NaiveHost()
    for step in steps:
        if isinstance(step, set):
            assert state.offer(network.next_genesis(authority=sorted(step)), NOW)
            naive.rotate(step)
            continue
        number, signer = step
        try:
            taken = state.offer(network.crl(number, signer=key(signer)), NOW)
        except DocumentRefused:
            taken = False
        assert taken == naive.offer(number, signer)
        assert (state.crl is None) == (naive.held is None)
