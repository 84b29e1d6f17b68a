# SPDX-License-Identifier: MIT
"""
Which database an authority is told to use: a URL for libpq, which may hold a password and so is never shown.

Tests: C{tests/authority/test_database_url.py}.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from gmesh.errors import ConfigurationError, StoreError
from gmesh.files import read_key_file

__all__ = ["DATABASE_CREDENTIAL", "find_url", "make_engine", "wait_for"]

DATABASE_CREDENTIAL = "database"
_HIDDEN = ("password", "sslpassword")
"""Parameters of libpq that nobody may read off a command line."""
_SHOWN = ("host", "hostaddr", "port", "dbname")
"""Parameters that logs and errors show."""
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0


def find_url(given: str | None, file: str | None) -> str | None:
    """
    The URL of the database.

    @param given: on the command line or in a configuration file, where a password would be read by others.
    @param file: the name of a private file that holds it.
    @return: None, if nothing names one: the database is a file in the state directory.
    @raise ConfigurationError: C{password-shown}, C{bad-database}, C{missing-psycopg}, and as for key files.
    """
    if given and file:
        raise ConfigurationError(
            "bad-database", "--database and --database-file both name a database: give one of them"
        )
    if given:
        if any(_parts(given).get(name) for name in _HIDDEN):
            raise ConfigurationError(
                "password-shown",
                "the URL of the database holds a password, which others can read there: put it into a file"
                f" for --database-file (@FILE of gmesh database copy), into the systemd credential"
                f" {DATABASE_CREDENTIAL}, or name a passfile in the URL",
            )
        return given
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(file) if file else None
    if path is None and credentials and (Path(credentials) / DATABASE_CREDENTIAL).exists():
        path = Path(credentials) / DATABASE_CREDENTIAL
    if path is None:
        return None
    try:
        text = read_key_file(path).decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or "\n" in text:
        raise ConfigurationError("bad-database", f"{path} holds no URL: one line is expected")
    return text


def make_engine(url: str) -> Any:
    """
    The engine (L{gmesh.authority.interfaces.IEngine}) for a URL.

    @raise ConfigurationError: C{missing-psycopg}, C{bad-database}.
    """
    _parts(url)
    return _postgres().PostgresEngine(url)


def _postgres() -> Any:
    try:
        from gmesh.authority.store import postgres
    except ImportError as error:
        raise ConfigurationError(
            "missing-psycopg",
            f"a database by URL is PostgreSQL's, and there is no psycopg ({error}): install python3-psycopg"
            " (with pip: gmesh[postgres])",
        ) from error
    return postgres


def _parts(url: str) -> dict[str, Any]:
    found: dict[str, Any] = _postgres().url_parts(url)
    if any("@" in str(found.get(name, "")) for name in _SHOWN):
        raise ConfigurationError(
            "bad-database",
            'the URL of the database has an "@" in its host, port or name, as one does whose password holds'
            ' "@", "/" or ":": write them there as %40, %2F and %3A',
        )
    return found


def wait_for(
    engine: Any, tell: Callable[[str], object], sleep: Callable[[float], object] = time.sleep
) -> None:
    """
    Wait until the server of a shared database answers; what else it says is no matter of time.

    A pool before it takes connections without it, so it is asked something.

    @param tell: called once, with why it waits, and once when it is over.
    @raise StoreError: C{refused-database}, if the server does not let this role in, or has no such database.
    """
    wait, told = _FIRST_WAIT, False
    while True:
        try:
            with closing(engine.connect()) as connection:
                connection.execute("SELECT 1")
        except Exception as error:
            if not engine.is_error(error):
                raise
            why: StoreError = engine.explain(error)
            if why.reason != "unavailable":
                raise why from error
            if not told:
                tell(f"{why.detail}; waits for it")
                told = True
        else:
            if told:
                tell(f"{engine.name} is there")
            return
        sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)
