# SPDX-License-Identifier: MIT
"""Several real authority daemons of one database, with HAProxy before them or without, and those who ask."""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
from authority import state_files
from click.testing import CliRunner
from live.authority_rig import DEADLINE, AuthorityProcess, Fleet, check_rows
from live.fronts import running

from gmesh.cli.database import database
from gmesh.trust.documents import Document, Status, document_from_dict
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import NoiseKey, SigningKey
from gmesh.trust.signed_requests import ADMIN_TAG, NODE_TAG

HAPROXY = Path(__file__).parents[2] / "debian/examples/haproxy-authority.cfg"
FREE = ("--rate", "100000000", "--key-rate", "100000000", "--failure-rate", "1000000", "--connections", "0")

Request = tuple[dict[str, str], bytes]


class OnServer:
    """
    Daemons of one authority on one database, and who asks each.

    @param path: gets the state directories.
    @param url: of the database, empty.
    @param options: of each daemon, beside those that free it of limits.
    @ivar admitted: the serial of each join that was answered so.
    """

    def __init__(self, path: Path, url: str, count: int, *options: str) -> None:
        self.keys = state_files.Keys()
        policy = {**state_files.POLICY_TEXT, "max_nodes": 100_000}
        now = int(time.time()) - 60
        self.url = url
        named = path / "url"
        named.touch(mode=0o600)
        named.write_text(self.url)
        self.daemons = []
        for number in range(count):
            state = path / str(number) / "authority"
            self.genesis = state_files.write_state(state, self.keys, now, policy)
            daemon = AuthorityProcess(state, *FREE, "--database-file", str(named), *options)
            self.daemons.append(daemon)
        made = CliRunner().invoke(
            database, ["create", self.url, "--state", str(self.daemons[0].state)], catch_exceptions=False
        )
        assert made.exit_code == 0
        self.fleets = [Fleet(daemon, self.keys, self.genesis) for daemon in self.daemons]
        self.admitted: list[int] = []

    def start(self) -> None:
        for daemon in self.daemons:
            daemon.start()

    def join(self, fleet: Fleet, request: Request) -> int | None:
        """One host joins, or hears again that it did. @return: the status; None if the connection broke."""
        try:
            status, answer = fleet.daemon.ask("POST", "/join", *request)
        except (OSError, ValueError, http.client.HTTPException):
            return None
        if status in (200, 201):
            self.admits(answer)
        return status

    def admits(self, answer: Any) -> None:
        """Remember that a join was acknowledged."""
        self.admitted.append(answer["certificate"]["signed"]["serial"])

    def check(self) -> int:
        """Nothing acknowledged is lost, and nothing is half. @return: how many certificates there are."""
        with psycopg.connect(self.url) as connection:
            serials = {row[0] for row in connection.execute("SELECT serial FROM certificate").fetchall()}
            used = connection.execute("SELECT used_serial FROM invite WHERE used_at IS NOT NULL").fetchall()
            entries = connection.execute("SELECT seq, entry, hash FROM audit ORDER BY seq").fetchall()
        check_rows(serials, [row[0] for row in used], entries, self.admitted)
        assert sorted(serials) == list(range(min(serials), min(serials) + len(serials)))
        return len(serials)

    def end(self) -> None:
        for daemon in self.daemons:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait(DEADLINE)


class Front:
    """
    One client, with a connection that it keeps.

    @param source: its address, by which it is given to a replica.
    @param answers: counts the answers, by what was asked and the status or what broke.
    """

    def __init__(self, port: int, source: str, answers: Counter[tuple[str, str]]) -> None:
        self._answers = answers
        self._connection = http.client.HTTPConnection("127.0.0.1", port, DEADLINE, source_address=(source, 0))

    def ask(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, Any]:
        """@see: L{AuthorityProcess.ask}"""
        kind = f"{method} {target.partition('?')[0]}"
        try:
            self._connection.request(method, target, body or None, headers or {})
            with self._connection.getresponse() as answer:
                status, said = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._answers[kind, repr(error)] += 1
            raise
        self._answers[kind, f"{status} {'' if status in (200, 201) else said.decode()}"] += 1
        return status, json.loads(said or b"null")

    def close(self) -> None:
        self._connection.close()


