# SPDX-License-Identifier: MIT
"""Each file of the state directory lost or damaged: the node recovers, or says in one line what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from gmesh.errors import ConfigurationError, StoreError
from gmesh.files import write_atomic
from gmesh.node.identity_store import IdentityStore
from gmesh.node.local_member import LocalMember
from gmesh.node.node_state import NodeState, SeenCommand
from gmesh.testing.issuer import Issuer

NEEDED = ("identity.key", "noise.key", "certificate.json", "genesis.json")
FETCHED = ("crl.json", "policy.json", "status.json")
KEPT = ("floors.json", "state.json", "authority.json")
DAMAGE = {
    "removed": None,
    "empty": b"",
    "cut": b'{"signed": {"type": "pol',
    "noise": bytes(range(256)),
    "other json": b'[{"a": 1}]',
    "huge": b" " * (20 * 1024 * 1024),
}


@pytest.fixture
def full(directory: Path, issuer: Issuer, wall: Any) -> Iterator[Path]:
    """The state directory of a node that has been up."""
    store, clock = IdentityStore(directory), Clock()
    member = LocalMember(store.load(), store, clock, wall)
    for document in issuer.documents:
        member.trust.offer(document, wall())
    member.next_handshake_number()
    member.save_now()
    yield directory


def start(directory: Path, wall: Any, clock: Clock | None = None) -> LocalMember:
    return LocalMember(IdentityStore(directory).load(), IdentityStore(directory), clock or Clock(), wall)


def damage(file: Path, how: str) -> None:
    content = DAMAGE[how]
    if content is None:
        file.unlink()
    else:
        write_atomic(file, content, 0o600)


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", NEEDED)
def test_what_a_node_cannot_be_without(full: Path, wall: Any, name: str, how: str) -> None:
    """One line that names the file and the command that enrols the host again; nothing is touched."""
    damage(full / name, how)
    with pytest.raises(ConfigurationError) as refused:
        start(full, wall)
    detail = refused.value.detail
    assert name.partition(".")[0] in detail
    assert "\n" not in detail
    assert "gmesh join -" in detail or "larger than" in detail


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", (*FETCHED, *KEPT))
def test_what_comes_back_by_itself(full: Path, issuer: Issuer, wall: Any, name: str, how: str) -> None:
    """The node starts; documents are taken again from whoever has them, and no lower than before."""
    damage(full / name, how)
    with capturedLogs() as lines:
        member = start(full, wall)
    if how not in ("removed", "other json"):
        assert any(name in str(event.get("path")) for event in lines), "one line says which file"
    for document in issuer.documents:
        member.trust.offer(document, wall())
    assert (member.trust.crl, member.trust.policy, member.trust.status) == issuer.documents
    assert member.next_handshake_number() >= int(wall()) << 20
    member.stop()
    again = start(full, wall)
    assert (again.trust.crl, again.trust.policy, again.trust.status) == issuer.documents


def test_time_is_known_without_state_and_status(full: Path, wall: Any) -> None:
    """With a clock of 1970 and nothing but the certificate it is at least the day of that."""
    for name in ("state.json", "status.json"):
        (full / name).unlink()
    issued, wall.now = wall.now, 0.0
    member = start(full, wall)
    assert member.wall() == issued
    assert member.trust.policy is not None, "documents of that day are believed"


def no_room(*arguments: Any) -> None:
    raise StoreError("unwritable", "No space left on device")


def test_a_full_disk_at_every_write(
    full: Path, issuer: Issuer, wall: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Revocations cut all the same, each failure is a line, and what was on disk stays whole."""
    before = {path.name: path.read_bytes() for path in full.iterdir()}
    member = start(full, wall)
    monkeypatch.setattr("gmesh.node.identity_store.write_atomic", no_room)
    crl = issuer.revoke(issuer.enrol("b", "client"))
    with capturedLogs() as lines:
        assert member.trust.offer(crl, wall())
        member.stop()
    assert member.trust.crl is crl
    assert any("not on disk" in event["log_format"] for event in lines)
    assert {path.name: path.read_bytes() for path in full.iterdir()} == before


def test_what_a_full_disk_did_not_take_is_written_when_there_is_room(
    full: Path, issuer: Issuer, wall: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without another change: within a minute the CRL and the numbers are on disk; nothing waits then."""
    clock = Clock()
    member = start(full, wall, clock)
    crl = issuer.revoke(issuer.enrol("b", "client"))
    with monkeypatch.context() as patch:
        patch.setattr("gmesh.node.identity_store.write_atomic", no_room)
        assert member.trust.offer(crl, wall())
        number = member.next_handshake_number()
        clock.pump([1] * 600)
        assert (full / "crl.json").read_bytes() != crl.encode()
    clock.pump([1] * 60)
    assert (full / "crl.json").read_bytes() == crl.encode()
    assert json.loads((full / "state.json").read_bytes())["handshake_number"] == number
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "value",
    [
        {"commands": [], "receipts": {}, "bootstrap": 3, "noise_ends": "x", "time_floor": -1},
        {"commands": {"a": {"number": "1"}}, "receipts": [1, {"a": 1}], "noise_ends": {"k": "soon"}},
        {"record_sequence": True, "handshake_number": 2**70, "time_floor": 2**62, "commands_floor": None},
    ],
)
def test_nonsense_in_state_json_costs_that_field_only(value: dict[str, Any]) -> None:
    """Every field is read for itself."""
    state = NodeState.from_dict(value | {"commands_fetched": 7, "later": "kept"})
    assert state.commands_fetched == 7
    assert state.others == {"later": "kept"}
    assert (state.commands, state.noise_ends, state.time_floor, state.record_sequence) == ({}, {}, 0, 0)


def test_state_json_round_trip() -> None:
    """What is written is what is read."""
    state = NodeState(
        record_sequence=1,
        handshake_number=2,
        time_floor=3,
        commands={"ab": SeenCommand(4, 5, True)},
        commands_floor=6,
        receipts=[{"signed": {}}],
        bootstrap={"genesis": 1, "anchors": []},
        noise_made_at=7,
        noise_ends={"k": 8},
        others={"x": 1},
    )
    assert NodeState.from_dict(state.to_dict()) == state
