# SPDX-License-Identifier: MIT
"""gmesh init: what it makes verifies, keys are private, and a wrong word leaves nothing behind."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import nacl.signing
import pytest
import rfc8785
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from gmesh.cli.init import anchor_endpoint, policy_text
from gmesh.errors import ConfigurationError
from gmesh.trust.documents import Policy, sign_document
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.keys import SigningKey

LAYOUT = {
    "root": {"root.key", "genesis.json"},
    "authority": {"authority.key", "genesis.json", "operators.json", "policy-initial.json"},
    "operator": {"operator.key", "authority.json", "genesis.json"},
}


@pytest.fixture
def made(run: Callable[..., Any], tmp_path: Path) -> tuple[Path, str]:
    """A network made by the command, and what the command printed."""
    ended = run("init", tmp_path / "net", "--network", "lab", "--anchor", "b=127.0.0.1:7443")
    assert (ended.status, ended.err) == (0, "")
    return tmp_path / "net", ended.out


def test_layout(made: tuple[Path, str]) -> None:
    """The three directories hold what the daemons and commands expect, and nothing else."""
    directory, _ = made
    assert {room.name: {file.name for file in room.iterdir()} for room in directory.iterdir()} == LAYOUT


def test_keys_are_private(made: tuple[Path, str]) -> None:
    """Keys can be read by their owner alone, and so can the directories."""
    directory, _ = made
    for path in directory.rglob("*"):
        if path.is_dir() or path.suffix == ".key":
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_genesis_verifies_without_gmesh(made: tuple[Path, str]) -> None:
    """Another implementation (PyNaCl, rfc8785) finds the root's signature good and the same network id."""
    directory, printed = made
    genesis = json.loads((directory / "root/genesis.json").read_bytes())
    canonical = rfc8785.dumps(genesis["signed"])
    (entry,) = genesis["signatures"]
    root = b64url_decode(genesis["signed"]["root"]["keys"][0], 32)
    signature = b64url_decode(entry["signature"], 64)
    nacl.signing.VerifyKey(root).verify(b"gmesh-signature-v1\0genesis\0" + canonical, signature)
    assert sha256(canonical).hexdigest()[:32] in printed
    for room in ("authority", "operator"):
        assert (directory / room / "genesis.json").read_bytes() == (
            directory / "root/genesis.json"
        ).read_bytes()


def test_keys_are_those_of_the_genesis(made: tuple[Path, str]) -> None:
    """The authority's key is the one the genesis lists; the operator's is the one in operators.json."""
    directory, _ = made
    genesis = json.loads((directory / "root/genesis.json").read_bytes())["signed"]
    authority = SigningKey.from_pem((directory / "authority/authority.key").read_bytes())
    operator = SigningKey.from_pem((directory / "operator/operator.key").read_bytes())
    assert b64url_decode(genesis["authority"][0]["key"], 32) == authority.public
    (first,) = json.loads((directory / "authority/operators.json").read_bytes())
    assert b64url_decode(first["key"], 32) == operator.public
    assert (first["role"], genesis["anchors"]) == (
        "administer",
        [{"name": "b", "endpoint": "tcp:127.0.0.1:7443"}],
    )


def test_first_policy_is_a_policy() -> None:
    """The text of the first policy makes a valid policy document."""
    fields = {"type": "policy", "network_id": "0" * 32, "version": 1, "issued_at": 1, "expires_at": 2}
    body = msgspec.convert({**policy_text(), **fields, "operators": []}, Policy)
    policy = sign_document(body, [SigningKey.from_seed(bytes(32))]).body
    assert [(rule.effect, rule.sources, rule.to, rule.services) for rule in policy.rules] == [
        ("allow", ("*",), ("*",), ("*",))
    ]
    assert policy.certificate.default == 24 * 3600


def test_says_what_to_do_next(made: tuple[Path, str]) -> None:
    """What is printed names the directory to take offline and the next commands."""
    directory, printed = made
    assert "Take this directory offline" in printed
    for text in (
        f"gmesh-authority --state {directory}/authority",
        f"admin --operator {directory}/operator invite --name b",
    ):
        assert text in printed


