# SPDX-License-Identifier: MIT
"""Policies and operators: versions only rise, the policy names the operators, one administrator stays."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gmesh.trust.documents import AuthorityKey, Crl, Policy, Status, parse_document, sign_document
from gmesh.trust.encoding import b64url_encode

TEXT = {
    "certificate": {"default": 3600, "max": 7200, "renew_grace": 600},
    "max_hops": 8,
    "max_nodes": 2,
    "rules": [],
    "control": {},
    "stale_grace": 60,
}


def in_force(network: Any) -> Policy:
    """The policy as served."""
    return parse_document(network.ask("GET", "/policy").body, Policy).body


def test_a_policy_is_published_and_ruled_by(network: Any) -> None:
    """The next version is served, named in the status, and the authority itself obeys it."""
    answer = network.admin("POST", "/admin/policies", {"text": TEXT})
    assert (answer.status, answer.json["version"]) == (201, 2)
    network.clock.advance(1)
    status = parse_document(network.ask("GET", "/status").body, Status).body
    assert (status.policy.version, status.policy.digest) == (2, answer.json["digest"])
    member = network.joined("pump-1")
    assert member.certificate.body.not_after - member.certificate.body.not_before == 3600
    network.joined("pump-2")
    assert network.join(network.invite("pump-3")).slug == "network-full"


def test_a_dry_run_publishes_nothing(network: Any) -> None:
    """A good text is shown as it would be, a bad one refused, and the version stays."""
    assert network.admin("POST", "/admin/policies", {"text": TEXT, "dry_run": True}).json["text"] == TEXT
    for bad in ({}, {**TEXT, "max_hops": 33}, {**TEXT, "version": 9}, {**TEXT, "rules": [{}]}):
        assert (
            network.admin("POST", "/admin/policies", {"text": bad, "dry_run": True}).slug == "invalid-field"
        )
    assert in_force(network).version == 1
    assert network.admin("POST", "/admin/policies", {"text": TEXT}).json["version"] == 2


@pytest.mark.parametrize(
    ("certificate", "status"),
    [
        ({"default": 3600, "max": 2**53 - 1, "renew_grace": 600}, 400),
        ({"default": 3600, "max": 30 * 86_400 + 1, "renew_grace": 600}, 400),
        ({"default": 3600, "max": 30 * 86_400, "renew_grace": 2**53 - 1}, 400),
        ({"default": 30 * 86_400, "max": 30 * 86_400, "renew_grace": 366 * 86_400}, 201),
    ],
)
def test_a21_a_certificate_lives_a_month_at_most(network: Any, certificate: Any, status: int) -> None:
    """No policy makes every later join fail, or a revoked certificate stay listed for ever."""
    answer = network.admin("POST", "/admin/policies", {"text": {**TEXT, "certificate": certificate}})
    assert answer.status == status, answer.body
    network.joined("pump-1")


def test_history_and_the_way_back(network: Any) -> None:
    """An earlier text comes back under a new version; whoever looked at an older one is told."""
    network.admin("POST", "/admin/policies", {"text": TEXT})
    stale = network.admin("POST", "/admin/policies", {"text": TEXT, "expected_version": 1})
    assert stale.slug == "conflict"
    assert network.admin("POST", "/admin/policies", {"version": 1}).json["version"] == 3
    assert in_force(network).max_hops == 16
    listed = network.admin("GET", "/admin/policies").json["policies"]
    assert [policy["version"] for policy in listed] == [3, 2, 1]
    earlier = network.admin("GET", "/admin/policies/2")
    assert parse_document(earlier.body, Policy).body.max_hops == 8
    assert network.admin("POST", "/admin/policies", {"version": 99}).slug == "not-found"


def successor(network: Any, current: Any, authority: tuple[AuthorityKey, ...]) -> Any:
    """The next genesis, with these signing keys."""
    body = msgspec.structs.replace(
        current.body,
        version=current.body.version + 1,
        network_id=network.network_id,
        previous=current.digest,
        authority=authority,
    )
    return sign_document(body, [network.keys.root])


def test_an_authority_key_is_rotated_without_anybody_enrolling_again(network: Any) -> None:
    """Genesis 2 lists both keys; when the new one's time has come it signs; genesis 3 drops the old one."""
    keys, first = network.keys, network.genesis
    new = keys.signing()
    member = network.joined("pump-1")

    def signers() -> set[str]:
        network.clock.advance(10)
        network.clock.advance(10)
        return {
            name
            for path, struct in (("/crl", Crl), ("/policy", Policy), ("/status", Status))
            for name, _ in parse_document(network.ask("GET", path).body, struct).signatures
        }

    (old_entry,) = first.body.authority
    begin = network.now + 48 * 3600
    new_entry = AuthorityKey(key=b64url_encode(new.public), valid_from=begin, valid_to=old_entry.valid_to)
    second = successor(network, first, (old_entry, new_entry))
    third = successor(network, second, (new_entry,))
    assert network.admin("POST", "/admin/genesis", {"genesis": third.as_dict()}).status == 400
    forged = sign_document(second.body, [keys.signing()])
    assert network.admin("POST", "/admin/genesis", {"genesis": forged.as_dict()}).status in (400, 401)
    assert network.admin("POST", "/admin/genesis", {"genesis": second.as_dict()}).json["version"] == 2
    assert network.ask("GET", "/genesis").body == second.encode()
    assert signers() == {keys.authority.key_id}
    key_file = network.path / "new.key"
    key_file.touch(0o600)
    key_file.write_bytes(new.to_pem())
    network.restart()
    assert network.ask("GET", "/genesis/1").body == first.encode()
    network.clock.advance(48 * 3600)
    assert signers() == {new.key_id}
    assert network.renew(member).json["certificate"]["signatures"][0]["key_id"] == new.key_id
    assert network.admin("POST", "/admin/genesis", {"genesis": third.as_dict()}).status == 201
    assert network.admin("GET", "/admin/nodes").slug == "bad-audience"
    keys.authority = new
    assert network.admin("GET", "/admin/nodes").status == 200
    assert network.renew(member, keys.noise()).status == 201


