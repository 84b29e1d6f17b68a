# SPDX-License-Identifier: MIT
"""C{gmesh database copy} as people call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from authority.state_files import START, Keys, write_state
from click.testing import CliRunner

from gmesh.authority.approval_rules import NO_APPROVALS
from gmesh.authority.database_copy import engine_of
from gmesh.authority.state import StateDirectory
from gmesh.cli.database_copy import copy, copying
from gmesh.cli.database_options import shared_engine
from gmesh.errors import ConfigurationError, GmeshError, StoreError


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Of an authority that was started once."""
    state = tmp_path / "authority"
    write_state(state, Keys())
    directory = StateDirectory(state, START)
    directory.open(directory.issuer(), START, NO_APPROVALS)
    return state


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(copy, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_it_says_what_was_copied_and_where_to_serve_from(state: Path) -> None:
    """In a line for people, and as JSON."""
    first, second, third = (state / name for name in ("authority.sqlite", "b.sqlite", "c.sqlite"))
    told = run(first, second, "--state", state)
    assert f"{first} is closed: serve from {second}" in told
    answer = json.loads(run(second, third, "--state", state, "--json"))
    assert (answer["from"], answer["to"]) == (str(second), str(third))
    assert answer["audit"]["size"] >= 4 and answer["rows"] > answer["audit"]["size"]


def test_a_url_may_stand_in_a_private_file(tmp_path: Path) -> None:
    """With its password; others may not read the file."""
    file = tmp_path / "url"
    file.write_text("postgresql://gmesh:secret@db.example/gmesh\n")
    file.chmod(0o600)
    assert engine_of(f"@{file}").name == "database gmesh of db.example"
    file.chmod(0o644)
    with pytest.raises(GmeshError, match="url"):
        engine_of(f"@{file}")


def test_an_at_sign_alone_names_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of a script was empty: what systemd gave the authority is not meant by it."""
    (tmp_path / "database").touch(0o600)
    (tmp_path / "database").write_text("postgresql://gmesh@db.example/gmesh\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ConfigurationError, match="after @") as caught:
        engine_of("@")
    assert caught.value.reason == "bad-database"


def test_a_source_that_moved_names_where_it_went(state: Path) -> None:
    """So that nobody copies what is old."""
    first, second, third = (state / name for name in ("authority.sqlite", "b.sqlite", "c.sqlite"))
    run(first, second, "--state", state)
    with pytest.raises(StoreError, match=f"moved to {second}") as caught:
        run(first, third, "--state", state)
    assert caught.value.reason == "moved"


def test_the_bar_is_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that reads what is printed finds only that in it."""
    with copying(2000, quiet=True) as progress:
        progress(1000)
    assert capsys.readouterr() == ("", "")


def test_a_database_is_named_by_a_url_or_by_a_file_that_holds_one(tmp_path: Path) -> None:
    """Only the file may hold a password; neither is ever shown."""
    file = tmp_path / "url"
    file.touch(0o600)
    file.write_text("postgresql://gmesh:secret@db/authority\n")
    assert shared_engine(None, str(file)).name == "database authority of db"
    assert shared_engine("postgresql://gmesh@db/authority", None).shared
    assert shared_engine(None, None) is None
    for url, other in (
        ("postgresql://gmesh:secret@db/authority", None),
        ("host=db", str(file)),
    ):
        with pytest.raises(ConfigurationError) as caught:
            shared_engine(url, other)
        assert "secret" not in caught.value.detail
