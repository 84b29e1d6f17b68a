# SPDX-License-Identifier: MIT
"""kill -9 between any two steps of joins, renewals, revocations, backups and restores."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from authority.killed import ROUND_SECONDS, Continued, FleetKeys, restore_again, run_restore, run_victim
from authority.state_files import POLICY_TEXT, START, write_state

from gmesh.authority.audit import verify_chain
from gmesh.authority.store import sqlite
from gmesh.errors import StoreError
from gmesh.trust.documents import Crl, parse_document
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.keys import KEY_SIZE, key_id

pytestmark = pytest.mark.sqlite("steps of processes between two changes of files")

DEADLINE = 180.0
SAMPLE = 5
"""Members of earlier rounds that are heard of after each."""
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["gmesh.authority.server", "gmesh.authority.restore", "treq.testing"])


class Ledger:
    """
    What was acknowledged, and looks for it after each kill.

    @ivar issued: (node key, Noise key, certificate) of members, by node_id.
    @ivar doubtful: nodes whose revocation was asked for, but not acknowledged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.issued: dict[str, tuple[bytes, bytes, bytes]] = {}
        self.revoked: set[str] = set()
        self.doubtful: set[str] = set()
        self.kills: dict[str, int] = {}
        write_state(path, FleetKeys(), policy={**POLICY_TEXT, "max_nodes": 100_000})

    def note(self, told: list[tuple[Any, ...]]) -> list[str]:
        """Take in what a process said. @return: whom it admitted or renewed."""
        news, begun = [], ""
        for what, *said in told:
            if what == "issued":
                certificate = json.loads(said[2])["signed"]
                node_id = node_id_of(certificate["node_key"])
                self.issued[node_id] = (said[0], said[1], said[2])
                news.append(node_id)
                begun = ""
            elif what == "revoked":
                self.revoked.add(said[0])
                begun = ""
            else:
                begun = said[0]
                if begun == "revoke":
                    self.doubtful.add(said[1])
        self.kills[begun] = self.kills.get(begun, 0) + 1
        self.doubtful -= self.revoked
        return news

    def check(self, round_: int, news: list[str], chance: random.Random) -> None:
        """Start once more: all that was acknowledged is so, and nothing is half."""
        try:
            network = Continued(self.path, round_)
        except StoreError as error:
            assert error.reason == "older-database", error
            restore_again(self.path, START + round_ * ROUND_SECONDS)
            network = Continued(self.path, round_)
        network.clock.advance(1)
        network.clock.advance(61)  # what was revoked and is on no CRL yet is listed then
        crl = parse_document(network.ask("GET", "/crl").body, Crl).body
        listed = {key for key, _ in crl.revoked_keys}
        assert self.revoked <= listed <= self.revoked | self.doubtful
        earlier = chance.sample(sorted(self.issued), min(SAMPLE, len(self.issued)))
        for node_id in {*news, *earlier}:
            answer = network.heartbeat(network.known(*self.issued[node_id]))
            if node_id in listed:
                assert answer.slug in ("cert-revoked", "unknown-certificate")
            else:
                assert answer.status == 200, (answer.body, node_id in news)
        network.keep_files()
        network.stop()
        self.revoked |= listed
        self.nothing_is_half(listed)

    def nothing_is_half(self, listed: set[str]) -> None:
        """By sqlite3 alone."""
        database = sqlite3.connect(self.path / "authority.sqlite")
        try:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []
            entries = database.execute("SELECT seq, entry, hash FROM audit ORDER BY seq").fetchall()
            serials = {row[0] for row in database.execute("SELECT serial FROM certificate")}
            used = {row[0] for row in database.execute("SELECT used_serial FROM invite WHERE used_at > 0")}
            newest = {row[0] for row in database.execute("SELECT serial FROM node")}
            barred = {row[0] for row in database.execute("SELECT node_id FROM node WHERE barred_at > 0")}
        finally:
            database.close()
        rows = [json.loads(entry) for _, entry, _ in entries]
        made = {row["serial"]: row["action"] for row in rows if row["action"] in ("join", "renew", "adopt")}
        assert made.keys() == serials
        assert used == {row["serial"] for row in rows if row["action"] == "join"}
        assert newest <= serials and barred <= listed
        _, head = verify_chain(entries)
        mirror = [json.loads(line) for line in (self.path / "audit.jsonl").read_text().splitlines()]
        assert [line["row"] for line in mirror] == rows and mirror[-1]["hash"] == head.hex()


