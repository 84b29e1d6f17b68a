# SPDX-License-Identifier: MIT
"""Who may act: operators, and what waits until enough of them agree."""

from __future__ import annotations

import json
from typing import Any

import click

from gmesh.cli.key_argument import KeyCommand, key_text
from gmesh.cli.operator import operator_of
from gmesh.cli.options import json_option, key_name, public_key
from gmesh.cli.show import Column, moment, print_json, printable, table, words
from gmesh.errors import ConfigurationError

__all__ = ["approvals", "operators"]


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def operators(context: click.Context, as_json: bool) -> None:
    """List, add, replace and remove operators."""
    if context.invoked_subcommand is None:
        context.invoke(list_operators, as_json=as_json)


@operators.command("list")
@json_option
@click.pass_context
def list_operators(context: click.Context, as_json: bool) -> None:
    """Everybody who may act."""
    rows = operator_of(context).pages("/admin/operators", "operators")
    if as_json:
        return print_json(rows)
    columns = [
        Column("key id", "key_id"),
        Column("role", "role"),
        Column("name", "name"),
        Column("added", "added_at", moment),
        Column("by", "added_by"),
    ]
    table(columns, rows, "no operators")


@operators.command(cls=KeyCommand)
@click.argument("key", metavar="PUBLIC", type=key_text)
@click.option("--role", type=click.Choice(["read", "operate", "administer"]), required=True)
@click.option("--name", default="", help="Who it is, for people.")
@json_option
@click.pass_context
def add(context: click.Context, key: str, role: str, name: str, as_json: bool) -> None:
    """Let the holder of a key act; the policy that names it is published with it."""
    public_key(key)
    body = {"key": key, "role": role, "name": name}
    _tell("added", operator_of(context).ask("POST", "/admin/operators", body), as_json)


@operators.command(cls=KeyCommand)
@click.argument("key", metavar="KEY", type=key_text)
@json_option
@click.pass_context
def remove(context: click.Context, key: str, as_json: bool) -> None:
    """Refuse a key, by its id or public half, from now on."""
    held = key_name(key)
    _tell("removed", operator_of(context).ask("DELETE", f"/admin/operators/{held}"), as_json)


@operators.command(cls=KeyCommand)
@click.argument("new", metavar="PUBLIC", type=key_text)
@click.option("--of", "old", metavar="KEY", type=key_text, help="Whose key it replaces. [default: your own]")
@json_option
@click.pass_context
def replace(context: click.Context, new: str, old: str | None, as_json: bool) -> None:
    """Put a new key in the place of your own, or of another operator's."""
    public_key(new)
    operator = operator_of(context)
    held = operator.key.key_id if old is None else key_name(old)
    _tell("replaced by", operator.ask("POST", f"/admin/operators/{held}", {"key": new}), as_json)


def _tell(what: str, answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return print_json(answer)
    version = words(answer.get("policy_version"))
    click.echo(f"{what} {words(answer.get('key_id'))}, in policy {version}")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def approvals(context: click.Context, as_json: bool) -> None:
    """List what waits for the approval of more operators; or approve one."""
    if context.invoked_subcommand is None:
        context.invoke(list_approvals, as_json=as_json)


@approvals.command("list")
@json_option
@click.pass_context
def list_approvals(context: click.Context, as_json: bool) -> None:
    """What waits for the approval of more operators."""
    answer = operator_of(context).ask("GET", "/admin/approvals")
    if as_json:
        return print_json(answer)
    rows = [
        row | {"what": f"{row.get('method')} {row.get('target')}", "votes": len(row.get("votes") or ())}
        for row in answer.get("approvals") or ()
    ]
    columns = [
        Column("id", "id"),
        Column("what", "what"),
        Column("votes", "votes"),
        Column("until", "expires_at", moment),
    ]
    table(columns, rows, "nothing waits")


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask: what is asked for was read before.")
@click.pass_context
def approve(context: click.Context, approval_id: str, yes: bool) -> None:
    """Read what another operator asks for, and ask for the same."""
    operator = operator_of(context)
    waiting = operator.ask("GET", "/admin/approvals").get("approvals") or ()
    found = next((row for row in waiting if row.get("id") == approval_id), None)
    if found is None:
        raise ConfigurationError("not-found", f"nothing waits under the id {approval_id}")
    method, target, body = str(found.get("method")), str(found.get("target")), found.get("body")
    click.echo(printable(f"{method} {target} {json.dumps(body, ensure_ascii=False)}"))
    if not yes:
        click.confirm("Approve?", abort=True)
    answer = operator.ask(method, target, body)
    click.echo(printable(json.dumps(answer)))
