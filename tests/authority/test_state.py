# SPDX-License-Identifier: MIT
"""What the daemon refuses to start on, in one clear line; and the audit it must not lose."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority.state_files import START, Keys, write_state
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.task import Clock
from twisted.python.usage import UsageError

from gmesh import __version__
from gmesh.authority.audit import chain_hash, verify_chain
from gmesh.authority.signer import load_keys
from gmesh.authority.state import StateDirectory
from gmesh.authority.store.transaction import Transaction
from gmesh.authority.tap import Options, makeService
from gmesh.errors import ConfigurationError, GmeshError, StoreError
from gmesh.keyfiles import Passphrases, save_key
from gmesh.trust.keys import SigningKey


def restart_refused(network: Any, damage: Callable[[Path], None]) -> GmeshError:
    """Stop, damage the directory, and see what starting again says; then mend by undoing is the caller's."""
    network.stop()
    saved = {path: (path.read_bytes(), path.stat().st_mode) for path in network.path.iterdir()}
    damage(network.path)
    try:
        with pytest.raises(GmeshError) as refused:
            network.start()
    finally:
        for path in network.path.iterdir():
            path.unlink()
        for path, (data, mode) in saved.items():
            path.write_bytes(data)
            path.chmod(mode)
        network.clock.advance(1)
        network.start()
    return refused.value


def bad_policy(path: Path) -> None:
    """A first start, with a policy text that is none."""
    for file in path.glob("authority.sqlite*"):
        file.unlink()
    (path / "audit.jsonl").unlink()
    (path / "policy-initial.json").write_text('{"rules": 1}')


def scribble(path: Path) -> None:
    """Destroy every page but the first."""
    with open(path / "authority.sqlite", "r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(8 * 4096))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "no key": (lambda path: (path / "authority.key").unlink(), "missing-key", "authority.key"),
    "open key": (lambda path: (path / "authority.key").chmod(0o644), "key-mode", "chmod 0600"),
    "no genesis": (lambda path: (path / "genesis.json").unlink(), "missing-file", "genesis.json"),
    "bad genesis": (lambda path: (path / "genesis.json").write_text("{}"), "invalid-field", "genesis.json"),
    "another's key": (
        lambda path: (path / "authority.key").write_bytes(SigningKey.generate().to_pem()),
        "unlisted-key",
        "another network",
    ),
    "bad first policy": (bad_policy, "invalid-field", "policy-initial.json"),
    "corrupt database": (scribble, "corrupt", "restore"),
    "no database": (
        lambda path: (path / "authority.sqlite").write_bytes(b"hello" * 1000),
        "corrupt",
        "restore",
    ),
}


OF_FILES = ("bad first policy", "corrupt database", "no database")
FILE = pytest.mark.sqlite("the file is damaged or exchanged: a server's is in test_shared_database")


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[FILE] if name in OF_FILES else []) for name in DAMAGE]
)
def test_a_damaged_directory_is_refused(network: Any, case: str) -> None:
    """Each says which file and what to do, and none is repaired in silence."""
    network.joined("pump-1")
    damage, reason, hint = DAMAGE[case]
    error = restart_refused(network, damage)
    assert error.reason == reason
    assert hint in error.detail and "\n" not in error.detail


@FILE
def test_an_older_database_put_back_is_noticed(network: Any) -> None:
    """Copying an old file into place is refused: its numbers would be given out twice."""
    network.stop()
    old = (network.path / "authority.sqlite").read_bytes()
    network.start()
    network.joined("pump-1")
    error = restart_refused(network, lambda path: (path / "authority.sqlite").write_bytes(old) and None)
    assert error.reason == "audit-broken" and "gmesh restore" in error.detail


