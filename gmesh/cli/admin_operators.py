# SPDX-License-Identifier: MIT
"""
Whose keys may act.

Tests: C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

from typing import Any

import click

from gmesh.cli.groups import Group
from gmesh.cli.operator import operator_of
from gmesh.cli.options import KeyCommand, json_option, key_name, key_text, public_key
from gmesh.cli.output import Column, moment, print_json, table, words

__all__ = ["operators"]


@click.group(cls=Group, invoke_without_command=True)
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
    _report("added", operator_of(context).ask("POST", "/admin/operators", body), as_json)


@operators.command(cls=KeyCommand)
@click.argument("key", metavar="KEY", type=key_text)
@json_option
@click.pass_context
def remove(context: click.Context, key: str, as_json: bool) -> None:
    """Refuse a key, by its id or public half, from now on."""
    held = key_name(key)
    _report("removed", operator_of(context).ask("DELETE", f"/admin/operators/{held}"), as_json)


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
    _report("replaced by", operator.ask("POST", f"/admin/operators/{held}", {"key": new}), as_json)


def _report(what: str, answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return print_json(answer)
    version = words(answer.get("policy_version"))
    click.echo(f"{what} {words(answer.get('key_id'))}, in policy {version}")
