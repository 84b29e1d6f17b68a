# SPDX-License-Identifier: MIT
"""
Commands to nodes: made and signed here, carried by the authority and the mesh, answered by receipts.

Tests: C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

import json
from typing import Any

import click

from gmesh.cli.groups import Group
from gmesh.cli.http import HttpRefused
from gmesh.cli.operator import OperatorClient, operator_of, poll
from gmesh.cli.options import identifier, json_option, node_name, seconds, wait_options
from gmesh.cli.output import (
    Column,
    id_column,
    listing,
    print_json,
    printable,
    table,
    time_column,
    wide_option,
    words,
)
from gmesh.cli.presence import heard_lately, shortened, since
from gmesh.errors import ConfigurationError, GmeshError
from gmesh.trust.documents import Command, CommandTarget, sign_document
from gmesh.trust.limits import NONCE_SIZE
from gmesh.trust.names import is_name, is_role

__all__ = ["command", "commands"]

NUMBER_TRIES = 5


def read_arguments(pairs: tuple[str, ...]) -> dict[str, Any]:
    """C{name=value}: a value that is JSON is taken as that, else as text."""
    read: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name or name in read:
            raise ConfigurationError("bad-argument", f"{pair!r} is not NAME=VALUE, each name once")
        try:
            read[name] = json.loads(text)
        except RecursionError as error:
            raise ConfigurationError("bad-argument", f"{name} is too deep") from error
        except ValueError:
            read[name] = text
    return read


def checked_arguments(name: str, pairs: tuple[str, ...]) -> dict[str, Any]:
    """
    The arguments of a command, judged before they are signed, as every node will judge them.

    @raise GmeshError: if no node will obey; a command of a program on the nodes is known to them alone.
    """
    from gmesh.node.control_commands import check_arguments

    arguments = read_arguments(pairs)
    nearest = check_arguments(name, arguments)
    if nearest:
        click.echo(
            f"gmesh: {printable(name)} is left to a program on the nodes; {nearest} is gmesh's", err=True
        )
    return arguments


def give(
    operator: OperatorClient, name: str, target: CommandTarget, arguments: dict[str, Any], ttl: int
) -> dict[str, Any]:
    """
    Sign a command and hand it in; under another number, when somebody else was quicker.

    @return: the authority's answer.
    """
    trust = operator.trust
    number = (trust.status.body.commands.number if trust.status is not None else 0) + 1
    command_id = operator.authority.entropy(NONCE_SIZE).hex()
    for attempt in range(NUMBER_TRIES):
        now = int(operator.authority.wall())
        body = Command(
            network_id=trust.network_id,
            id=command_id,
            number=number,
            command=name,
            target=target,
            arguments=arguments,
            issued_at=now,
            expires_at=now + ttl,
            operator=operator.key.key_id,
        )
        document = sign_document(body, [operator.key])
        try:
            return operator.ask("POST", "/admin/commands", {"command": document.as_dict()})
        except HttpRefused as error:
            wanted = error.problem.get("number")
            if error.reason != "conflict" or not isinstance(wanted, int) or attempt == NUMBER_TRIES - 1:
                raise
            number = wanted
    raise AssertionError("not reached: the last attempt returns or raises")


@click.command()
@click.argument("name", metavar="NAME")
@click.argument("pairs", metavar="[ARGUMENT=VALUE]...", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="To every node.")
@click.option("--role", help="To the nodes of this role.")
@click.option("--node", type=node_name, metavar="NAME", help="To this node.")
@click.option("--ttl", default="10m", show_default=True, metavar="SPAN", help="When it is too late to obey.")
@wait_options
@json_option
@wide_option
@click.pass_context
def command(
    context: click.Context,
    name: str,
    pairs: tuple[str, ...],
    everybody: bool,
    role: str | None,
    node: str | None,
    ttl: str,
    wait: bool,
    timeout: str,
    as_json: bool,
) -> None:
    """
    Give nodes a command: reload, log-level, ping-report, update-bootstrap, shutdown...

    It is signed with your key, obeyed once by each node it is for, and answered by a signed
    receipt.  The policy says which role may give which command.
    """
    if [everybody, role is not None, node is not None].count(True) != 1:
        raise click.UsageError("name exactly one of --all, --role and --node")
    if role is not None and not is_role(role):
        raise ConfigurationError("bad-role", f"{role!r} is none of anchor, relay, client, service:NAME")
    if node is not None and not is_name(node):
        raise ConfigurationError("bad-name", f"{node!r} cannot name a node")
    target = CommandTarget(all=True if everybody else None, role=role, node=node)
    patience = seconds(timeout)
    arguments = checked_arguments(name, pairs)
    operator = operator_of(context)
    answer = give(operator, name, target, arguments, seconds(ttl))
    if not as_json:
        click.echo(f"command {words(answer.get('number'))}: {words(answer.get('id'))}")
    if not wait:
        return print_json(answer) if as_json else None
    command_id = str(answer.get("id"))
    found, away = poll(lambda: _look(operator, command_id), lambda look: _answered(*look), patience)
    _print_outcome(found, as_json)
    _judge(found, away)


def outcome(operator: OperatorClient, command_id: str) -> dict[str, Any]:
    """What became of a command: the counts, and every node's state."""
    path = f"/admin/commands/{identifier(command_id)}"
    first = operator.ask("GET", path)
    return first | {"nodes": operator.pages(path, "nodes")} if first.get("next") is not None else first


