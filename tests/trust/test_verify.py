# SPDX-License-Identifier: MIT
"""Thresholds, genesis chains, certificates, commands and receipts."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from trust.network import DAY, NOW, Network, authority_list, key, spelled

from gmesh.errors import DocumentRefused
from gmesh.trust.documents import (
    AuthorityKey,
    Command,
    Document,
    Operator,
    RootKeys,
    add_signature,
    sign_document,
)
from gmesh.trust.verify import (
    authority_keys,
    check_certificate,
    network_id,
    verify_by_authority,
    verify_command,
    verify_genesis_chain,
    verify_next_genesis,
    verify_receipt,
    verify_signatures,
    verify_stored_chain,
)


def refused(reason: str, function: Any, *arguments: Any) -> None:
    """Assert that the call is refused for C{reason}."""
    with pytest.raises(DocumentRefused) as caught:
        function(*arguments)
    assert caught.value.reason == reason, caught.value.detail


def keys(*names: str) -> dict[str, bytes]:
    """Public keys by key_id."""
    return {key(name).key_id: key(name).public for name in names}


def test_threshold_counts_distinct_known_keys() -> None:
    """Unknown signers are ignored, bad signatures do not count."""
    network = Network()
    document = sign_document(network.genesis.body, [key("a"), key("b"), key("stranger")])
    assert verify_signatures(document, keys("a", "b", "c"), 2) == {key("a").key_id, key("b").key_id}
    refused("bad-signature", verify_signatures, document, keys("a", "c"), 2)
    refused("unknown-key", verify_signatures, document, keys("c"), 1)
    forged = Document(document.body, document.signed, ((key("a").key_id, key("b").sign(b"")),))
    refused("bad-signature", verify_signatures, forged, keys("a"), 1)


def test_a_signature_does_not_count_for_another_key() -> None:
    """One key's signature under two names is one signature."""
    document = sign_document(Network().genesis.body, [key("a")])
    signature = document.signatures[0][1]
    doubled = Document(
        document.body, document.signed, ((key("a").key_id, signature), (key("b").key_id, signature))
    )
    refused("bad-signature", verify_signatures, doubled, keys("a", "b"), 2)


def test_network_id_is_the_digest_of_the_first_genesis() -> None:
    """16 bytes of SHA-256 of the signed part of version 1, and only of that."""
    network = Network()
    assert network.network_id == network.genesis.digest[:32]
    refused("not-first", network_id, network.next_genesis())


def test_chain_by_both_thresholds() -> None:
    """N+1 counts when enough keys of N and enough of N+1 signed."""
    network = Network(roots=("a", "b", "c"), threshold=2)
    network.next_genesis(signers=("a", "b", "d", "e"), roots=("d", "e"), threshold=2)
    network.next_genesis(signers=("d", "e"))
    assert verify_genesis_chain(network.chain, network.network_id, NOW) is network.genesis


@pytest.mark.parametrize(
    ("signers", "reason"),
    [
        (("a", "d", "e"), "bad-signature"),  # too few of the old
        (("a", "b", "d"), "bad-signature"),  # too few of the new
        (("d", "e"), "unknown-key"),  # none of the old
        (("a", "b", "c"), "unknown-key"),  # none of the new
    ],
)
def test_chain_needs_both_thresholds(signers: tuple[str, ...], reason: str) -> None:
    """One threshold alone is not enough."""
    network = Network(roots=("a", "b", "c"), threshold=2)
    document = network.next_genesis(signers=signers, roots=("d", "e"), threshold=2)
    refused(reason, verify_next_genesis, network.chain[0], document, network.network_id)


