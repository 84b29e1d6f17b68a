# SPDX-License-Identifier: MIT
"""The authority as a real twistd process on loopback: start, refuse to start, race, flood, kill."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gmesh.authority.audit import verify_chain
from gmesh.trust.documents import Certificate, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import NoiseKey, SigningKey
from gmesh.trust.requests import ADMIN_TAG, JOIN_TAG, sign_request
from gmesh.trust.verify import network_id

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("authority_fixtures", ROOT / "tests/authority/conftest.py")
assert _spec is not None and _spec.loader is not None
fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fixtures)


class Daemon:
    """One twistd process."""

    def __init__(self, state: Path, *options: str) -> None:
        self.state = state
        self.options = options
        self.log = state.parent / "daemon.log"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, port: int = 0) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-c",
            "from twisted.scripts.twistd import run; run()",
            "-n",
            "--pidfile=",
            "gmesh-authority",
            "--state",
            str(self.state),
            "--listen",
            f"tcp:{port}:interface=127.0.0.1",
            *self.options,
        ]
        with open(self.log, "wb") as stream:
            self.process = subprocess.Popen(
                command,
                cwd=self.state.parent,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        return self.process

    def start(self) -> None:
        process = self.spawn()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            found = re.search(rb"listening on tcp:(\d+)", self.log.read_bytes())
            if found and b" ready," in self.log.read_bytes():
                self.port = int(found[1])
                return
            time.sleep(0.02)
        pytest.fail("the daemon did not start:\n" + self.log.read_text())

    def refuses_to_start(self, port: int = 0) -> str:
        """The one line it ends with."""
        process = self.spawn(port)
        assert process.wait(20) == 1
        lines = [line for line in self.log.read_text().splitlines() if "gmesh-authority:" in line]
        assert len(lines) == 1 and "Traceback" not in self.log.read_text(), self.log.read_text()
        return lines[0]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)

    def ask(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{target}", data=body or None, headers=headers or {}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")


class Fleet:
    """Signs what operators and joining hosts send."""

    def __init__(self, daemon: Daemon, keys: Any, genesis: Any) -> None:
        self.daemon = daemon
        self.keys = keys
        self.genesis = genesis

    def signed(self, key: SigningKey, method: str, target: str, body: bytes, tag: str) -> dict[str, str]:
        return sign_request(
            key,
            method,
            target,
            body,
            audience=self.keys.authority.key_id,
            created=int(time.time()),
            nonce=os.urandom(16),
            tag=tag,
        )

    def invite(self, name: str) -> Invite:
        seed = SigningKey.generate()
        value = {"invite_key": b64url_encode(seed.public), "name": name, "roles": ["client"]}
        body = json.dumps(value).encode()
        headers = self.signed(self.keys.admin, "POST", "/admin/invites", body, ADMIN_TAG)
        status, answer = self.daemon.ask("POST", "/admin/invites", headers, body)
        assert status == 201, answer
        return Invite(
            urls=("http://127.0.0.1:1",),
            network_id=network_id(self.genesis),
            genesis_version=1,
            genesis_digest=self.genesis.digest,
            authority=self.keys.authority.key_id,
            seed=seed.seed,
        )

    def join_request(self, invite: Invite) -> tuple[dict[str, str], bytes]:
        node, noise = SigningKey.generate(), NoiseKey.generate()
        request = make_join_request(
            invite, node, noise.public, invite.network_id, int(time.time()), os.urandom(16)
        )
        body = request.encode()
        return self.signed(node, "POST", "/join", body, JOIN_TAG), body


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A state directory with a daemon that is not started yet; ended after the test."""
    keys = fixtures.Keys()
    genesis = fixtures.write_state(tmp_path / "authority", keys, int(time.time()) - 60)
    daemon = Daemon(
        tmp_path / "authority", "--rate", "100000000", "--key-rate", "100000000", "--failure-rate", "1000000",
        "--connections", "0",
    )  # fmt: skip
    yield Fleet(daemon, keys, genesis)
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.process.kill()
        daemon.process.wait(20)


def test_starts_answers_and_stops_cleanly(fleet: Fleet) -> None:
    """The daemon answers, is ready, and SIGTERM ends it without a word of complaint."""
    fleet.daemon.start()
    assert fleet.daemon.ask("GET", "/readyz") == (200, {"status": "ready"})
    assert fleet.daemon.ask("GET", "/genesis")[1] == fleet.genesis.as_dict()
    for wrong in ("/genesis/%2e%2e%2f", "/../../etc/passwd", "/genesis/..%2f..%2fx"):
        assert fleet.daemon.ask("GET", wrong)[0] == 404
    invite = fleet.invite("pump-1")
    assert fleet.daemon.ask("POST", "/join", *fleet.join_request(invite))[0] == 201
    assert fleet.daemon.end() == -signal.SIGTERM
    log = fleet.daemon.log.read_text()
    assert "Traceback" not in log and "Unhandled" not in log, log


def test_a_busy_port_is_one_line(fleet: Fleet) -> None:
    """A port in use ends the program with exit code 1 and says which."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = fleet.daemon.refuses_to_start(taken.getsockname()[1])
        assert f"cannot listen on tcp:{taken.getsockname()[1]}:" in line


def test_t2_one_invite_admits_one_of_sixty_four(fleet: Fleet) -> None:
    """64 hosts race for one invite, over and over: exactly one gets 201 each time."""
    fleet.daemon.start()
    with ThreadPoolExecutor(64) as pool:
        for number in range(5):
            invite = fleet.invite(f"pump-{number}")
            requests = [fleet.join_request(invite) for _ in range(64)]
            gate = threading.Barrier(64)

            def join(request: tuple[dict[str, str], bytes], gate: threading.Barrier = gate) -> int:
                gate.wait()
                return fleet.daemon.ask("POST", "/join", *request)[0]

            assert sorted(pool.map(join, requests)) == [201] + [403] * 63


def test_t3_kill_under_load_loses_nothing(fleet: Fleet) -> None:
    """kill -9 while hosts join: who saw 201 is a member, invite used <=> certificate <=> audit row."""
    admitted: list[int] = []
    for round_ in range(3):
        fleet.daemon.start()
        invites = [fleet.invite(f"pump-{round_}-{number}") for number in range(60)]
        requests = [fleet.join_request(invite) for invite in invites]

        def join(request: tuple[dict[str, str], bytes]) -> None:
            try:
                status, answer = fleet.daemon.ask("POST", "/join", *request)
            except (OSError, ValueError):
                return
            assert status == 201, answer
            data = json.dumps(answer["certificate"]).encode()
            admitted.append(parse_document(data, Certificate).body.serial)

        before = len(admitted)
        with ThreadPoolExecutor(16) as pool:
            jobs = [pool.submit(join, request) for request in requests]
            while len(admitted) < before + 20:
                time.sleep(0.001)
            fleet.daemon.end(signal.SIGKILL)
            for job in jobs:
                job.result()
    fleet.daemon.start()
    assert fleet.daemon.end() == -signal.SIGTERM
    check_invariants(fleet.daemon.state, admitted)


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
    joins = [row["serial"] for _, entry, _ in entries if (row := json.loads(entry))["action"] == "join"]
    assert set(admitted) <= serials
    assert sorted(used) == sorted(joins) == sorted(serials)
    size, head = verify_chain(entries)
    mirrored = [json.loads(line) for line in (state / "audit.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in mirrored] == list(range(1, size + 1))
    assert mirrored[-1]["hash"] == head.hex()
    assert [line["row"] for line in mirrored] == [json.loads(entry) for _, entry, _ in entries]