def _look(operator: OperatorClient, command_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What became of it; and of those without an answer the ones that are away, by name, since when."""
    found = outcome(operator, command_id)
    silent = {row.get("name") for row in found.get("nodes") or () if row.get("state") == "no-answer"}
    if not silent:
        return found, {}
    now = operator.authority.wall()
    rows = operator.pages("/admin/nodes", "nodes")
    away = [row for row in rows if row.get("name") in silent and not heard_lately(row, now)]
    return found, {str(row.get("name")): since(row, now) for row in away}


def _answered(found: dict[str, Any], away: dict[str, str]) -> bool:
    return int((found.get("counts") or {}).get("no_answer") or 0) <= len(away)


def _judge(found: dict[str, Any], away: dict[str, str]) -> None:
    counts = found.get("counts") or {}
    wrong = {state: counts.get(state) or 0 for state in ("refused", "failed", "no_answer")}
    if any(wrong.values()):
        report = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in wrong.items() if count)
        told = f"; away: {shortened(list(away.values()))}" if away else ""
        raise GmeshError("not-done", f"not every node has done it: {report}{told}")


def _print_outcome(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return print_json(found)
    columns = [
        Column("node", "name"),
        Column("state", "state"),
        Column("detail", "detail"),
        time_column("at", "at"),
    ]
    table(columns, found.get("nodes") or (), "no node is concerned")


@click.group(cls=Group, invoke_without_command=True)
@json_option
@wide_option
@click.pass_context
def commands(context: click.Context, as_json: bool) -> None:
    """List the commands given, newest first; or show what became of one."""
    if context.invoked_subcommand is None:
        context.invoke(list_commands, as_json=as_json)


@commands.command("list")
@json_option
@wide_option
@click.pass_context
def list_commands(context: click.Context, as_json: bool) -> None:
    """List the commands given, newest first."""
    rows = operator_of(context).pages("/admin/commands", "commands")
    columns = [
        Column("number", "number"),
        id_column("id", "id"),
        Column("command", "command"),
        Column("target", "target", lambda value: words(json.dumps(value))),
        id_column("by", "created_by"),
        time_column("issued", "issued_at", spare=True),
        time_column("expires", "expires_at"),
    ]
    listing(columns, rows, "no commands", as_json)


@commands.command()
@click.argument("command_id", metavar="ID")
@json_option
@wide_option
@click.pass_context
def show(context: click.Context, command_id: str, as_json: bool) -> None:
    """Show what became of a command, node by node."""
    operator = operator_of(context)
    whole = operator.whole_id(command_id, "/admin/commands", "commands")
    _print_outcome(outcome(operator, whole), as_json)
