# SPDX-License-Identifier: MIT
"""The second key: what the authority's alone cannot do, and what it still can."""

from __future__ import annotations

import json
from typing import Any

import pytest
from trust.network import DAY, NOW, Network, key, noise_key, spelled

from gmesh.errors import DocumentRefused, PeerRefused
from gmesh.trust.documents import (
    Certificate,
    Document,
    Genesis,
    Policy,
    document_from_dict,
    encoded_digest,
    parse_document,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.state import TrustState


def state(network: Network) -> TrustState:
    return TrustState(network.network_id, network.chain)


def judged(trust: TrustState, document: Document[Certificate], now: float = NOW) -> str:
    """The reason of the refusal, or C{good}; as it comes from the wire."""
    try:
        trust.judge_certificate(parse_document(document.encode(), Certificate), now)
    except PeerRefused as error:
        return error.reason
    return "good"


@pytest.fixture(name="network")
def admitting() -> Network:
    network = Network()
    network.require_admission("admission")
    return network


def test_an_admission_is_asked_for_only_where_the_genesis_says_so(network: Network) -> None:
    """Without the field a certificate counts alone, with an admission or without."""
    plain = Network()
    for document in (plain.certificate(), plain.certificate().with_admission(plain.admission())):
        assert judged(state(plain), document) == "good"
    late = NOW + 1
    assert judged(state(network), network.certificate(), late) == "not-admitted"
    assert judged(state(network), network.certificate().with_admission(network.admission()), late) == "good"


def test_one_admission_serves_renewals_and_new_noise_keys(network: Network) -> None:
    """What is admitted is a node, not a certificate."""
    trust, admission = state(network), network.admission()
    renewals = ((7, "node", ("relay",)), (8, "other", ("client",)), (9, "third", ("relay", "client")))
    for serial, noise, roles in renewals:
        public = b64url_encode(noise_key(noise).public)
        renewed = network.certificate(serial=serial, noise_key=public, roles=roles)
        assert judged(trust, renewed.with_admission(admission), NOW + 1) == "good"


FORGED: dict[str, dict[str, Any]] = {
    "another name": {"name": "hub"},
    "more roles": {"roles": ("relay", "anchor")},
    "a new key": {"node_key": spelled(key("thief"))[0]},
}


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED)
def test_a_stolen_authority_key_admits_and_promotes_nobody(network: Network, changes: dict[str, Any]) -> None:
    """What it signs beside the admission that it has seen is refused, as is an admission that it signs."""
    said = {"node_key": spelled(key("node"))[0], "roles": ("relay",)} | changes
    forged = network.certificate(**said)
    own = network.admission(signer=network.authority, **said)
    for admission in (network.admission(), own, None):
        assert judged(state(network), forged.with_admission(admission), NOW + 1) == "not-admitted"


