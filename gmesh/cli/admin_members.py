# SPDX-License-Identifier: MIT
"""
The members and their certificates, in lists.

Tests: C{tests/cli/test_admin.py}, C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

import click

from gmesh.cli.operator import operator_of
from gmesh.cli.options import json_option, node_name
from gmesh.cli.output import Column, ago, day, id_column, listing, time_column, wide_option, words

__all__ = ["certificates", "nodes"]


@click.command()
@json_option
@wide_option
@click.pass_context
def nodes(context: click.Context, as_json: bool) -> None:
    """List the nodes that were admitted."""
    rows = operator_of(context).pages("/admin/nodes", "nodes")
    columns = [
        Column("name", "name"),
        id_column("node id", "node_id"),
        Column("roles", "roles"),
        Column("serial", "serial", short=words, spare=True),
        time_column("certified until", "not_after"),
        time_column("last seen", "last_seen", ago),
        Column("revoked", "revoked"),
    ]
    listing(columns, rows, "no nodes", as_json)
    if as_json:
        return
    for row in rows:
        hosts, faults = row.get("hosts") or (), row.get("faults") or ()
        if hosts:
            where = " and ".join(words(host) for host in hosts)
            click.echo(
                f"{words(row.get('name'))} runs on two hosts with one key, at {where}: stop one", err=True
            )
        if faults:
            click.echo(f"{words(row.get('name'))} reports: {words(faults)}", err=True)


@click.command()
@click.option("--node", type=node_name, metavar="NAME", help="Of this node only.")
@json_option
@wide_option
@click.pass_context
def certificates(context: click.Context, node: str | None, as_json: bool) -> None:
    """List the certificates that were issued, by serial."""
    rows = operator_of(context).pages("/admin/certificates", "certificates")
    if node is not None:
        rows = [row for row in rows if row.get("name") == node]
    columns = [
        Column("serial", "serial", short=words),
        Column("name", "name"),
        id_column("node id", "node_id"),
        time_column("from", "not_before", day, spare=True),
        time_column("until", "not_after"),
        time_column("revoked", "revoked_at", day),
        Column("reason", "reason"),
    ]
    listing(columns, rows, "no certificates", as_json)
