# SPDX-License-Identifier: MIT
"""D2 after a clean stop: the file is read through beside the work, and no damage is worked with."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gmesh.authority.store import sqlite
from gmesh.authority.store.clean_shutdown import leave_clean, take_clean
from gmesh.errors import StoreError

pytestmark = pytest.mark.sqlite("a file that is read through, and the note beside it")


@pytest.fixture
def read_through(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """When the database was read through: before the daemon answered, or after."""
    times: list[str] = []
    check = sqlite.check_integrity

    def watched(path: Path, **more: Any) -> None:
        times.append("after" if "given_up" in more else "before")
        check(path, **more)

    monkeypatch.setattr(sqlite, "check_integrity", watched)
    return times


def damage(path: Path) -> None:
    """Overwrite a page that no start reads: the root of the certificates."""
    with closing(sqlite3.connect(path)) as database:
        (size,) = database.execute("PRAGMA page_size").fetchone()
        (page,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'certificate'").fetchone()
    with open(path, "r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(os.urandom(size))


def test_a_file_left_whole_is_read_after_the_start(network: Any, read_through: list[str]) -> None:
    """The note of a clean stop puts the reading off, and counts once."""
    network.stop()
    network.start()
    assert read_through == ["after"]
    assert not (network.path / "authority.clean").exists()


LOOK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
print(*database.execute("SELECT name FROM node ORDER BY name"))
database.close()
"""


def look(network: Any) -> str:
    """Who is a member, as another program sees it that opens the live database and closes it."""
    ran = subprocess.run(
        [sys.executable, "-c", LOOK, network.path / "authority.sqlite"], stdout=subprocess.PIPE, check=True
    )
    return ran.stdout.decode()


def test_a_stranger_may_look_while_it_is_read(network: Any) -> None:
    """Reading the file through ends no lock on it: who opens and closes it takes no log away."""
    network.joined("pump-1")
    network.restart()
    network.joined("pump-2")
    assert look(network) == "('pump-1',) ('pump-2',)\n"
    network.joined("pump-3")
    assert look(network) == "('pump-1',) ('pump-2',) ('pump-3',)\n"


def test_damage_found_after_the_start_ends_all_writing(network: Any) -> None:
    """A disk that lost pages though nobody wrote: changes and readyz answer 503 corrupt, reads go on."""
    member = network.joined("pump-1")
    network.stop()
    path = network.path / "authority.sqlite"
    before, whole = path.stat(), path.read_bytes()
    damage(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    network.start()
    for answer in (network.ask("GET", "/readyz"), network.renew(member)):
        assert (answer.status, answer.slug) == (503, "corrupt")
    assert "log" in answer.json["detail"]
    assert (
        "gmesh restore"
        in network.admin("DELETE", f"/admin/invites/{member.invite.key.key_id}").json["detail"]
    )
    assert network.ask("GET", "/crl").status == 200
    network.stop()
    assert not (network.path / "authority.clean").exists()
    with pytest.raises(StoreError, match="gmesh restore"):
        network.start()
    path.write_bytes(whole)
    network.start()


def test_a_file_that_was_changed_since_is_read_before(network: Any, read_through: list[str]) -> None:
    """The note fits the file as it was left; another one is read through, and refused if it is damaged."""
    network.stop()
    path = network.path / "authority.sqlite"
    whole = path.read_bytes()
    damage(path)
    with pytest.raises(StoreError, match="damaged"):
        network.start()
    assert read_through == ["before"]
    path.write_bytes(whole)
    network.start()


def test_no_note_without_a_clean_stop(tmp_path: Path) -> None:
    """None was left: none is found; with a write-ahead log beside the file nothing is left either."""
    database = tmp_path / "authority.sqlite"
    database.write_bytes(b"x")
    assert not take_clean(database)
    leave_clean(database)
    assert take_clean(database)
    assert not take_clean(database)
    (tmp_path / "authority.sqlite-wal").touch()
    leave_clean(database)
    assert not take_clean(database)


def test_damage_met_by_a_question_leaves_no_clean_note(network: Any) -> None:
    """A page that turns out unreadable long after the start: writing ends, and the next start reads all."""
    network.stop()
    network.start()
    assert network.ask("GET", "/readyz").status == 200

    def meets_damage(reader: Any) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorname = "SQLITE_CORRUPT"
        raise error

    refused: list[Any] = []
    network.authority.store.read(meets_damage).addErrback(refused.append)
    assert refused[0].value.reason == "corrupt"
    network.clock.advance(60)
    assert network.ask("GET", "/readyz").status == 503
    network.stop()
    assert not (network.path / "authority.clean").exists()
    network.start()
