# SPDX-License-Identifier: MIT
"""
The drill of a stolen authority key, on a real daemon: theft, C{genesis rotate --stolen}, restores around it.

The thief's certificates and policy are worth nothing, and nobody of a hundred enrols again.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from authority import state_files
from live.authority_rig import DEADLINE, AuthorityProcess, Fleet

from gmesh.keyfiles import save_key
from gmesh.trust.documents import (
    Certificate,
    Crl,
    Document,
    Genesis,
    Operator,
    Policy,
    document_from_dict,
    parse_document,
    sign_document,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import NoiseKey, SigningKey
from gmesh.trust.signed_requests import ADMIN_TAG, NODE_TAG
from gmesh.trust.verify import network_id

pytestmark = pytest.mark.live

HONEST = 100
DAY = 86400
FAR = 8190 * 2**40  # of the highest epoch that a number has room for, but one


class Host:
    """A node's keys, and the certificate it has or shows."""

    def __init__(self) -> None:
        self.node, self.noise = SigningKey.generate(), NoiseKey.generate()
        self.certificate: Document[Certificate]


class Drill:
    """A daemon, its fleet, and what the thief took."""

    def __init__(self, fleet: Fleet, gmesh: Callable[..., Any], path: Path) -> None:
        self.fleet = fleet
        self.gmesh = gmesh
        self.path = path
        self.state = fleet.daemon.state
        self.stolen: SigningKey = fleet.keys.authority

    def enrolled(self, name: str) -> Host:
        """A host that joined."""
        host = Host()
        request = self.fleet.join_request(self.fleet.invite(name), host.node, host.noise)
        status, answer = self.fleet.daemon.ask("POST", "/join", *request)
        assert status == 201, answer
        host.certificate = document_from_dict(answer["certificate"], Certificate)
        return host

    def renew(self, host: Host) -> tuple[int, Any]:
        value = {"certificate": host.certificate.as_dict(), "noise_key": b64url_encode(host.noise.public)}
        return self.fleet.post(host.node, "/renew", value, NODE_TAG)

    def renewed(self, host: Host) -> str:
        """Have a host renew. @return: whose key signed the new certificate."""
        status, answer = self.renew(host)
        assert status == 201, answer
        host.certificate = document_from_dict(answer["certificate"], Certificate)
        return host.certificate.signatures[0][0]

    def heartbeat(self, host: Host) -> tuple[int, Any]:
        now = time.time()
        value = {"certificate": host.certificate.as_dict(), "sent_ms": int(now * 1000)}
        return self.fleet.post(host.node, "/heartbeat", value, NODE_TAG, int(now))

    def intruder(self) -> Host:
        """A host that the thief made an anchor, by a certificate that ends tomorrow."""
        host, now = Host(), int(time.time())
        body = Certificate(
            network_id=network_id(self.fleet.genesis),
            serial=4711,
            name="gate",
            node_key=b64url_encode(host.node.public),
            noise_key=b64url_encode(host.noise.public),
            roles=("anchor",),
            not_before=now - DAY,
            not_after=now + DAY,
            issued_at=now - DAY,
        )
        host.certificate = sign_document(body, [self.stolen])
        return host

    def is_kept_out(self, host: Host) -> None:
        """Neither heard of, nor renewed, nor a member."""
        for answer in (self.heartbeat(host), self.renew(host)):
            assert (answer[0], answer[1].get("type")) == (403, "urn:gmesh:problem:unknown-certificate")
        key = self.fleet.keys.admin
        signed = self.fleet.signed(key, "GET", "/admin/nodes?limit=500", b"", ADMIN_TAG)
        status, answer = self.fleet.daemon.ask("GET", "/admin/nodes?limit=500", signed)
        assert status == 200, answer
        assert host.certificate.body.name not in {row["name"] for row in answer["nodes"]}

    def backup(self) -> Path:
        status, answer = self.fleet.post(self.fleet.keys.admin, "/admin/backup", {})
        assert status == 201, answer
        return self.state / "backups" / str(answer["file"])

    def rotate(self) -> None:
        """A new key, listed alone, by the commands of the manual."""
        new, path = SigningKey.generate(), self.path
        save_key(self.state / "authority-2.key", new)
        save_key(path / "root.key", self.fleet.keys.root)
        daemon = self.fleet.daemon
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        daemon.logged(rb"reloaded: ")
        (path / "genesis-1.json").write_bytes(self.fleet.genesis.encode())
        public = b64url_encode(new.public)
        before = ("--previous", "genesis-1.json")
        self.gmesh(
            "genesis", "rotate", "genesis-1.json", "--authority-key", public, "--stolen", "--out", "new.json"
        )
        digest = self.gmesh("genesis", "show", "new.json", "--digest").stdout.strip()
        self.gmesh(
            "genesis", "sign", "new.json", *before, "--key", "root.key", "--digest", digest, "--out", "r.sig"
        )
        self.gmesh("genesis", "verify", "new.json", "r.sig", *before, "--out", "genesis-2.json")
        genesis = parse_document((path / "genesis-2.json").read_bytes(), Genesis)
        status, answer = self.fleet.post(
            self.fleet.keys.admin, "/admin/genesis", {"genesis": genesis.as_dict()}
        )
        assert (status, answer.get("version")) == (201, 2), answer
        self.fleet.keys.authority = new

    def held(self, struct: type[Any]) -> Document[Any]:
        """What a node that follows the authority holds, its file written."""
        _, answer = self.fleet.daemon.ask("GET", f"/{struct.TYPE}")
        document = document_from_dict(answer, struct)
        (self.path / f"{struct.TYPE}.json").write_bytes(document.encode())
        return document

    def forged(self, document: Document[Any], **changed: Any) -> Path:
        """The file of a document that the thief changed and signed."""
        path = self.path / f"thief-{document.type}.json"
        body = msgspec.structs.replace(document.body, **changed)
        path.write_bytes(sign_document(body, [self.stolen]).encode())
        return path

    def restore(self, backup: Path, *files: str | Path, check: bool = True) -> Any:
        """The command of the manual; the daemon is stopped."""
        return self.gmesh("restore", backup, "--state", self.state, *files, check=check)


