# SPDX-License-Identifier: MIT
"""What the authority stands on: the next genesis, and a copy of its database."""

from __future__ import annotations

from pathlib import Path

import click

from gmesh.cli.genesis_input import read_genesis
from gmesh.cli.genesis_review import review
from gmesh.cli.operator import operator_of
from gmesh.cli.options import json_option
from gmesh.cli.show import moment, print_json, words
from gmesh.trust.verify import verify_next_genesis

__all__ = ["backup", "genesis"]


@click.group()
def genesis() -> None:
    """Publish the next genesis."""


@genesis.command()
@click.argument("source", metavar="GENESIS", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def publish(context: click.Context, source: Path, as_json: bool) -> None:
    """
    Publish the next version, signed by its root holders (see "gmesh genesis").

    Nodes fetch it with their next heartbeat, or learn it from their neighbours.
    """
    document = read_genesis(source)
    operator = operator_of(context)
    verify_next_genesis(
        operator.trust.genesis, document, operator.trust.network_id, operator.authority.wall()
    )
    if not as_json:
        review(document, operator.trust.genesis)
    answer = operator.ask("POST", "/admin/genesis", {"genesis": document.as_dict()})
    if as_json:
        return print_json(answer)
    click.echo(f"\ngenesis {words(answer.get('version'))} is in force")


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
