# SPDX-License-Identifier: MIT
"""A backup of before a key was rotated, restored after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gmesh.keyfiles import save_key
from gmesh.trust.ceremony import attach, rotate_authority, sign_detached
from gmesh.trust.documents import Certificate, Genesis, Status, parse_document


def test_a_backup_older_than_the_authority_key(network: Any, tmp_path: Path) -> None:
    """What nodes hold is signed by a key the backup has never heard of; the genesis files vouch for it."""
    taken = network.path / "backups" / network.admin("POST", "/admin/backup").json["file"]
    member, new = network.joined("pump-1"), network.keys.signing()
    save_key(network.path / "authority-2.key", new)
    second = rotate_authority(network.genesis, network.now, add=new.public, stolen=True)
    second = attach(second, [sign_detached(second, network.keys.root)], network.genesis)
    network.restart()
    assert network.admin("POST", "/admin/genesis", {"genesis": second.as_dict()}).status == 201
    network.keys.authority = new
    member.certificate = parse_document(
        json.dumps(network.renew(member).json["certificate"]).encode(), Certificate
    )
    network.clock.advance(2)
    for name in ("crl", "policy"):
        (tmp_path / f"{name}.json").write_bytes(network.ask("GET", f"/{name}").body)
    network.stop()
    network.restore(taken, [tmp_path / "crl.json"], [tmp_path / "policy.json"])
    network.clock.advance(1)
    network.start()
    assert parse_document(network.ask("GET", "/genesis").body, Genesis).digest == second.digest
    status = parse_document(network.ask("GET", "/status").body, Status)
    assert [name for name, _ in status.signatures] == [new.key_id]
    assert network.renew(member).status == 201
