# SPDX-License-Identifier: MIT
"""Where the URL of the database comes from, and that no password of it is seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from authority.postgres_server import GUARDED, PostgresServer
from authority.state_files import Keys, write_state

from gmesh.authority.database_url import find_url, make_engine, wait_for
from gmesh.authority.options import Options
from gmesh.errors import ConfigurationError, GmeshError

SECRET = "Tr0ub4dor-and-3"


def private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://gmesh:{SECRET}@db.example/gmesh",
        f"host=db.example password={SECRET}",
        f"postgresql://gmesh@db.example/gmesh?sslpassword={SECRET}",
    ],
)
@pytest.mark.parametrize("place", ["option", "file"])
def test_p31_a_password_where_others_read_it_is_refused(tmp_path: Path, url: str, place: str) -> None:
    """On a command line and in the configuration file; the line names what to do and shows nothing of it."""
    write_state(tmp_path / "authority", Keys())
    file = tmp_path / "authority.toml"
    file.write_text(f'database = "{url}"\n')
    more = ["--database", url] if place == "option" else ["--config", str(file)]
    with pytest.raises(SystemExit) as stopped:
        Options().parseOptions(["--state", str(tmp_path / "authority"), "--check", *more])
    said = str(stopped.value)
    assert SECRET not in said and "\n" not in said
    assert all(word in said for word in ("--database-file", "systemd credential database", "passfile"))


@pytest.mark.parametrize("password", ["Tr0ub@dor", "x@Tr0ub/dor", "x@b:Tr0ub"])
@pytest.mark.parametrize("place", ["option", "file"])
def test_p31_a_password_that_is_not_escaped_is_refused(tmp_path: Path, password: str, place: str) -> None:
    """Or a part of it would be the host, the port or the name, which logs show."""
    url = f"postgresql://gmesh:{password}@db.example/gmesh"
    with pytest.raises(ConfigurationError) as caught:
        found = (
            find_url(url, None) if place == "option" else find_url(None, str(private(tmp_path / "url", url)))
        )
        make_engine(found or "")
    assert caught.value.reason == "bad-database"
    assert "dor" not in caught.value.detail and "Tr0ub" not in caught.value.detail


def test_the_url_comes_from_an_option_a_private_file_or_the_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order; without any the database is a file."""
    whole = f"postgresql://gmesh:{SECRET}@db.example/gmesh"
    assert find_url(None, None) is None
    (tmp_path / "given").mkdir()
    (tmp_path / "given/database").write_text(whole + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "given"))
    assert find_url(None, None) == whole
    assert find_url(None, str(private(tmp_path / "url", "host=a"))) == "host=a"
    assert find_url("host=b", None) == "host=b"
    with pytest.raises(ConfigurationError, match="give one of them"):
        find_url("host=b", str(tmp_path / "url"))
    (tmp_path / "url").chmod(0o644)
    with pytest.raises(ConfigurationError, match="others can read it"):
        find_url(None, str(tmp_path / "url"))
    with pytest.raises(ConfigurationError, match="one line is expected"):
        find_url(None, str(private(tmp_path / "two", "host=a\nhost=b")))


def test_without_psycopg_one_line_says_what_to_install() -> None:
    """Whoever names no database by URL does without it."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from gmesh.authority.database_url import make_engine\n"
        "from gmesh.authority.daemon import compose\n"
        "try: make_engine('host=a')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ConfigurationError") and "python3-psycopg" in done.stdout
    assert done.stdout.count("\n") == 1 and not done.stderr


def test_p24_a_server_that_is_not_there_yet_is_waited_for(postgres: PostgresServer) -> None:
    """One line when it begins and one when it is over; tried ever less often."""
    url = postgres.database()
    engine = make_engine(url.replace("host=", "host=/nowhere"))
    there, said, slept = make_engine(url), [], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 7:
            engine.connect = there.connect

    wait_for(engine, said.append, sleep)
    assert slept == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert [line.rpartition(";")[2].split()[-1] for line in said] == ["it", "there"]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"dbname": "nowhere"}, '"nowhere" does not exist'), ({"user": "nobody"}, '"nobody" does not exist')],
)
def test_p24_what_no_waiting_mends_ends_the_start(
    postgres: PostgresServer, change: dict[str, str], says: str
) -> None:
    """One line with what the server said."""
    engine = make_engine(psycopg.conninfo.make_conninfo(postgres.database(), **change))
    with pytest.raises(GmeshError, match=says) as caught:
        wait_for(engine, pytest.fail, pytest.fail)
    assert caught.value.reason == "refused-database" and "\n" not in caught.value.detail


def test_p24_a_wrong_password_ends_the_start_and_is_not_told(postgres: PostgresServer) -> None:
    """Neither in the line nor in what made it."""
    url = postgres.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD 'another'".encode())
    engine = make_engine(psycopg.conninfo.make_conninfo(url, user=GUARDED, password=SECRET))
    with pytest.raises(GmeshError, match="authentication failed") as caught:
        wait_for(engine, pytest.fail, pytest.fail)
    assert SECRET not in repr(caught.value) + str(caught.value) + str(caught.value.__cause__)
    assert SECRET not in engine.name
