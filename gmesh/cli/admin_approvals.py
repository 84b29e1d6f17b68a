# SPDX-License-Identifier: MIT
"""
What waits until more operators have asked for the same.

Tests: C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

import json

import click

from gmesh.cli.groups import Group
from gmesh.cli.operator import operator_of
from gmesh.cli.options import json_option
from gmesh.cli.output import (
    Column,
    id_column,
    print_json,
    printable,
    table,
    time_column,
    wide_option,
    words,
)

__all__ = ["approvals"]

PATH = "/admin/approvals"


@click.group(cls=Group, invoke_without_command=True)
@json_option
@wide_option
@click.pass_context
def approvals(context: click.Context, as_json: bool) -> None:
    """List what waits for the approval of more operators; or approve or withdraw one."""
    if context.invoked_subcommand is None:
        context.invoke(list_approvals, as_json=as_json)


@approvals.command("list")
@json_option
@wide_option
@click.pass_context
def list_approvals(context: click.Context, as_json: bool) -> None:
    """What waits for the approval of more operators."""
    answer = operator_of(context).ask("GET", PATH)
    if answer.get("next") is not None:
        answer |= {"approvals": operator_of(context).pages(PATH, "approvals"), "next": None}
    if as_json:
        return print_json(answer)
    rows = [
        row | {"what": f"{row.get('method')} {row.get('target')}", "votes": len(row.get("votes") or ())}
        for row in answer.get("approvals") or ()
    ]
    columns = [
        id_column("id", "id"),
        Column("what", "what"),
        Column("votes", "votes"),
        time_column("until", "expires_at"),
    ]
    table(columns, rows, "nothing waits")


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask: what is asked for was read before.")
@click.pass_context
def approve(context: click.Context, approval_id: str, yes: bool) -> None:
    """Read what another operator asks for, and ask for the same."""
    operator = operator_of(context)
    found = operator.ask("GET", f"{PATH}/{operator.whole_id(approval_id, PATH, 'approvals')}")
    method, target, body = str(found.get("method")), str(found.get("target")), found.get("body")
    click.echo(printable(f"{method} {target} {json.dumps(body, ensure_ascii=False)}"))
    speaks_of = found.get("speaks_of") or {}
    for name in sorted(speaks_of):
        click.echo(printable(f"  {name}: {words(speaks_of[name])}"))
    if not yes:
        click.confirm("Approve?", abort=True)
    answer = operator.ask(method, target, body)
    click.echo(printable(json.dumps(answer)))


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.pass_context
def withdraw(context: click.Context, approval_id: str) -> None:
    """Take back what you asked for yourself, with the votes it has."""
    operator = operator_of(context)
    operator.ask("DELETE", f"{PATH}/{operator.whole_id(approval_id, PATH, 'approvals')}")
    click.echo("withdrawn")