@pytest.mark.parametrize(
    "seed", ["9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "00" * 32, "01" * 32]
)
def test_published_keys_are_refused(tmp_path: Path, seed: str) -> None:
    """A key printed in RFC 8032, or made of one repeated byte, is everybody's."""
    key = tmp_path / "authority.key"
    key.touch(0o600)
    key.write_bytes(SigningKey.from_seed(bytes.fromhex(seed)).to_pem())
    with pytest.raises(GmeshError) as refused:
        load_keys(tmp_path)
    assert refused.value.reason == "published-key"


def test_the_listed_keys_are_those_of_the_rfcs() -> None:
    """The first RFC 8032 seed makes the first key of the list, by another library."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_options_say_what_is_wrong() -> None:
    """A missing state directory, a bad rate and a bad endpoint are told in one line each."""
    with pytest.raises(UsageError, match="--state"):
        Options().parseOptions([])
    with pytest.raises(UsageError, match="PER_MINUTE"):
        Options().parseOptions(["--state", "x", "--rate", "many"])
    options = Options()
    options.parseOptions(["--state", "/nonexistent"])
    with pytest.raises(SystemExit, match="gmesh init"):
        makeService(options, Clock())


def test_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, and a success."""
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"gmesh {__version__}\n"


# Clock.


def test_nothing_is_issued_below_the_mark(network: Any) -> None:
    """With the clock an hour back nothing is issued and readyz says why; documents are still served."""
    member = network.joined("pump-1")
    waiting = network.invite("pump-2")
    network.stop()
    network.offset -= 3600
    network.start()
    assert network.ask("GET", "/readyz").slug == "clock-suspect"
    assert network.ask("GET", "/crl").status == 200
    for answer in (network.join(waiting), network.renew(member)):
        assert answer.slug in ("clock-suspect", "stale") and answer.status in (401, 503)
    network.offset += 3600
    assert network.ask("GET", "/readyz").status == 200
    assert network.join(waiting).status == 201


def test_no_crl_and_no_policy_below_the_mark(network: Any) -> None:
    """
    Nor for an operator whose clock is right: what is signed would be older than what was.

    A revocation bars the node all the same, and the CRL follows when the clock is right.
    """
    member = network.joined("pump-1")
    asked = []
    for target, value in (("revocations", {"node": "pump-1"}), ("policies", {"version": 1})):
        body = json.dumps(value).encode()
        headers = network.signed(network.keys.admin, "POST", f"/admin/{target}", body)
        asked.append(("POST", f"/admin/{target}", headers, body))
    network.stop()
    network.offset -= 3600
    network.start()
    assert [network.ask(*request).slug for request in asked] == ["clock-suspect"] * 2
    assert json.loads(network.ask("GET", "/crl").body)["signed"]["revoked_nodes"] == []
    network.offset += 3600
    assert [network.ask(*request).status for request in asked] == [409, 201]
    assert network.renew(member).slug == "cert-revoked"
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    listed = json.loads(network.ask("GET", "/crl").body)["signed"]["revoked_nodes"]
    assert [node_id for node_id, *_ in listed] == [member.node.key_id]


def test_a_jump_forward_does_not_block_for_long(network: Any) -> None:
    """A year forward inside the process and back again: the mark did not move, work goes on."""
    network.joined("pump-1")
    network.offset += 365 * 86_400
    network.admin("GET", "/admin/nodes")
    network.offset -= 365 * 86_400
    assert network.ask("GET", "/readyz").status == 200
    network.joined("pump-2")


def test_readiness_signs(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is listed and does not sign (a token that is gone) makes the authority not ready."""
    signer = network.authority.issuer.keys.signer(network.genesis.body, network.now)
    assert network.ask("GET", "/readyz").status == 200
    monkeypatch.setattr(type(signer), "sign", lambda key, data: bytes(64))
    network.clock.advance(2)
    answer = network.ask("GET", "/readyz")
    assert (answer.status, answer.slug) == (503, "unavailable")
    monkeypatch.undo()
    network.clock.advance(2)
    assert network.ask("GET", "/readyz").status == 200


# Audit.


def entries(network: Any) -> list[tuple[int, bytes, bytes]]:
    """The chain as stored."""
    rows: list[tuple[int, bytes, bytes]] = network.rows("SELECT seq, entry, hash FROM audit ORDER BY seq")
    return rows


def test_every_tampering_names_its_row(network: Any) -> None:
    """Edited, deleted, reordered and forked rows break the chain where they stand."""
    for number in range(4):
        network.joined(f"pump-{number}")
    chain = entries(network)
    size, head = verify_chain(chain)
    assert size == len(chain) >= 8
    edited = [(s, e.replace(b"pump-0", b"pump-9"), h) for s, e, h in chain]
    first = next(s for s, e, _ in chain if b"pump-0" in e)
    for bad, row in (
        (edited, first),
        (chain[:4] + chain[5:], 5),
        ([*chain[:3], chain[4], chain[3], *chain[5:]], 4),
        (chain[1:], 1),
    ):
        with pytest.raises(StoreError, match=f"row {row} "):
            verify_chain(bad)
    forked = [*chain[:-1], (size, b"{}", chain_hash(size, chain[-2][2], b"{}"))]
    assert verify_chain(forked)[1] != head
    assert verify_chain(chain[6:], 6, chain[5][2]) == (size, head)


def test_the_status_carries_the_head(network: Any) -> None:
    """Size and head in the status are those of the chain at its signing."""
    network.joined("pump-1")
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    network.clock.advance(1)
    audit = json.loads(network.ask("GET", "/status").body)["signed"]["audit"]
    chain = entries(network)
    assert (audit["size"], audit["head"]) == (len(chain), chain[-1][2].hex())
    page = network.admin("GET", "/admin/audit?limit=500").json
    assert [entry["hash"] for entry in page["entries"]] == [digest.hex() for _, _, digest in chain]
    assert (page["size"], page["head"]) == (audit["size"], audit["head"])


def test_no_effect_without_its_audit_row(network: Any, monkeypatch: Any) -> None:
    """If the row cannot be written, the change is not made and the answer is an error."""
    member = network.joined("pump-1")

    def broken(*arguments: Any) -> None:
        raise network.failure("disk I/O error")

    monkeypatch.setattr(Transaction, "append_audit", broken)
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 503
    monkeypatch.undo()
    assert network.heartbeat(member).status == 200
    assert json.loads(network.ask("GET", "/crl").body)["signed"]["revoked_nodes"] == []


def test_the_mirror_catches_up(network: Any) -> None:
    """A torn or missing last line of audit.jsonl is written again at the next start."""
    for number in range(3):
        network.joined(f"pump-{number}")
    network.stop()
    mirror = network.path / "audit.jsonl"
    whole = mirror.read_bytes()
    lines = whole.splitlines(keepends=True)
    mirror.write_bytes(b"".join(lines[:-2]) + lines[-2][:20])
    network.start()
    assert mirror.read_bytes() == whole
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))


def test_keys_may_come_as_systemd_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LoadCredential=authority:DIRECTORY names each file authority_<file>; its mode is systemd's business."""
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    state.mkdir()
    credentials.mkdir()
    made = SigningKey.generate()
    (credentials / "authority_authority.key").write_bytes(made.to_pem())
    (credentials / "authority_authority.key").chmod(0o440)
    with pytest.raises(GmeshError, match="holds no"):
        load_keys(state)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert [key.key_id for key in load_keys(state)] == [made.key_id]


def test_keys_may_be_sealed_with_a_pass_phrase(tmp_path: Path) -> None:
    """A sealed key signs like any other once --passphrase-file opens it."""
    made, phrase = SigningKey.generate(), tmp_path / "phrase"
    phrase.touch(0o600)
    phrase.write_text("correct horse battery\n")
    save_key(tmp_path / "authority.key", made, b"correct horse battery")
    assert [key.key_id for key in load_keys(tmp_path, Passphrases(phrase))] == [made.key_id]
    phrase.write_text("another horse\n")
    with pytest.raises(GmeshError) as refused:
        load_keys(tmp_path, Passphrases(phrase))
    assert refused.value.reason == "wrong-passphrase"


@pytest.mark.parametrize(
    ("mark", "whose"), [("noise.key", "a node"), ("operator.key", "an operator"), ("root.key", "the root")]
)
def test_b2_the_directory_of_another_owner_is_no_authoritys(tmp_path: Path, mark: str, whose: str) -> None:
    """The refusal says whose it is and what tells, instead of calling a key damaged."""
    write_state(tmp_path / "state", Keys())
    (tmp_path / "state" / mark).write_bytes(b"")
    with pytest.raises(ConfigurationError, match=rf"belongs to {whose} \(it holds {mark}\)") as refused:
        StateDirectory(tmp_path / "state", START)
    assert refused.value.reason == "other-owner"
