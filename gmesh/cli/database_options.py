# SPDX-License-Identifier: MIT
"""
How commands are told of a database that daemons share.

Tests: C{tests/cli/test_database_copy.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gmesh.errors import ConfigurationError
from gmesh.files import read_capped

__all__ = ["database_options", "shared_engine"]

URL_BYTES = 4096


def database_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate with C{--database} and C{--database-file}."""
    for option in (
        click.option(
            "--database-file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Holds the URL, which may have a password then.",
        ),
        click.option("--database", metavar="URL", help="A database of PostgreSQL that daemons share."),
    ):
        command = option(command)
    return command


def shared_engine(url: str | None, file: Path | None) -> Any:
    """
    The L{gmesh.interfaces.IEngine} that these options name; None, if neither was given.

    @raise ConfigurationError: C{bad-database}, for both, and for what is no URL.
    """
    from gmesh.authority.database_copy import engine_of, is_url

    if url is not None and file is not None:
        raise ConfigurationError("bad-database", "give --database or --database-file, not both")
    if file is not None:
        return engine_of(read_capped(file, URL_BYTES).decode("utf-8", "replace").strip(), private=True)
    if url is not None and not is_url(url):
        raise ConfigurationError("bad-database", "--database takes a URL: postgresql://USER@HOST/NAME")
    return None if url is None else engine_of(url)
