# SPDX-License-Identifier: MIT
"""
C{gmesh database copy} and C{adopt}: from a file to PostgreSQL and back, and going on with a database that
others put back, while the authority is stopped.

Tests: C{tests/authority/test_database_copy.py}, C{tests/cli/test_database_copy.py}.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from gmesh.cli.database_options import shared_engine
from gmesh.cli.options import json_option, passphrase_option
from gmesh.cli.output import print_json, printable
from gmesh.cli.recovery import rework, rework_options
from gmesh.errors import ConfigurationError

__all__ = ["adopt", "copy", "copying"]

_state_option = click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="The authority's state directory, whose daemon is stopped.",
)
_file_option = click.option(
    "--database-file", metavar="FILE", help="Private file with the URL, password and all, in its place."
)


@contextmanager
def copying(rows: int, quiet: bool) -> Iterator[Callable[[int], object]]:
    """A bar, unless C{quiet}. @return: to be told of so many more rows."""
    if quiet:
        yield lambda more: None
        return
    with click.progressbar(length=rows, label="copying and comparing") as bar:
        yield bar.update


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@_state_option
@json_option
def copy(source: str, target: str, state: Path, as_json: bool) -> None:
    """
    Copy the authority's database FROM one place TO another, and compare every row.

    Each is a file of SQLite, a URL of PostgreSQL (postgresql://...), or @FILE: a private file with the
    URL, password and all.  TO must be empty, and no daemon may serve from FROM, which refuses to be served
    from afterwards.  Nothing is signed anew: nodes notice nothing.
    """
    from gmesh.authority.database_copy import copy_database, copy_end, engine_of

    watch = partial(copying, quiet=as_json or not sys.stdout.isatty())
    ends = copy_end(engine_of(source)), copy_end(engine_of(target))
    done = copy_database(state, *ends, int(time.time()), watch)
    if as_json:
        return print_json(
            {
                "rows": done.rows,
                "audit": {"size": done.audit, "head": done.head},
                "from": done.source,
                "to": done.target,
            }
        )
    click.echo(
        f"copied and compared: {done.rows} rows, {done.audit} of the audit, whose chain is whole\n"
        f"{done.source} is closed: serve from {done.target}"
    )


@click.command()
@click.argument("url", metavar="[URL]", required=False)
@_file_option
@_state_option
@click.option(
    "--whole",
    is_flag=True,
    help="It was moved while the authority was stopped, and nothing was lost: take it as it is.",
)
@rework_options
@passphrase_option
@json_option
def adopt(
    url: str | None,
    database_file: str | None,
    state: Path,
    whole: bool,
    passphrase_file: Path | None,
    as_json: bool,
    **known: Any,
) -> None:
    """
    Go on with a database that its administrators put back by their own tools.

    All daemons must be stopped.  It is reworked in its place as by gmesh restore, in a new epoch, with
    the files given and with what the daemon of DIR has seen; what was there is kept in a file of DIR.
    """
    from gmesh.authority.adopt import adopt as take
    from gmesh.authority.adopt import adopt_whole

    engine = shared_engine(url, database_file)
    if engine is None:
        raise ConfigurationError("bad-database", "name the database: URL or --database-file")
    if whole:
        if any(known.values()):
            raise click.UsageError("--whole takes the database as it is: leave out the other options")
        adopt_whole(state, engine, int(time.time()))
        if as_json:
            return print_json({"adopted": engine.name})
        click.echo(f"adopted as it is: {printable(engine.name)}")
        return None
    return rework(partial(take, state, engine), passphrase_file, as_json, "adopted", **known)
