# SPDX-License-Identifier: MIT
"""
The members and their certificates, in lists.

Tests: C{tests/cli/test_admin.py}, C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

import click

from gmesh.cli.operator import operator_of
from gmesh.cli.options import json_option, node_name
from gmesh.cli.output import Column, moment, print_json, table

__all__ = ["certificates", "nodes"]


@click.command()
@json_option
@click.pass_context
def nodes(context: click.Context, as_json: bool) -> None:
    """List the nodes that were admitted."""
    rows = operator_of(context).pages("/admin/nodes", "nodes")
    if as_json:
        return print_json(rows)
    columns = [
        Column("name", "name"),
        Column("node id", "node_id"),
        Column("roles", "roles"),
        Column("serial", "serial"),
        Column("certified until", "not_after", moment),
        Column("last seen", "last_seen", moment),
        Column("revoked", "revoked"),
    ]
    table(columns, rows, "no nodes")


@click.command()
@click.option("--node", type=node_name, metavar="NAME", help="Of this node only.")
@json_option
@click.pass_context
def certificates(context: click.Context, node: str | None, as_json: bool) -> None:
    """List the certificates that were issued, by serial."""
    rows = operator_of(context).pages("/admin/certificates", "certificates")
    if node is not None:
        rows = [row for row in rows if row.get("name") == node]
    if as_json:
        return print_json(rows)
    columns = [
        Column("serial", "serial"),
        Column("name", "name"),
        Column("node id", "node_id"),
        Column("from", "not_before", moment),
        Column("until", "not_after", moment),
        Column("revoked", "revoked_at", moment),
        Column("reason", "reason"),
    ]
    table(columns, rows, "no certificates")