def test_chain_order() -> None:
    """Versions cannot be skipped, repeated or taken from another branch or network."""
    network, other = Network(), Network(authority=("other",))
    second = network.next_genesis()
    third = network.next_genesis()
    refused("version-gap", verify_next_genesis, network.chain[0], third)
    refused("version-gap", verify_next_genesis, second, second)
    refused("version-gap", verify_next_genesis, None, second)
    refused("wrong-network", verify_next_genesis, None, network.chain[0], other.network_id)
    refused("wrong-network", verify_next_genesis, other.genesis, second)
    refused("wrong-network", verify_next_genesis, network.chain[0], second, other.network_id)
    branch = Network()
    branch_second = branch.next_genesis(authority=("elsewhere",))
    refused("wrong-previous", verify_next_genesis, branch_second, third)
    refused("no-genesis", verify_genesis_chain, [], network.network_id)


def test_chain_expiry_counts_at_the_end_only() -> None:
    """An expired version in the middle is walked through, an expired last one refused."""
    network = Network()
    network.next_genesis(expires_at=NOW + 1)
    late = NOW + DAY
    refused("expired", verify_genesis_chain, network.chain, network.network_id, late)
    network.next_genesis()
    assert verify_genesis_chain(network.chain, network.network_id, late).body.version == 3


def test_stored_chain() -> None:
    """A chain that was verified before may start anywhere, but is not taken on faith."""
    network, other = Network(), Network(authority=("other",))
    network.next_genesis()
    network.next_genesis()
    assert verify_stored_chain(network.chain[1:], network.network_id) == network.chain[1:]
    assert verify_stored_chain(network.chain, network.network_id) == network.chain
    refused("no-genesis", verify_stored_chain, [], network.network_id)
    refused("wrong-network", verify_stored_chain, network.chain[1:], other.network_id)
    refused("version-gap", verify_stored_chain, [network.chain[0], network.chain[2]], network.network_id)
    unsigned = sign_document(network.chain[1].body, [])
    refused("unknown-key", verify_stored_chain, [unsigned], network.network_id)


def test_authority_keys_have_their_time() -> None:
    """A listed key counts from valid_from to valid_to, give or take the leeway."""
    network = Network()
    entry = AuthorityKey(key=spelled(key("next"))[0], valid_from=NOW + 2 * DAY, valid_to=NOW + 4 * DAY)
    listed = replace(network.genesis.body, authority=(*authority_list(("authority",)), entry))
    document = network.crl(signer=key("next"))
    for now in (NOW, NOW + 2 * DAY - 301, NOW + 4 * DAY + 301):
        refused("unknown-key", verify_by_authority, document, listed, now)
    for now in (NOW + 2 * DAY - 300, NOW + 3 * DAY, NOW + 4 * DAY + 300):
        assert verify_by_authority(document, listed, now) == {key("next").key_id}
    assert set(authority_keys(listed)) == {key("authority").key_id, key("next").key_id}


@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        (-301, "not-yet-valid"),
        (-300, None),
        (0, None),
        (DAY + 300, None),
        (DAY + 301, "expired"),
    ],
)
def test_certificate_validity(offset: int, reason: str | None) -> None:
    """Five minutes of leeway at both ends."""
    network = Network()
    document = network.certificate()
    arguments = (document, network.genesis.body, network.network_id, NOW + offset)
    if offset < 0:  # the authority key itself starts at NOW
        earlier = replace(network.genesis.body, authority=authority_list(("authority",), NOW - DAY))
        arguments = (document, earlier, network.network_id, NOW + offset)
    if reason is None:
        assert check_certificate(*arguments) == {network.authority.key_id}
    else:
        refused(reason, check_certificate, *arguments)


def test_certificate_refusals() -> None:
    """Network, signer, signature and node key are all checked."""
    network, other = Network(), Network(authority=("other",))
    genesis = network.genesis.body
    good = network.certificate()
    refused("wrong-network", check_certificate, good, genesis, other.network_id, NOW)
    stranger = network.certificate(signer=key("stranger"))
    refused("unknown-key", check_certificate, stranger, genesis, network.network_id, NOW)
    forged = Document(good.body, good.signed, ((network.authority.key_id, bytes(64)),))
    refused("bad-signature", check_certificate, forged, genesis, network.network_id, NOW)
    weak = network.certificate(node_key="AQ" + "A" * 41)
    refused("bad-key", check_certificate, weak, genesis, network.network_id, NOW)


