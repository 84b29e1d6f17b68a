# SPDX-License-Identifier: MIT
"""
C{gmesh database copy}: from a file to PostgreSQL, and back, while the authority is stopped.

Tests: C{tests/authority/test_database_copy.py}, C{tests/cli/test_database_copy.py}.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from gmesh.cli.options import json_option
from gmesh.cli.output import print_json

__all__ = ["copy", "copying"]


@contextmanager
def copying(rows: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal. @return: to be told of so many more rows."""
    if not sys.stderr.isatty():
        yield lambda more: None
        return
    with click.progressbar(length=rows, label="copying and comparing", file=sys.stderr) as bar:
        yield bar.update


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="The authority's state directory, whose daemon is stopped.",
)
@json_option
def copy(source: str, target: str, state: Path, as_json: bool) -> None:
    """
    Copy the authority's database FROM one place TO another, and compare every row.

    Each is a file of SQLite or a URL of PostgreSQL (postgresql://...).  TO must be empty, and no
    daemon may serve from FROM, which refuses to be served from afterwards.  Nothing is signed anew:
    nodes notice nothing.
    """
    from gmesh.authority.database_copy import copy_database, copy_end, engine_of

    done = copy_database(
        state, copy_end(engine_of(source)), copy_end(engine_of(target)), int(time.time()), copying
    )
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
