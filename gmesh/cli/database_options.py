# SPDX-License-Identifier: MIT
"""
How commands are told of a database that daemons share.

Tests: C{tests/cli/test_database_copy.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["database_options", "shared_engine"]


def database_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate with C{--database} and C{--database-file}."""
    for option in (
        click.option(
            "--database-file",
            metavar="FILE",
            help="Private file with the URL, password and all, in its place.",
        ),
        click.option("--database", metavar="URL", help="A database of PostgreSQL that daemons share."),
    ):
        command = option(command)
    return command


def shared_engine(url: str | None, file: str | None) -> Any:
    """
    The L{gmesh.authority.interfaces.IEngine} that these options name, or the systemd credential; None, if
    there is neither.

    @raise ConfigurationError: as L{gmesh.authority.database_url.find_url}.
    """
    from gmesh.authority.database_url import find_url, make_engine

    named = find_url(url, file)
    return None if named is None else make_engine(named)