def test_commands() -> None:
    """The authority may command; an operator as its role in the policy allows; nobody else."""
    network = Network()
    genesis, policy = network.genesis.body, network.policy().body
    arguments = (genesis, policy, network.network_id, NOW)

    def given(name: str, **changes: Any) -> Document[Command]:
        return add_signature(network.command(key(name), **changes), network.authority)

    assert verify_command(network.command(), *arguments) == "authority"
    assert verify_command(given("operator"), *arguments) == "operate"
    refused("forbidden-role", verify_command, given("operator", command="shutdown"), *arguments)
    refused("unknown-key", verify_command, given("stranger"), *arguments)
    refused("unknown-key", verify_command, given("operator"), genesis, None, network.network_id, NOW)
    refused("expired", verify_command, network.command(), genesis, policy, network.network_id, NOW + 3601)
    refused("wrong-network", verify_command, network.command(), genesis, policy, "0" * 32, NOW)


def test_a7_what_an_operator_alone_signed_is_no_command() -> None:
    """Nor with a signature of the authority over something else, or by a key that the genesis dropped."""
    network = Network()
    arguments = (network.genesis.body, network.policy().body, network.network_id, NOW)
    alone, other = network.command(key("operator")), network.command(command="ping-report")
    refused("not-countersigned", verify_command, alone, *arguments)
    refused("not-countersigned", verify_command, network.command(key("stranger")), *arguments)
    borrowed = Document(alone.body, alone.signed, (*alone.signatures, *other.signatures))
    refused("bad-signature", verify_command, borrowed, *arguments)
    dropped = add_signature(alone, key("another authority"))
    refused("not-countersigned", verify_command, dropped, *arguments)


def test_a7_nobody_takes_the_operators_signature_off() -> None:
    """What names its operator is nothing by the authority's signature alone, or beside another operator's."""
    network = Network()
    policy = network.policy(
        operators=tuple(Operator(key=spelled(key(name))[0], role="operate") for name in ("operator", "other"))
    )
    arguments = (network.genesis.body, policy.body, network.network_id, NOW)
    named = add_signature(
        network.command(key("operator"), operator=key("operator").key_id), network.authority
    )
    assert verify_command(named, *arguments) == "operate"
    stripped = Document(named.body, named.signed, named.signatures[1:])
    refused("unknown-key", verify_command, stripped, *arguments)
    refused("unknown-key", verify_command, add_signature(stripped, key("other")), *arguments)
    refused("bad-signature", verify_command, stripped.with_signature(*_forged(named)), *arguments)


def _forged(document: Document[Any]) -> tuple[str, bytes]:
    return document.signatures[0][0], bytes(64)


def test_removed_operator_may_not_command() -> None:
    """A policy without the key ends its power; one with a higher role raises it."""
    network = Network()
    command = add_signature(network.command(key("operator"), command="shutdown"), network.authority)
    higher = network.policy(2, operators=(Operator(key=spelled(key("operator"))[0], role="administer"),)).body
    removed = network.policy(3, operators=()).body
    genesis = network.genesis.body
    assert verify_command(command, genesis, higher, network.network_id, NOW) == "administer"
    refused("unknown-key", verify_command, command, genesis, removed, network.network_id, NOW)


def test_receipts() -> None:
    """A receipt is the node's own, for its own network."""
    network = Network()
    receipt = network.receipt("node")
    verify_receipt(receipt, key("node").public, network.network_id)
    refused("unknown-key", verify_receipt, receipt, key("other").public, network.network_id)
    refused("wrong-network", verify_receipt, receipt, key("node").public, "0" * 32)


def test_threshold_of_one_among_many() -> None:
    """A root of three keys and threshold one is moved on by any of them."""
    network = Network(roots=("a", "b", "c"))
    document = network.next_genesis(signers=("b",))
    assert document.body.root == RootKeys(keys=spelled(key("a"), key("b"), key("c")), threshold=1)
    verify_next_genesis(network.chain[0], document, network.network_id, NOW)
