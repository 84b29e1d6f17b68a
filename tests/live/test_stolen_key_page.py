# SPDX-License-Identifier: MIT
"""The page "Drill: the authority's key is stolen": every command on it, and the thief between the lines."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from live.authority_rig import AuthorityProcess, Fleet
from live.manual_page import SYSTEMCTL, Daemons, Shell, commands
from live.node_rig import until

from gmesh.trust.documents import (
    Certificate,
    Document,
    Genesis,
    document_from_dict,
    parse_document,
    sign_document,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import NoiseKey, SigningKey
from gmesh.trust.signed_requests import NODE_TAG
from gmesh.trust.verify import network_id

pytestmark = pytest.mark.live

PAGE = "operations-stolen-key"
DAY = 86_400


class Thief:
    """Has the authority's key, and a host C{gate} that it wants in."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.state = directory / "net/authority"
        self.daemon = AuthorityProcess(self.state)
        self.daemon.port = port
        self.node, self.noise = SigningKey.generate(), NoiseKey.generate()
        self.certificate: Document[Certificate]

    def steal(self) -> None:
        """What the page has copied; from then on it works offline."""
        self.key = SigningKey.from_pem((self.directory / "thief/authority.key").read_bytes())
        self.genesis = parse_document((self.state / "genesis.json").read_bytes(), Genesis)
        self.forge()

    def forge(self, serial: int = 4711) -> None:
        """A certificate for C{gate}."""
        now = int(time.time())
        body = Certificate(
            network_id=network_id(self.genesis),
            serial=serial,
            name="gate",
            node_key=b64url_encode(self.node.public),
            noise_key=b64url_encode(self.noise.public),
            roles=("anchor",),
            not_before=now - DAY,
            not_after=now + DAY,
            issued_at=now - DAY,
        )
        self.certificate = sign_document(body, [self.key])

    def asks(self, path: str) -> tuple[int, Any]:
        """A heartbeat or a renewal, to the audience that the status of now names."""
        _, status = self.daemon.ask("GET", "/status")
        keys = SimpleNamespace(authority=SimpleNamespace(key_id=status["signatures"][0]["key_id"]))
        now = time.time()
        value: dict[str, Any] = {"certificate": self.certificate.as_dict()}
        value |= (
            {"sent_ms": int(now * 1000)}
            if path == "/heartbeat"
            else {"noise_key": b64url_encode(self.noise.public)}
        )
        return Fleet(self.daemon, keys, self.genesis).post(self.node, path, value, NODE_TAG, int(now))

    def gets_in(self) -> None:
        """While nobody knows of the theft it is believed."""
        assert self.asks("/heartbeat")[0] == 200
        status, answer = self.asks("/renew")
        assert status == 201, answer
        self.certificate = document_from_dict(answer["certificate"], Certificate)

    def stays_out(self) -> None:
        """With what the authority gave it, and with what it signs now, under any name and key."""
        given = self.certificate, self.node, self.noise
        for path in ("/heartbeat", "/renew"):
            status, answer = self.asks(path)
            assert status == 403, answer
        self.node, self.noise = SigningKey.generate(), NoiseKey.generate()
        for serial in (1, 4711, 2**41):
            self.forge(serial)
            for path in ("/heartbeat", "/renew"):
                status, answer = self.asks(path)
                assert (status, answer["type"]) == (403, "urn:gmesh:problem:unknown-certificate")
        self.certificate, self.node, self.noise = given


def members(shell: Shell) -> set[str]:
    """Who is not revoked."""
    nodes = json.loads(shell.run("gmesh admin nodes --json"))
    return {row["name"] for row in nodes if not row["revoked"]}


def test_a1_a3_the_page_of_the_drill(
    start: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """The thief gets in while nobody knows, and ends outside; every node is who it was, and joined once."""
    authority, anchor = free_port(), free_port()
    daemons = Daemons(start, tmp_path, authority, anchor)
    shell, thief = Shell(tmp_path), Thief(tmp_path, authority)
    here = {"8440": str(authority), "7443": str(anchor)}
    then = [
        ("cp net/authority/authority.key", thief.steal),
        ("systemctl start gmesh-authority", thief.gets_in),
        ("gmesh admin revoke gate", thief.stays_out),
        ("systemctl start gmesh-authority", thief.stays_out),
    ]
    seen: dict[str, str] = {}
    keys: dict[str, bytes] = {}
    try:
        for command in commands(PAGE):
            systemctl = SYSTEMCTL.fullmatch(command)
            if systemctl is not None:
                daemons.obey(systemctl[1], systemctl[2])
            else:
                seen[command] = shell.run(re.sub("|".join(here), lambda found: here[found[0]], command))
            if "gmesh join" in command:
                name = command.rpartition(" ")[2]
                keys[name] = (tmp_path / name / "identity.key").read_bytes()
            if then and command.startswith(then[0][0]):
                then.pop(0)[1]()
        until(lambda: members(shell) == {"a", "b", "c"})  # c is heard of within a minute
    finally:
        shell.close()
    assert then == []
    assert "gate" in seen["gmesh admin audit --action adopt"]
    for name, key in keys.items():
        assert (tmp_path / name / "identity.key").read_bytes() == key