@pytest.mark.parametrize(
    "arguments",
    [
        ["--network", "la b"],
        ["--network", ""],
        ["--network", "lab", "--authority-url", "authority:8440"],
        ["--network", "lab", "--authority-url", "http://127.0.0.1:99999"],
        ["--network", "lab", "--authority-url", "http://127.0.0.1:65536"],
        ["--network", "lab", "--authority-url", "http://127.0.0.1:0"],
        ["--network", "lab", "--anchor", "127.0.0.1:7443"],
        ["--network", "lab", "--anchor", "B=127.0.0.1:7443"],
        ["--network", "lab", "--anchor", "b=127.0.0.1"],
        ["--network", "lab", "--anchor", "b=127.0.0.1:99999"],
        ["--network", "lab", "--anchor", "b=::1:7443"],
        ["--network", "lab", "--anchor", "b=h:1", "--anchor", "b=h:2"],
    ],
)
def test_refused_words_leave_nothing(run: Callable[..., Any], tmp_path: Path, arguments: list[str]) -> None:
    """A name, URL or anchor that cannot be used is one line, and no directory is made."""
    ended = run("init", tmp_path / "net", *arguments)
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert not (tmp_path / "net").exists()


def test_a_weak_pass_phrase_leaves_nothing(run: Callable[..., Any], tmp_path: Path) -> None:
    """The same command with a better one does it."""
    phrase = tmp_path / "phrase"
    words = "init", tmp_path / "net", "--network", "lab", "--protect", "--passphrase-file", phrase
    phrase.write_text("short\n")
    phrase.chmod(0o600)
    assert run(*words).status == 1
    assert not (tmp_path / "net").exists()
    phrase.write_text("long enough for anybody\n")
    assert run(*words).status == 0


def test_existing_directory_is_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    """A directory with something in it is left as it is; an empty one is used."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net/mine").write_text("precious")
    ended = run("init", tmp_path / "net", "--network", "lab")
    assert (ended.status, os.listdir(tmp_path / "net")) == (1, ["mine"])
    assert "is not empty" in ended.err
    (tmp_path / "empty").mkdir()
    assert run("init", tmp_path / "empty", "--network", "lab").status == 0


@pytest.mark.parametrize(
    ("address", "host"), [("h.example:7443", "h.example"), ("[2001:db8::1]:7443", "2001:db8::1")]
)
def test_anchor_is_an_endpoint_of_twisted(address: str, host: str) -> None:
    """The endpoint string in the genesis is one that Twisted reads back to the same address."""
    reactor = MemoryReactorClock()
    clientFromString(reactor, anchor_endpoint(address)).connect(Factory())
    assert reactor.tcpClients[0][:2] == (host, 7443)


@pytest.mark.parametrize("address", ["", "h", ":1", "h:", "h:0", "h:65536", "h:²", "fe80::1:1"])
def test_bad_addresses(address: str) -> None:
    """What is no HOST:PORT is refused."""
    with pytest.raises(ConfigurationError):
        anchor_endpoint(address)


@pytest.mark.parametrize(("clock", "said"), [(2 * 365 * 86400, "1972-01-01"), (2**31 - 1, "2038-01-19")])
def test_d16_no_network_begins_by_a_clock_that_cannot_be_right(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: int, said: str
) -> None:
    """The clock is named, and nothing is made."""
    monkeypatch.setattr("time.time", lambda: float(clock))
    ended = run("init", tmp_path / "net", "--network", "lab")
    monkeypatch.undo()
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert f"this host's clock says {said}" in ended.err
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("address", ["[fe80::1]:7443", "[fe80::1%eth0]:7443"])
def test_d9_an_anchor_is_at_no_link_local_address(address: str) -> None:
    """Other hosts would dial it in vain for ever."""
    with pytest.raises(ConfigurationError, match=r"used: (others cannot|an interface of this host)"):
        anchor_endpoint(address)
