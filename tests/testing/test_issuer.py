# SPDX-License-Identifier: MIT
"""The authority of tests: what it signs is believed, and what it writes is a state directory."""

from __future__ import annotations

import stat
from pathlib import Path
from random import Random

import pytest

from gmesh.node.identity_store import IdentityStore
from gmesh.testing.issuer import DAY, Issuer
from gmesh.trust.state import TrustState
from gmesh.trust.verify import check_certificate

NOW = 1_800_000_000.0


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(lambda: NOW, Random(3))


def test_what_it_signs_is_believed(issuer: Issuer) -> None:
    """A node that holds its genesis takes its documents, the next policy, a revocation and a certificate."""
    trust = TrustState(issuer.network_id, issuer.genesis_chain)
    node = issuer.enrol("a", "relay")
    check_certificate(node.certificate, issuer.genesis.body, issuer.network_id, NOW)
    for document in (issuer.status, issuer.crl, issuer.policy):
        assert trust.offer(document, NOW)
    crl = issuer.revoke(node, key=True)
    policy = issuer.publish_policy()
    for document in (issuer.status, crl, policy):
        assert trust.offer(document, NOW)
    assert trust.revoked(node.certificate.body.serial, node.node_key.key_id)
    assert trust.policy == policy and policy.body.version == 2


def test_what_a_policy_changes_stays(issuer: Issuer) -> None:
    """A field keeps its value until it is given another; rules are those given, or allow everything."""
    assert issuer.publish_policy(max_hops=4).body.max_hops == 4
    later = issuer.publish_policy(stale_grace=DAY).body
    assert (later.max_hops, later.stale_grace, len(later.rules)) == (4, DAY, 1)
    assert issuer.status.body.policy.version == later.version == 3


@pytest.mark.parametrize("cached", [True, False])
def test_a_state_directory_it_writes_is_used(tmp_path: Path, cached: bool) -> None:
    """A node starts with it, keys are for the owner alone, and cached documents are there if asked for."""
    issuer = Issuer.unreachable()
    node = issuer.enrol("a", "anchor")
    issuer.write_state(node, tmp_path / "a", cached=cached)
    identity = IdentityStore(tmp_path / "a").load()
    assert identity.node_key.key_id == node.node_key.key_id
    assert identity.certificate == node.certificate
    assert [document.type for document in identity.documents] == (
        ["crl", "policy", "status"] if cached else []
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").glob("*.key")} == {0o600}
