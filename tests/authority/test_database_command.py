# SPDX-License-Identifier: MIT
"""C{gmesh database}: a database is made, looked at, and refused."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from authority.postgres_server import PostgresServer
from authority.state_files import Keys, write_state
from click.testing import CliRunner, Result

from gmesh.authority import limits
from gmesh.cli.database import database


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As C{gmesh init} makes it, now."""
    write_state(tmp_path / "authority", Keys(), int(time.time()) - 60)
    return tmp_path / "authority"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(database, [str(argument) for argument in arguments])


def lines(result: Result) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in result.output.splitlines())


def test_a_database_is_created_once_and_checked(state: Path, postgres: PostgresServer) -> None:
    """Create fills an empty one only; check has one line a thing, for people and for programs."""
    url = postgres.database()
    made = call("create", url, "--state", state)
    assert made.exit_code == 0 and made.output.startswith("created: network "), made.output
    again = call("create", url, "--state", state)
    assert again.exit_code == 1 and "began already" in str(again.exception)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO migration VALUES (9999, 'none', '', 0)")
        newer: Any = call("check", url, "--state", state)
        assert newer.exit_code == 1 and lines(newer)["schema"].startswith("BAD: ")
        connection.execute("DELETE FROM migration WHERE number = 9999")
    found = lines(call("check", url, "--state", state))
    assert list(found) == ["server", "schema", "network", "audit", "commits", "disk", "clock"]
    assert found["disk"].startswith("BAD: fsync off")  # as the tests start it
    assert found["schema"].endswith("this program's") and "encoding UTF8" in found["server"]
    assert found["commits"] == "synchronous_commit on, no standby is waited for"
    differs = re.fullmatch(r"the server's differs by (-?\d+\.\d) s from this host's", found["clock"])
    assert differs is not None and abs(float(differs[1])) <= limits.CLOCK_DIFFERENCE_SECONDS
    shown = json.loads(call("check", url, "--state", state, "--json").output)
    assert {each["what"]: each["good"] for each in shown} == {name: name != "disk" for name in found}


def test_check_finds_an_audit_that_was_changed(state: Path, postgres: PostgresServer) -> None:
    """Its chain is computed anew."""
    url = postgres.database()
    assert call("create", url, "--state", state).exit_code == 0
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE audit SET entry = entry || ' '::bytea WHERE seq = 2")
    found = call("check", url, "--state", state)
    assert lines(found)["audit"].startswith("BAD: ") and "audit" in str(found.exception)


def test_p31_a_url_with_a_password_is_refused_here_too(state: Path) -> None:
    """And none at all is asked for."""
    for command in ("create", "check"):
        shown = call(command, "postgresql://gmesh:s3cret@db/gmesh", "--state", state)
        assert "--database-file" in str(shown.exception) and "s3cret" not in str(shown.exception)
        assert "name the database" in str(call(command, "--state", state).exception)
