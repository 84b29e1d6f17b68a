# SPDX-License-Identifier: MIT
"""
Whose keys may act.

Tests: C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

from typing import Any

import click

from gmesh.cli.groups import Group
from gmesh.cli.operator import OperatorClient, operator_of
from gmesh.cli.options import KeyCommand, json_option, key_name, key_text, public_key
from gmesh.cli.output import SHORT_ID, Column, id_column, listing, print_json, time_column, wide_option, words

__all__ = ["operators"]


@click.group(cls=Group, invoke_without_command=True)
@json_option
@wide_option
@click.pass_context
def operators(context: click.Context, as_json: bool) -> None:
    """List, add, replace and remove operators."""
    if context.invoked_subcommand is None:
        context.invoke(list_operators, as_json=as_json)


@operators.command("list")
@json_option
@wide_option
@click.pass_context
def list_operators(context: click.Context, as_json: bool) -> None:
    """Everybody who may act."""
    rows = operator_of(context).pages("/admin/operators", "operators")
    columns = [
        id_column("key id", "key_id"),
        Column("role", "role"),
        Column("name", "name"),
        time_column("added", "added_at"),
        id_column("by", "added_by"),
    ]
    listing(columns, rows, "no operators", as_json)


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
    named = _named(key)
    operator = operator_of(context)
    _report("removed", operator.ask("DELETE", f"/admin/operators/{_held(operator, named)}"), as_json)


@operators.command(cls=KeyCommand)
@click.argument("new", metavar="PUBLIC", type=key_text)
@click.option("--of", "old", metavar="KEY", type=key_text, help="Whose key it replaces. [default: your own]")
@json_option
@click.pass_context
def replace(context: click.Context, new: str, old: str | None, as_json: bool) -> None:
    """Put a new key in the place of your own, or of another operator's."""
    public_key(new)
    named = None if old is None else _named(old)
    operator = operator_of(context)
    held = operator.key.key_id if named is None else _held(operator, named)
    _report("replaced by", operator.ask("POST", f"/admin/operators/{held}", {"key": new}), as_json)


def _named(key: str) -> str:
    """The id of a key, given by its public half or by that; what a list shows of an id stays as it is."""
    return key if len(key) == SHORT_ID else key_name(key)


def _held(operator: OperatorClient, named: str) -> str:
    return operator.whole_id(named, "/admin/operators", "operators", "key_id")


def _report(what: str, answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return print_json(answer)
    version = words(answer.get("policy_version"))
    click.echo(f"{what} {words(answer.get('key_id'))}, in policy {version}")