@pytest.fixture
def drill(tmp_path: Path, gmesh: Callable[..., Any]) -> Iterator[Drill]:
    """A running daemon; stopped after the test."""
    keys = state_files.Keys()
    policy = {**state_files.POLICY_TEXT, "max_nodes": 1000}
    state = tmp_path / "authority"
    genesis = state_files.write_state(state, keys, int(time.time()) - 60, policy)
    daemon = AuthorityProcess(
        state, "--rate", "100000000", "--key-rate", "100000000", "--failure-rate", "1000000"
    )
    daemon.start()
    yield Drill(Fleet(daemon, keys, genesis), gmesh, tmp_path)
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.process.kill()
        daemon.process.wait(DEADLINE)


def test_a1_a2_the_drill_of_a_stolen_authority_key(drill: Drill) -> None:
    """Theft, restore, rotation, restore: forgeries are refused, a hundred and one honest nodes renew."""
    daemon = drill.fleet.daemon
    honest = [drill.enrolled(f"pump-{number}") for number in range(HONEST)]
    backup = drill.backup()
    young = drill.enrolled("young")
    for struct in (Crl, Policy):
        drill.held(struct)
    files = ("--crl", "crl.json", "--policy", "policy.json")
    assert daemon.end() == -signal.SIGTERM
    drill.restore(backup, *files)
    daemon.start()
    assert drill.heartbeat(young)[0] == 200, "the key is not known to be stolen"
    drill.rotate()
    drill.is_kept_out(drill.intruder())
    new = drill.fleet.keys.authority.key_id
    assert drill.renewed(young) == new

    crl, policy = drill.held(Crl), drill.held(Policy)
    assert daemon.end() == -signal.SIGTERM
    thief = SigningKey.generate()
    mine = (Operator(key=b64url_encode(thief.public), role="administer"),)
    taken_over = drill.forged(policy, version=policy.body.version + 9, operators=mine)
    refused = drill.restore(backup, "--crl", "crl.json", "--policy", taken_over, check=False)
    assert refused.returncode == 1 and f"{taken_over}: " in refused.stderr, refused.stderr
    barring = drill.forged(crl, number=FAR, revoked=((4712, int(time.time()) + DAY, 0),))
    told = drill.restore(backup, *files, "--crl", barring).stdout
    assert "0 revocations taken in" in told
    assert "1 more on the word of keys that the newest genesis dropped: serial 4712" in told
    assert told.count(drill.fleet.keys.admin.key_id) == 2 and thief.key_id not in told
    epoch = int(told.split("epoch ")[1].split(",")[0])
    daemon.start()
    assert drill.held(Crl).body.number // 2**40 == epoch < FAR // 2**40
    drill.is_kept_out(drill.intruder())
    assert drill.fleet.post(thief, "/admin/backup", {})[1]["type"] == "urn:gmesh:problem:unknown-key"
    assert {drill.renewed(host) for host in [*honest, young]} == {new}
    assert daemon.end() == -signal.SIGTERM
    assert "Traceback" not in daemon.log.read_text()