def test_a4_the_first_renewal_after_a_rotation_is_free(network: Any) -> None:
    """A node that has used up its new Noise keys renews at once under the new signing key, once."""
    keys, first, new = network.keys, network.genesis, network.keys.signing()
    member = network.joined("pump-1")
    assert [network.renew(member, keys.noise()).status for _ in range(4)][-1] == 429
    (old_entry,) = first.body.authority
    entry = AuthorityKey(key=b64url_encode(new.public), valid_from=network.now, valid_to=old_entry.valid_to)
    key_file = network.path / "new.key"
    key_file.touch(0o600)
    key_file.write_bytes(new.to_pem())
    network.restart()
    second = successor(network, first, (entry,))
    assert network.admin("POST", "/admin/genesis", {"genesis": second.as_dict()}).status == 201
    keys.authority = new
    noise = keys.noise()
    free = network.renew(member, noise)
    assert free.status == 201
    assert free.json["certificate"]["signatures"][0]["key_id"] == new.key_id
    assert network.renew(member, noise).json == free.json
    assert network.renew(member, keys.noise()).status == 429


def test_the_policy_explains_itself(network: Any) -> None:
    """Who may reach what, and by which rule; a deny is named too, and so is no rule at all."""
    rules = [
        {"effect": "allow", "from": ["role:client"], "to": ["node:gate"], "services": ["*"]},
        {"effect": "deny", "from": ["*"], "to": ["*"], "services": ["ssh"]},
    ]
    text = {**json.loads((network.path / "policy-initial.json").read_bytes()), "rules": rules}
    assert network.admin("POST", "/admin/policies", {"text": text}).status == 201
    network.joined("pump-1")
    network.joined("gate", role="anchor")

    def explain(source: str, target: str, service: str) -> Any:
        asked = f"/admin/policies/explain?source={source}&target={target}&service={service}"
        return network.admin("GET", asked, key=network.keys.reader)

    allowed = explain("pump-1", "gate", "print").json
    assert (allowed["allowed"], allowed["rule"], allowed["rule_text"]) == (True, 0, rules[0])
    assert allowed["source"] == {"name": "pump-1", "roles": ["client"], "revoked": False}
    assert allowed["policy_version"] == 2
    denied = explain("pump-1", "gate", "ssh").json
    assert (denied["allowed"], denied["rule"], denied["rule_text"]) == (False, 1, rules[1])
    unmatched = explain("gate", "pump-1", "print").json
    assert (unmatched["allowed"], unmatched["rule"], unmatched["rule_text"]) == (False, None, None)
    assert explain("pump-1", "nobody", "print").slug == "not-found"
    assert explain("pump-1", "gate", "Print%20it").slug == "invalid-field"
