# SPDX-License-Identifier: MIT
"""
C{gmesh database}: the database that several authority daemons share, from a host that may run one.

Tests: C{tests/authority/test_database_command.py}.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gmesh.cli.database_copy import copy
from gmesh.cli.groups import Group
from gmesh.cli.options import json_option, passphrase_option
from gmesh.cli.output import print_json, printable
from gmesh.errors import ConfigurationError, GmeshError
from gmesh.keyfiles import Passphrases

if TYPE_CHECKING:
    from gmesh.authority.state import StateDirectory

__all__ = ["database"]

_path = click.Path(path_type=Path)
_url = click.argument("url", metavar="[URL]", required=False)
_file_option = click.option(
    "--database-file", metavar="FILE", help="Private file with the URL, password and all, in its place."
)
_state_option = click.option(
    "--state", metavar="DIR", type=_path, required=True, help="The authority's state directory."
)


@click.group(cls=Group)
def database() -> None:
    """
    Make, move and check the PostgreSQL database that several authority daemons share.

    URL is libpq's, postgresql://USER@HOST/NAME for one, and must not hold a password: that goes into
    --database-file, the systemd credential database, or a passfile.
    """


database.add_command(copy)


@database.command()
@_url
@_file_option
@_state_option
@passphrase_option
def create(url: str | None, database_file: str | None, state: Path, passphrase_file: Path | None) -> None:
    """
    Fill an empty database with the tables and first rows of the authority that DIR was made for.

    The daemon never does that: a wrong URL would make a second authority with the same key.
    """
    from gmesh.authority.server import read_possible_rules

    directory = _directory(url, database_file, state, passphrase_file)
    opened = directory.create(directory.issuer(), int(time.time()), read_possible_rules(state))
    click.echo(
        f"created: network {directory.network_id}, genesis {opened.chain[-1].body.version},"
        f" policy {opened.policy.body.version}, in {printable(directory.engine.name)}"
    )


@database.command()
@_url
@_file_option
@_state_option
@passphrase_option
@json_option
def check(
    url: str | None, database_file: str | None, state: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    """
    Say what a database is like: its schema, audit and settings, and how far its clock is off.

    Nothing is changed; daemons may run.  Exit status 1 if a daemon could not rely on it.
    """
    from gmesh.authority.database_check import check_database

    found = check_database(_directory(url, database_file, state, passphrase_file), time.time)
    if as_json:
        print_json([{"what": each.what, "good": each.good, "text": each.text} for each in found])
    else:
        for each in found:
            click.echo(f"{each.what}: {'' if each.good else 'BAD: '}{printable(each.text)}")
    bad = [each.what for each in found if not each.good]
    if bad:
        raise GmeshError("bad-database", f"no daemon should rely on this database: {', '.join(bad)}")


def _directory(
    url: str | None, database_file: str | None, state: Path, passphrase_file: Path | None
) -> StateDirectory:
    from gmesh.authority.database_url import find_url, make_engine
    from gmesh.authority.state import StateDirectory

    named = find_url(url, database_file)
    if named is None:
        raise ConfigurationError("bad-database", "name the database: URL or --database-file")
    return StateDirectory(state, int(time.time()), Passphrases(passphrase_file), make_engine(named))