BAD: dict[str, dict[str, Any]] = {
    "another network": {"network_id": "0" * 32},
    "signed by nobody that is named": {"signer": key("thief")},
    "ended": {"not_after": NOW - 300},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
def test_bad_admissions(network: Network, changes: dict[str, Any]) -> None:
    """Of another network, by another key, ended."""
    document = network.certificate().with_admission(network.admission(**changes))
    assert judged(state(network), document, NOW + 1) == "not-admitted"


def test_an_altered_admission_is_refused(network: Network) -> None:
    """The signature is over all of it."""
    value = network.certificate().with_admission(network.admission()).as_dict()
    value["admission"]["signed"]["not_after"] += 1
    assert judged(state(network), document_from_dict(value, Certificate), NOW + 1) == "not-admitted"


def test_a_known_certificate_is_refused_once_its_admission_has_ended(network: Network) -> None:
    """A good verdict is remembered no longer than that, with the leeway of clocks."""
    trust, admission = state(network), network.admission(not_after=NOW + DAY)
    document = network.certificate(not_after=NOW + 9 * DAY).with_admission(admission)
    verdicts = [judged(trust, document, NOW + DAY + late) for late in (0, 300, 301)]
    assert verdicts == ["good", "good", "not-admitted"]


def test_a_good_verdict_says_nothing_of_the_same_certificate_without_admission(network: Network) -> None:
    """Nor of one with another."""
    trust, document = state(network), network.certificate()
    assert judged(trust, document.with_admission(network.admission()), NOW + 1) == "good"
    assert judged(trust, document, NOW + 1) == "not-admitted"
    assert judged(trust, document.with_admission(network.admission(name="hub")), NOW + 1) == "not-admitted"


def test_members_have_until_the_rule_begins(network: Network) -> None:
    """From then on one without is refused, also one that was known as good."""
    network.require_admission("admission", required_from=NOW + DAY)
    trust, document = state(network), network.certificate(not_after=NOW + 9 * DAY)
    verdicts = [judged(trust, document, NOW + DAY + late) for late in (-1, 0, 1)]
    assert verdicts == ["good", "good", "not-admitted"]


def test_two_keys_while_one_replaces_the_other(network: Network) -> None:
    """Both are good while the genesis names both; then the new one alone, at once."""
    trust, names = state(network), ("admission", "newer")
    old, new = (network.certificate().with_admission(network.admission(signer=key(name))) for name in names)

    def verdicts() -> list[str]:
        return [judged(trust, old, NOW + 1), judged(trust, new, NOW + 1)]

    assert verdicts() == ["good", "not-admitted"]
    trust.offer(network.require_admission(*names), NOW)
    assert verdicts() == ["good", "good"]
    trust.offer(network.require_admission("newer"), NOW)
    assert verdicts() == ["not-admitted", "good"]


def test_a_certificate_says_whether_it_outlives_its_admission(network: Network) -> None:
    """Then its node asks for one before it is refused."""
    trust, document = state(network), network.certificate()
    assert trust.outlives_admission(document)
    for days, outlives in ((0, True), (2, False)):
        admission = network.admission(not_after=NOW + days * DAY)
        assert trust.outlives_admission(document.with_admission(admission)) == outlives
    assert not state(Network()).outlives_admission(document)
    network.require_admission("admission", required_from=NOW + 999 * DAY)
    assert state(network).outlives_admission(document)


def test_the_file_form(network: Network) -> None:
    """The admission is a member of its own: the certificate is signed and named as without it."""
    plain = network.certificate()
    document = plain.with_admission(network.admission())
    value = json.loads(document.encode())
    assert set(value) == {"admission", "signatures", "signed"}
    assert value["admission"] == json.loads(network.admission().encode())
    assert parse_document(document.encode(), Certificate) == document != plain
    assert document_from_dict(document.as_dict(), Certificate).encode() == document.encode()
    assert document.digest == plain.digest == encoded_digest(plain.encode())
    assert document.with_admission(None).encode() == plain.encode()
    assert document.with_signature(network.authority.key_id, bytes(64)).admission == document.admission


@pytest.mark.parametrize("struct", [Policy, Genesis])
def test_no_other_document_has_one(network: Network, struct: Any) -> None:
    """It is refused like any unknown member."""
    document = network.policy() if struct is Policy else network.genesis
    value = document.as_dict() | {"admission": network.admission().as_dict()}
    with pytest.raises(DocumentRefused, match="signed and signatures only"):
        document_from_dict(value, struct)


def test_what_stands_there_is_an_admission(network: Network) -> None:
    """Not null, nor any other document."""
    for wrong in (None, network.policy().as_dict(), network.certificate().as_dict(), {}):
        with pytest.raises(DocumentRefused):
            document_from_dict(network.certificate().as_dict() | {"admission": wrong}, Certificate)


@pytest.mark.parametrize("names", [(), ("root",), ("authority",), ("a", "a"), ("a", "b", "c", "d", "e")])
def test_the_keys_of_the_rule(network: Network, names: tuple[str, ...]) -> None:
    """One to four, distinct, and none that has another task."""
    with pytest.raises(DocumentRefused, match="admission"):
        network.require_admission(*names)


def test_the_longest_certificate_with_the_longest_admission_fits(network: Network) -> None:
    """Sixteen roles of the longest names, in both."""
    roles = tuple(f"service:{number:02}{'x' * 61}" for number in range(16))
    long = {"name": "n" * 63, "roles": roles, "node_key": spelled(key("node"))[0], "not_after": 253402300799}
    document = network.certificate(**long, serial=2**52).with_admission(network.admission(**long))
    assert judged(state(network), document, NOW + 1) == "good"
