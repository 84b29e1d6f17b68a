# SPDX-License-Identifier: MIT
"""
Copies of the authority's database.

Tests: C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

import click

from gmesh.cli.operator import operator_of
from gmesh.cli.options import json_option
from gmesh.cli.output import moment, print_json, words

__all__ = ["backup"]


@click.command()
@json_option
@click.pass_context
def backup(context: click.Context, as_json: bool) -> None:
    """Have the authority copy its database, checked, into backups/ of its state directory."""
    answer = operator_of(context).ask("POST", "/admin/backup")
    if as_json:
        return print_json(answer)
    click.echo(
        f"backups/{words(answer.get('file'))}: {words(answer.get('bytes'))} bytes,"
        f" taken {moment(answer.get('taken_at'))}, SHA-256 {words(answer.get('sha256'))}"
    )
