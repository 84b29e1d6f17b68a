# SPDX-License-Identifier: MIT
"""A real C{twistd gmesh-authority} for tests that kill and flood it, and clients that sign."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gmesh.authority.audit import verify_chain
from gmesh.testing.patience import ProcessPatience
from gmesh.testing.twistd import environment, start_twistd, twistd
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import NoiseKey, SigningKey
from gmesh.trust.signed_requests import ADMIN_TAG, JOIN_TAG, sign_request
from gmesh.trust.verify import network_id

DEADLINE = 180.0
START = 180.0
"""Seconds that one may take where the machine is busy."""


class AuthorityProcess:
    """
    One twistd process.

    @ivar before: Python that it runs first.
    """

    def __init__(self, state: Path, *options: str) -> None:
        self.state = state
        self.options = options
        self.log = state.parent / "daemon.log"
        self.environment: dict[str, str] = {}
        self.before = ""
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, port: int = 0) -> subprocess.Popen[bytes]:
        place = ("--state", str(self.state), "--listen", f"tcp:{port}:interface=127.0.0.1")
        with open(self.log, "wb") as stream:
            self.process = start_twistd(
                ["gmesh-authority", *place, *self.options],
                self.state.parent,
                stream,
                command=twistd(self.before),
                env=environment(**self.environment),
            )
        return self.process

    def logged(self, pattern: bytes) -> re.Match[bytes]:
        """Wait until the log has it."""
        patience = ProcessPatience(DEADLINE)
        while patience.lasts():
            if found := re.search(pattern, self.log.read_bytes()):
                return found
            time.sleep(0.02)
        pytest.fail(f"{pattern!r} was not logged:\n" + self.log.read_text())

    def start(self, port: int = 0) -> None:
        process = self.spawn(port)
        patience = ProcessPatience(START)
        while patience.lasts() and process.poll() is None:
            found = re.search(rb"listening on tcp:(\d+)", self.log.read_bytes())
            if found and b" ready," in self.log.read_bytes():
                self.port = int(found[1])
                return
            time.sleep(0.02)
        pytest.fail("the daemon did not start:\n" + self.log.read_text())

    def refuses_to_start(self, port: int = 0) -> str:
        """The one line it ends with."""
        process = self.spawn(port)
        assert process.wait(DEADLINE) == 1
        lines = [line for line in self.log.read_text().splitlines() if "gmesh-authority:" in line]
        assert len(lines) == 1 and "Traceback" not in self.log.read_text(), self.log.read_text()
        return lines[0]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def ask(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{target}", data=body or None, headers=headers or {}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")


class Fleet:
    """
    Signs what operators and joining hosts send.

    @param daemon: the L{AuthorityProcess} that is asked, or who asks it like one.
    """

    def __init__(self, daemon: Any, keys: Any, genesis: Any) -> None:
        self.daemon = daemon
        self.keys = keys
        self.genesis = genesis

    def signed(
        self, key: SigningKey, method: str, target: str, body: bytes, tag: str, created: int | None = None
    ) -> dict[str, str]:
        return sign_request(
            key,
            method,
            target,
            body,
            audience=self.keys.authority.key_id,
            created=int(time.time()) if created is None else created,
            nonce=os.urandom(16),
            tag=tag,
        )

    def post(
        self, key: SigningKey, target: str, value: Any, tag: str = ADMIN_TAG, created: int | None = None
    ) -> tuple[int, Any]:
        """What is answered to a signed request."""
        body = json.dumps(value).encode()
        answer: tuple[int, Any] = self.daemon.ask(
            "POST", target, self.signed(key, "POST", target, body, tag, created), body
        )
        return answer

    def invite(self, name: str) -> Invite:
        seed = SigningKey.generate()
        value = {"invite_key": b64url_encode(seed.public), "name": name, "roles": ["client"]}
        status, answer = self.post(self.keys.admin, "/admin/invites", value)
        assert status == 201, answer
        return Invite(
            urls=("http://127.0.0.1:1",),
            network_id=network_id(self.genesis),
            genesis_version=1,
            genesis_digest=self.genesis.digest,
            authority=self.keys.authority.key_id,
            seed=seed.seed,
        )

    def join_request(
        self, invite: Invite, node: SigningKey | None = None, noise: NoiseKey | None = None
    ) -> tuple[dict[str, str], bytes]:
        node, noise = node or SigningKey.generate(), noise or NoiseKey.generate()
        request = make_join_request(
            invite, node, noise.public, invite.network_id, int(time.time()), os.urandom(16)
        )
        body = request.encode()
        return self.signed(node, "POST", "/join", body, JOIN_TAG), body


def check_rows(
    serials: set[int], used: list[int], entries: list[tuple[int, bytes, bytes]], admitted: list[int]
) -> tuple[int, bytes]:
    """
    Who saw 201 is a member, and invite used <=> certificate <=> audit row. @return: the end of the chain.

    @param serials: of all certificates.
    @param used: the serials that invites name.
    """
    joins = [row["serial"] for _, entry, _ in entries if (row := json.loads(entry))["action"] == "join"]
    assert set(admitted) <= serials
    assert sorted(used) == sorted(joins) == sorted(serials)
    return verify_chain(entries)


def check_invariants(state: Path, admitted: list[int]) -> None:
    """Look into the database with sqlite3 alone."""
    database = sqlite3.connect(state / "authority.sqlite")
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        serials = {row[0] for row in database.execute("SELECT serial FROM certificate")}
        used = [
            row[0] for row in database.execute("SELECT used_serial FROM invite WHERE used_at IS NOT NULL")
        ]
        entries = database.execute("SELECT seq, entry, hash FROM audit ORDER BY seq").fetchall()
    finally:
        database.close()
    size, head = check_rows(serials, used, entries, admitted)
    mirrored = [json.loads(line) for line in (state / "audit.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in mirrored] == list(range(1, size + 1))
    assert mirrored[-1]["hash"] == head.hex()
    assert [line["row"] for line in mirrored] == [json.loads(entry) for _, entry, _ in entries]
