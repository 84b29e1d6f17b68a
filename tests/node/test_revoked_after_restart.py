# SPDX-License-Identifier: MIT
"""Who was revoked is known after a restart: by name, and even when the CRL was lost from the disk."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from node.managed_mesh import ManagedMesh, managed_line

from gmesh.errors import PeerRefused, SendRefused
from gmesh.node.node_state import NodeState


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    """a - b - c; c is revoked, then the authority goes away and b restarts."""
    with managed_line(seed=71, settle=0) as made:
        made.authority.revoke(made["c"].enrolled)
        made.run(90)
        made.authority.up = False
        yield made


def test_a_revoked_name_is_told_after_a_restart(mesh: ManagedMesh) -> None:
    """Revoked, not unknown; and its handle is no hop of any path."""
    mesh["b"].restart()
    with pytest.raises(SendRefused) as refused:
        mesh.result(mesh["b"].runtime.datagrams.send("c", "log", b"x", timeout=5))
    assert refused.value.reason == "revoked"
    assert mesh["b"].runtime.directory.revoked(mesh["c"].handle)


def test_a_lost_crl_lets_nobody_in_again(mesh: ManagedMesh) -> None:
    """Until the CRL comes from the authority or a neighbour, those remembered are refused all the same."""
    for name in ("a", "b"):
        mesh.result(mesh[name].stop())
    mesh["b"].store.documents.pop("crl", None)
    with patch.object(mesh.issuer, "crl", mesh.issuer.policy):
        mesh["b"].runtime = mesh["b"]._make()
    trust = mesh["b"].runtime.member.trust
    assert trust.crl is None
    with pytest.raises(PeerRefused, match="is revoked"):
        trust.judge_certificate(mesh["c"].enrolled.certificate, mesh.wall())
    mesh["b"].start()
    mesh.run(60)
    assert mesh["b"].link_names == []
    mesh["a"].restart()
    mesh.run(90)
    assert mesh["b"].link_names == ["a"]
    assert mesh["b"].runtime.member.trust.crl is not None


def test_a_crl_decides_alone(mesh: ManagedMesh) -> None:
    """What it no longer lists is forgotten, whatever was remembered."""
    state = mesh["b"].store.state
    state.revoked = {"a": (mesh["a"].enrolled.node_key.key_id, mesh["a"].enrolled.certificate.body.serial)}
    mesh["b"].restart()
    assert not mesh["b"].runtime.directory.was_revoked("a")
    mesh.run(30)
    assert "a" in mesh["b"].link_names


def test_nonsense_is_not_remembered() -> None:
    """Damaged entries of state.json cost themselves only."""
    good = {"x": ("00" * 16, 3)}
    value = {"revoked": good | {"y": ["zz", 1], "z": 3, "w": ["00" * 16, "1"], "v": [1, 2]}}
    assert NodeState.from_dict(value).revoked == good
