# SPDX-License-Identifier: MIT
"""What a running authority takes over from its directory when it is told to read it again."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from authority.in_place import HeldThreads, InPlaceReactor
from authority.network import WHO_VOTES

from gmesh.authority.approval_rules import APPROVALS_FILE
from gmesh.authority.daemon import AuthorityService
from gmesh.authority.options import Options
from gmesh.authority.state import StateDirectory
from gmesh.errors import GmeshError
from gmesh.keyfiles import Passphrases
from gmesh.trust.documents import AuthorityKey, Document, Genesis, Status, parse_document, sign_document
from gmesh.trust.encoding import b64url_encode

RULED = [*WHO_VOTES, "POST /admin/backup"]


def reload(network: Any) -> None:
    """What SIGHUP does. @raise GmeshError: if it is refused."""
    outcome: list[Any] = []
    network.authority.reload(StateDirectory(network.path, network.now)).addBoth(outcome.append)
    if outcome[0] is not None:
        outcome[0].raiseException()


def successor(network: Any, signer: Any, **changes: Any) -> Document[Genesis]:
    """Genesis version 2."""
    first = network.genesis
    body = msgspec.structs.replace(
        first.body, version=2, network_id=network.network_id, previous=first.digest, **changes
    )
    return sign_document(body, [signer])


def put(network: Any, second: Document[Genesis]) -> None:
    """Put it into the directory, as an administrator would by hand."""
    (network.path / "genesis.1.json").write_bytes(network.genesis.encode())
    (network.path / "genesis.json").write_bytes(second.encode())


def test_a_genesis_and_the_key_it_lists_are_taken_over(network: Any) -> None:
    """The new genesis is served, named in the status that the new key signs, in the audit, and kept."""
    new = network.keys.signing()
    (old,) = network.genesis.body.authority
    entry = AuthorityKey(key=b64url_encode(new.public), valid_from=old.valid_from + 1, valid_to=old.valid_to)
    second = successor(network, network.keys.root, authority=(old, entry))
    put(network, second)
    key_file = network.path / "next.key"
    key_file.touch(0o600)
    key_file.write_bytes(new.to_pem())
    network.clock.advance(5)
    reload(network)
    network.clock.advance(11)
    assert network.ask("GET", "/genesis").body == second.encode()
    status = parse_document(network.ask("GET", "/status").body, Status)
    assert status.body.genesis.version == 2
    assert [name for name, _ in status.signatures] == [new.key_id]
    actions = [entry["row"]["action"] for entry in network.admin("GET", "/admin/audit").json["entries"]]
    assert actions[-2:] == ["publish-genesis", "policy-reissue"]
    reload(network)
    network.restart()
    assert network.ask("GET", "/genesis").body == second.encode()


def test_what_is_wrong_changes_nothing(network: Any) -> None:
    """A genesis of strangers, or a directory without a listed key: refused, and all goes on as before."""
    put(network, successor(network, network.keys.signing()))
    with pytest.raises(GmeshError):
        reload(network)
    put(network, network.genesis)
    (network.path / "authority.key").write_bytes(network.keys.signing().to_pem())
    with pytest.raises(GmeshError, match="another network"):
        reload(network)
    (network.path / "authority.key").write_bytes(network.keys.authority.to_pem())
    (network.path / APPROVALS_FILE).write_text(json.dumps({"required": 2, "operations": RULED}))
    with pytest.raises(GmeshError, match="only 1 may administer"):
        reload(network)
    assert network.ask("GET", "/genesis").body == network.genesis.encode()
    assert network.admin("POST", "/admin/backup").status == 201
    assert network.joined("pump-1").certificate is not None


def test_approvals_are_read_again(network: Any) -> None:
    """The rules of the file count from then on; that it is gone ends nothing, nor is that refused where
    daemons share a database, which holds them."""
    second = {"key": b64url_encode(network.keys.signing().public), "role": "administer"}
    assert network.admin("POST", "/admin/operators", second).status == 201
    path = network.path / APPROVALS_FILE
    path.write_text(json.dumps({"required": 2, "operations": RULED}))
    assert network.admin("POST", "/admin/backup").status == 201
    reload(network)
    assert network.admin("POST", "/admin/backup").status == 202
    path.unlink()
    refused = pytest.raises(GmeshError, match="--weaken-approvals")
    with refused if network.postgres is None else nullcontext():
        reload(network)
    assert network.admin("POST", "/admin/backup").slug == "conflict", "its vote still waits for another"


def test_b6_the_answer_names_listed_keys_that_are_not_held(network: Any) -> None:
    """Whoever publishes a genesis hears at once that the new key is not where it has to be."""
    new = network.keys.signing()
    (old,) = network.genesis.body.authority
    later = network.now + 86_400
    entries = (old, AuthorityKey(key=b64url_encode(new.public), valid_from=later, valid_to=old.valid_to))
    second = successor(network, network.keys.root, authority=entries)
    answer = network.admin("POST", "/admin/genesis", {"genesis": second.as_dict()})
    assert (answer.status, answer.json["lacking"]) == (201, [new.key_id])
    ring = network.authority.issuer.keys
    assert ring.lacking(second.body, old.valid_to) == [], "whose time has ended"
    (network.path / "next.key").touch(0o600)
    (network.path / "next.key").write_bytes(new.to_pem())
    reload(network)
    assert network.authority.issuer.keys.lacking(second.body, network.now) == []


class Threads(InPlaceReactor):
    """A reactor whose threads wait until they are let go."""

    def __init__(self) -> None:
        self.held = HeldThreads()

    def getThreadPool(self) -> HeldThreads:
        return self.held


def test_a_reload_opens_keys_beside_the_reactor(network: Any) -> None:
    """Each sealed one takes long; requests are answered meanwhile, and reloads come one after the other."""
    reactor, options = Threads(), Options()
    done: list[Any] = []
    options.parseOptions(["--state", str(network.path), "--listen", "unix:nowhere"])
    service = AuthorityService(reactor, network.authority, options, Passphrases())
    key_file = network.path / "next.key"
    key_file.touch(0o600)
    key_file.write_bytes(network.keys.signing().to_pem())
    for _ in range(2):
        service.reload().addBoth(done.append)
    assert network.ask("GET", "/readyz").status == 200
    assert (done, len(list(network.authority.issuer.keys))) == ([], 1)
    reactor.held.go()
    assert (done, len(list(network.authority.issuer.keys))) == ([None, None], 2)
