# SPDX-License-Identifier: MIT
"""A primary of PostgreSQL and its standby, which takes over."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from authority.network import Network
from authority.postgres_server import NOBODY
from authority.test_backups import body

from gmesh.authority.adopt import adopt
from gmesh.authority.rate_limit import RateLimits
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.errors import StoreError
from gmesh.testing.patience import Patience
from gmesh.trust.documents import Crl

pytestmark = pytest.mark.skipif(shutil.which("pg_basebackup") is None, reason="NOT RUN: no PostgreSQL here")


DEADLINE = 180.0


class Pair:
    """
    Two servers; each has its socket in a directory of its own.

    @ivar url: of whichever of them can be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._as = NOBODY if os.geteuid() == 0 else ()
        names = ("primary", "standby")
        for name in names:
            self._run("mkdir", str(directory / name))
        hosts = ",".join(str(directory / name) for name in names)
        self.url = f"host={hosts} user=gmesh dbname=gmesh target_session_attrs=read-write"
        self._run(
            *("initdb", "-D", str(self._data("primary")), "-U", "gmesh", "--auth=trust"),
            *("--encoding=UTF8", "--locale=C", "--no-sync"),
        )
        self.start("primary")
        self.sql("primary", "CREATE DATABASE gmesh TEMPLATE template0", database="postgres")
        self._run(
            *("pg_basebackup", "-R", "-X", "stream", "-c", "fast", "--no-sync"),
            *("-h", str(directory / "primary"), "-U", "gmesh", "-D", str(self._data("standby"))),
        )

    def _data(self, name: str) -> Path:
        return self._directory / name / "data"

    def _run(self, *command: str) -> None:
        environment = {**os.environ, "HOME": str(self._directory), "PGCTLTIMEOUT": "300"}
        subprocess.run(
            [*self._as, *command],
            check=True,
            env=environment,
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _ctl(self, name: str, *words: str) -> None:
        log = str(self._directory / name / "log")
        self._run("pg_ctl", "-D", str(self._data(name)), "-w", "-s", "-l", log, *words)

    def start(self, name: str) -> None:
        where = self._directory / name
        self._ctl(
            name, "-o", f"-c listen_addresses= -c unix_socket_directories={where} -c fsync=off", "start"
        )

    def stop(self, name: str, how: str) -> None:
        """C{fast} sends the standby all that there is; C{immediate} is a crash."""
        self._ctl(name, "-m", how, "stop")

    def promote(self) -> None:
        self._ctl("standby", "promote")

    def sql(self, name: str, statement: str, database: str = "gmesh") -> None:
        url = f"host={self._directory / name} user=gmesh dbname={database}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def wait_for_standby(self, names: str) -> None:
        """Whether commits of the primary wait; the standby follows it."""
        self.sql("primary", f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        self.sql("primary", "SELECT pg_reload_conf()")
        patience = Patience(DEADLINE)
        while self._waits() != (names, "sync" if names else "async"):
            assert patience.lasts(), "the primary does not take the setting"
            time.sleep(0.02)
        self.sql("primary", "CHECKPOINT")  # whoever makes them is who tells the others of the setting

    def _waits(self) -> tuple[str, str] | None:
        """What a new session has as the setting, and what the standby is."""
        with psycopg.connect(f"host={self._directory / 'primary'} user=gmesh dbname=gmesh") as connection:
            return connection.execute(
                "SELECT current_setting('synchronous_standby_names'), max(sync_state)"
                " FROM pg_stat_replication"
            ).fetchone()

    def of(self, state: Path) -> tuple[str, bool]:
        """As L{authority.postgres_server.PostgresServer.of}."""
        return self.url, True

    def end(self) -> None:
        for name in ("standby", "primary"):
            if (self._data(name) / "postmaster.pid").exists():
                self.stop(name, "immediate")


@contextmanager
def paired() -> Iterator[Pair]:
    """Both, of which the primary runs."""
    directory = Path(tempfile.mkdtemp(prefix="pair"))
    if os.geteuid() == 0:
        shutil.chown(directory, "nobody", "nogroup")
    made: list[Pair] = []
    try:
        made.append(Pair(directory))
        yield made[0]
    finally:
        for each in made:
            each.end()
        shutil.rmtree(directory)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with paired() as made:
        yield made


@pytest.fixture
def begin(pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Network]:
    """Make the authority, running."""

    def made() -> Network:
        monkeypatch.setattr(Network, "postgres", pair)
        return Network(tmp_path / "authority", RateLimits())

    return made


def audited(network: Network, action: str) -> list[dict[str, Any]]:
    rows = network.admin("GET", "/admin/audit?limit=500").json["entries"]
    return [entry["row"] for entry in rows if entry["row"]["action"] == action]


def test_p7_a_synchronous_standby_takes_over(pair: Pair, begin: Callable[[], Network]) -> None:
    """The primary crashes: nothing that was acknowledged is lost, and the epoch is the same."""
    pair.start("standby")
    network = begin()
    pair.wait_for_standby("*")
    members = [network.joined(f"pump-{number}") for number in range(3)]
    network.clock.advance(1)
    network.stop()
    pair.stop("primary", "immediate")
    pair.promote()
    pair.sql("standby", "ALTER SYSTEM RESET synchronous_standby_names")
    pair.sql("standby", "SELECT pg_reload_conf()")
    network.start()
    answers = [network.renew(member) for member in members]
    assert [answer.json["certificate"] for answer in answers] == [
        member.certificate.as_dict() for member in members if member.certificate
    ]
    assert network.joined("pump-9").certificate.body.serial < SERIALS_PER_EPOCH
    assert audited(network, "promotion") == []
    network.stop()


@pytest.mark.soak
def test_p9_another_standby_takes_over(pair: Pair, begin: Callable[[], Network]) -> None:
    """Nothing tells that anything was lost: a new epoch begins, and members go on."""
    pair.start("standby")
    network = begin()
    member = network.joined("pump-1")
    network.clock.advance(1)
    network.stop()
    pair.stop("primary", "fast")
    pair.promote()
    network.start()
    (row,) = audited(network, "promotion")
    assert row["target"] == "1"
    network.clock.advance(2)
    assert network.renew(member).status == 201
    assert body(network, "crl", Crl).number > SERIALS_PER_EPOCH
    network.stop()


@pytest.mark.soak
def test_p8_a_standby_without_the_last_rows_takes_over(pair: Pair, begin: Callable[[], Network]) -> None:
    """Nothing is issued; adopted with what this host showed, no revocation is undone, no number is twice."""
    pair.start("standby")
    network = begin()
    pair.wait_for_standby("*")
    old = network.joined("pump-1")
    pair.wait_for_standby("")
    pair.stop("standby", "fast")
    young = network.joined("pump-2")
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    network.clock.advance(2)
    network.stop()
    pair.stop("primary", "immediate")
    pair.start("standby")
    pair.promote()
    with pytest.raises(StoreError, match="gmesh database adopt"):
        network.start()
    pair.sql("standby", "DELETE FROM replica")  # its row counts for half a minute, as of one that was killed
    done = adopt(network.path, network.engine, network.now)
    network.clock.advance(2)
    network.start()
    network.clock.advance(2)
    assert network.renew(old).status == 403
    assert network.renew(young).status == 201
    assert [each[0] for each in body(network, "crl", Crl).revoked_nodes] == [old.node.key_id]
    assert network.joined("pump-3").certificate.body.serial > done.epoch * SERIALS_PER_EPOCH
    network.stop()
