# SPDX-License-Identifier: MIT
"""The state directory: what a node starts with, and one clear line for each thing that is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gmesh.errors import ConfigurationError
from gmesh.node.identity_store import IdentityStore
from gmesh.node.node_state import NodeState
from gmesh.testing.issuer import Enrolled, Issuer
from gmesh.trust.keys import NoiseKey, SigningKey


def test_load_after_join(directory: Path, issuer: Issuer, node: Enrolled) -> None:
    """Everything that join wrote comes back, and nothing is invented."""
    identity = IdentityStore(directory).load()
    assert identity.node_key.key_id == node.node_key.key_id
    assert identity.noise_key.public == node.noise_key.public
    assert identity.certificate == node.certificate
    assert identity.network_id == issuer.network_id
    assert identity.genesis_chain == issuer.genesis_chain
    assert identity.documents == ()
    assert identity.floors == {}
    assert identity.state == NodeState()
    assert identity.authority_urls == ("http://first.example", "http://authority.example")


def test_documents_and_numbers_survive(directory: Path, issuer: Issuer) -> None:
    """What was saved is there after a restart, unknown entries of state.json too."""
    store = IdentityStore(directory)
    (directory / "state.json").write_text('{"record_sequence": 4, "seen_commands": ["x"]}')
    state = store.load().state
    state.handshake_number = 9
    store.save_state(state)
    store.save_floors({"genesis": 1})
    for document in issuer.documents:
        store.save_document(document)
    identity = IdentityStore(directory).load()
    assert identity.state == NodeState(4, 9, others={"seen_commands": ["x"]})
    assert identity.floors == {"genesis": 1}
    assert set(identity.documents) == set(issuer.documents)


def test_the_noise_key_that_the_certificate_names_is_used(
    directory: Path, node: Enrolled, another_noise_key: NoiseKey
) -> None:
    """noise.key may hold several blocks; writing keeps the mode."""
    store = IdentityStore(directory)
    store.save_noise_keys([node.noise_key, another_noise_key])
    assert (directory / "noise.key").stat().st_mode & 0o777 == 0o600
    assert store.load().noise_key.public == node.noise_key.public
    (directory / "noise.key").write_bytes(another_noise_key.to_pem() + node.noise_key.to_pem())
    assert store.load().noise_key.public == node.noise_key.public


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize("name", ["identity.key", "noise.key", "genesis.json", "certificate.json"])
@pytest.mark.parametrize("harm", [truncate, Path.unlink, lambda path: path.write_bytes(b"")])
def test_each_missing_or_damaged_file_is_one_line(
    directory: Path, name: str, harm: Callable[[Path], None]
) -> None:
    """Without any of the four the node cannot be itself: the line names the file and the way back."""
    harm(directory / name)
    with pytest.raises(ConfigurationError) as refused:
        IdentityStore(directory).load()
    line = str(refused.value)
    assert "\n" not in line
    assert "gmesh join -" in line
    assert name.partition(".")[0] in line


def test_not_enrolled_yet(tmp_path: Path) -> None:
    """An empty or absent directory tells to join, nothing more."""
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ConfigurationError, match=f"gmesh join - --state {path}"):
            IdentityStore(path).load()


@pytest.mark.parametrize("name", ["identity.key", "noise.key"])
def test_a_key_that_others_can_read_is_refused(directory: Path, name: str) -> None:
    """The line says which file and how to mend it."""
    (directory / name).chmod(0o640)
    with pytest.raises(ConfigurationError, match=rf"chmod 0600 .*{name}"):
        IdentityStore(directory).load()


def test_files_of_different_nodes(directory: Path, another_noise_key: NoiseKey) -> None:
    """Keys and certificate must belong together."""
    key = (directory / "noise.key").read_bytes()
    (directory / "noise.key").write_bytes(another_noise_key.to_pem())
    with pytest.raises(ConfigurationError, match=r"holds no key that certificate\.json names"):
        IdentityStore(directory).load()
    (directory / "noise.key").write_bytes(key)
    (directory / "identity.key").write_bytes(SigningKey.generate().to_pem())
    with pytest.raises(ConfigurationError, match=r"does not belong to identity\.key"):
        IdentityStore(directory).load()


@pytest.mark.parametrize("name", ["crl.json", "policy.json", "status.json", "floors.json", "state.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b'"x"'])
def test_what_can_be_fetched_again_never_stops_a_node(directory: Path, name: str, content: bytes) -> None:
    """Caches and counters that are damaged start anew."""
    (directory / name).write_bytes(content)
    identity = IdentityStore(directory).load()
    assert (identity.documents, identity.floors, identity.state) == ((), {}, NodeState())


@pytest.mark.parametrize("value", [-1, "7", 1.5, True, None, 2**63, [1]])
def test_a_senseless_number_counts_as_none(directory: Path, value: object) -> None:
    """Only a non-negative integer of 63 bits is a sequence."""
    (directory / "state.json").write_text(json.dumps({"record_sequence": value}))
    assert IdentityStore(directory).load().state.record_sequence == 0


def test_b2_the_directory_of_an_authority_is_no_nodes(tmp_path: Path) -> None:
    """A node that is started there does not advise to enrol the host into it."""
    (tmp_path / "authority.key").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="belongs to an authority") as refused:
        IdentityStore(tmp_path).load()
    assert refused.value.reason == "other-owner"