class Load:
    """
    Hosts that join, renew, report and read, and one that waits for news, until the block ends.

    @param ports: of the daemons, or of HAProxy; clients take turns.
    @ivar answers: what all of them heard, as of L{Front}.
    """

    def __init__(self, there: OnServer, ports: list[int], clients: int) -> None:
        self._there = there
        self._over = threading.Event()
        self._held: Document[Status] | None = None
        self.answers: Counter[tuple[str, str]] = Counter()
        fronts = [
            Front(port, f"127.0.7.{number + 1}", self.answers)
            for number, port in zip(range(clients + 1), cycle(ports), strict=False)
        ]
        self._threads = [
            threading.Thread(target=self._go_on, args=(self._host if number else self._hears_news, front))
            for number, front in enumerate(fronts)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def statuses(self) -> Counter[str]:
        """How many answers there were of each status; what broke has none."""
        found: Counter[str] = Counter()
        for (_, said), count in self.answers.items():
            found[said.partition(" ")[0]] += count
        return found

    def _go_on(self, step: Callable[[Front], None], front: Front) -> None:
        while not self._over.wait(0.02):
            with contextlib.suppress(
                OSError, http.client.HTTPException, AssertionError, KeyError, ValueError
            ):
                step(front)  # what was wrong is counted
        front.close()

    def _host(self, front: Front) -> None:
        """One more joins, renews, reports, reads, and is looked at."""
        fleet = Fleet(front, self._there.keys, self._there.genesis)
        node, noise = SigningKey.generate(), NoiseKey.generate()
        request = fleet.join_request(fleet.invite(f"pump-{os.urandom(8).hex()}"), node, noise)
        joined = front.ask("POST", "/join", *request)[1]
        self._there.admits(joined)
        certificate = {"certificate": joined["certificate"]}
        fleet.post(node, "/renew", {**certificate, "noise_key": b64url_encode(noise.public)}, NODE_TAG)
        report = {**certificate, "sent_ms": int(time.time() * 1000), "numbers": {"crl": 1}}
        fleet.post(node, "/heartbeat", report, NODE_TAG)
        for document in ("/status", "/crl", "/policy", "/genesis"):
            front.ask("GET", document)
        front.ask(
            "GET", "/admin/replicas", fleet.signed(fleet.keys.admin, "GET", "/admin/replicas", b"", ADMIN_TAG)
        )

    def _hears_news(self, front: Front) -> None:
        """Somebody waits for the next status, again and again."""
        target = "/status" if self._held is None else f"/status?after={self._held.digest}"
        self._held = document_from_dict(front.ask("GET", target)[1], Status)


class Balanced:
    """
    HAProxy before daemons that run, as its example has it.

    @ivar port: where it listens.
    """

    def __init__(self, directory: Path, port: int, daemons: list[AuthorityProcess]) -> None:
        self._directory = directory
        self.port = port
        text = HAPROXY.read_text()
        servers = [
            f"    server s{number} 127.0.0.1:{daemon.port} check inter 1s"
            for number, daemon in enumerate(daemons)
        ]
        for pattern, here, times in (
            (r"    bind .*\n", f"    bind 127.0.0.1:{port}\n", 1),
            (r"(    server .*\n)+", "\n".join([*servers, ""]), 2),
        ):
            text, changed = re.subn(pattern, here, text)
            assert changed == times, pattern
        directory.mkdir()
        (directory / "haproxy.cfg").write_text(f"global\n    stats socket {directory}/stats\n{text}")

    @contextmanager
    def running(self) -> Iterator[None]:
        """It runs until the block ends."""
        file = str(self._directory / "haproxy.cfg")
        with running(self._directory, f"127.0.0.1:{self.port}", "haproxy", "-f", file):
            yield

    def states(self) -> dict[str, str]:
        """What it thinks of each replica: whether it can decide."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(self._directory / "stats"))
            asked.sendall(b"show stat\n")
            told = b"".join(iter(lambda: asked.recv(65536), b"")).decode()
        rows = csv.DictReader(told.splitlines())
        found = [row for row in rows if row["# pxname"] == "replicas" and row["svname"].startswith("s")]
        return {row["svname"]: row["status"] for row in found}