def node_id_of(node_key: str) -> str:
    """As the protocol has it."""
    return key_id(b64url_decode(node_key, KEY_SIZE))


def killed_victim(path: Path, round_: int, chance: random.Random) -> list[tuple[Any, ...]]:
    """Everything that a process said until it was killed, at a moment of chance."""
    mine, its = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=run_victim, args=(path, round_, its))
    process.start()
    its.close()
    said: list[tuple[Any, ...]] = []
    with mine:
        for _ in range(chance.randrange(3, 25)):
            assert mine.poll(DEADLINE), "the process says nothing"
            said.append(mine.recv())
        mine.poll(chance.uniform(0, 0.2 if said[-1] == ("begins", "restore") else 0.01))
        process.kill()
        process.join(DEADLINE)
        try:
            while True:
                said.append(mine.recv())
        except EOFError:
            pass
    assert process.exitcode == -9, said[-1]
    return said


@pytest.mark.parametrize(
    ("rounds", "seed"), [(6, 0), *(pytest.param(100, seed, marks=pytest.mark.soak) for seed in range(10))]
)
def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path, rounds: int, seed: int) -> None:
    """Who was admitted is a member, who was revoked is on the CRL, rows and files fit each other."""
    ledger = Ledger(tmp_path / "authority")
    chance = random.Random(seed)
    for number in range(rounds):
        news = ledger.note(killed_victim(ledger.path, 2 * number, chance))
        ledger.check(2 * number + 1, news, chance)


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.soak)])
def test_a_restore_killed_before_any_step_is_done_again(tmp_path: Path, stride: int) -> None:
    """Before each file that it writes, moves or removes: the daemon starts, or asks for another."""
    ledger = Ledger(tmp_path / "authority")
    chance = random.Random(1)
    begin = Continued(ledger.path, 0)
    member = begin.joined("pump-1")
    assert begin.admin("POST", "/admin/backup").status == 201
    begin.clock.advance(2)
    assert (
        begin.admin("POST", "/admin/revocations", {"node": "pump-1", "reason": "key-compromise"}).status
        == 201
    )
    ledger.revoked.add(member.node.key_id)
    young = begin.joined("pump-2")
    assert young.certificate is not None
    ledger.issued[young.node.key_id] = (young.node.to_pem(), young.noise.private, young.certificate.encode())
    begin.clock.advance(2)
    begin.keep_files()
    begin.stop()
    step, process = 0, None
    while process is None or process.exitcode == -9:
        step += stride
        process = PROCESSES.Process(target=run_restore, args=(ledger.path, 2 * step, step))
        process.start()
        process.join(DEADLINE)
        ledger.check(2 * step + 1, [young.node.key_id], chance)
    assert process.exitcode == 0 and step > 10


def test_a_killed_restore_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    """The log of its copy is not played into another."""
    path = tmp_path / "authority"
    network = Continued(path, 0)
    assert network.admin("POST", "/admin/backup").status == 201
    network.clock.advance(1)
    network.keep_files()
    network.stop()
    copy = tmp_path / "copy.sqlite"
    shutil.copyfile(max((path / "backups").glob("*.sqlite")), copy)
    connection = sqlite.connect(copy)
    connection.execute("UPDATE operator SET role = 'administer'")
    shutil.copyfile(copy, path / "authority.sqlite.restoring")
    shutil.copyfile(f"{copy}-wal", path / "authority.sqlite.restoring-wal")
    connection.close()
    done = restore_again(path, network.now + 60)
    assert sorted(operator.role for operator in done.operators_after) == ["administer", "operate", "read"]
    assert not list(path.glob("*.restoring*"))
