# SPDX-License-Identifier: MIT
"""
Who may join: invites, and the joins that wait for approval.

Tests: C{tests/cli/test_admin.py}, C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

import click

from gmesh.cli.admissions import bring, unadmitted
from gmesh.cli.groups import Group
from gmesh.cli.operator import OperatorClient, Pending, one_id, operator_of
from gmesh.cli.options import identifier, json_option, node_name, public_key, seconds
from gmesh.cli.output import SHORT_ID, Column, id_column, listing, print_json, time_column, wide_option, words
from gmesh.errors import ConfigurationError
from gmesh.trust.names import is_name, is_role
from gmesh.trust.transport_address import FORMS, read_address

__all__ = ["enrolments", "invite", "invites"]

ID_CHARACTERS = 32


@click.command()
@click.option("--name", type=node_name, metavar="NAME", required=True, help="The name the node will have.")
@click.option(
    "--role",
    "roles",
    required=True,
    multiple=True,
    help="anchor, relay, client or service:NAME; several are possible.",
)
@click.option(
    "--ttl", default="1h", show_default=True, metavar="SPAN", help="How long the invite is good for."
)
@click.option("--lifetime", metavar="SPAN", help="How long its certificates last; the policy's default else.")
@click.option("--node-key", metavar="PUBLIC", help="The one host that may use it, by its identity key.")
@click.option(
    "--anchor",
    "anchors",
    metavar="HOST:PORT",
    multiple=True,
    help="By which the host may join if it does not reach the authority (repeatable).",
)
@click.option("--approve", is_flag=True, help="The join waits until an operator has approved it.")
@json_option
@click.pass_context
def invite(
    context: click.Context,
    name: str,
    roles: tuple[str, ...],
    ttl: str,
    lifetime: str | None,
    node_key: str | None,
    anchors: tuple[str, ...],
    approve: bool,
    as_json: bool,
) -> None:
    """Print an invite: it admits one host, once, under this name."""
    if not is_name(name):
        raise ConfigurationError("bad-name", f"{name!r} cannot name a node: a-z, 0-9, dashes within")
    for role in roles:
        if not is_role(role):
            raise ConfigurationError("bad-role", f"{role!r} is none of anchor, relay, client, service:NAME")
    if node_key is not None:
        public_key(node_key)
    for anchor in anchors:
        if read_address(anchor) is None:
            raise ConfigurationError("bad-address", f"{anchor!r} is not {FORMS}")
    life = None if lifetime is None else seconds(lifetime)
    operator = operator_of(context)
    made, request = operator.make_invite(
        name,
        roles,
        seconds(ttl),
        anchors=anchors,
        lifetime=life,
        node_key=node_key,
        approve=approve or None,
    )
    try:
        answer = operator.ask("POST", "/admin/invites", request)
    except Pending:
        click.echo(made)
        raise
    if as_json:
        print_json({"invite": made, "id": answer.get("id"), "expires_at": answer.get("expires_at")})
    else:
        click.echo(made)


@click.group(cls=Group, invoke_without_command=True)
@json_option
@wide_option
@click.pass_context
def invites(context: click.Context, as_json: bool) -> None:
    """List the invites and what became of them; or withdraw one."""
    if context.invoked_subcommand is None:
        context.invoke(list_invites, as_json=as_json)


@invites.command("list")
@json_option
@wide_option
@click.pass_context
def list_invites(context: click.Context, as_json: bool) -> None:
    """The invites and what became of them."""
    rows = operator_of(context).pages("/admin/invites", "invites")
    columns = [
        id_column("id", "id"),
        Column("name", "name"),
        Column("roles", "roles"),
        Column("state", "state"),
        time_column("expires", "expires_at"),
    ]
    listing(columns, rows, "no invites", as_json)


@invites.command()
@click.argument("which", metavar="ID|NAME", type=node_name)
@click.pass_context
def withdraw(context: click.Context, which: str) -> None:
    """Make an unused invite worthless; by NAME, if there is one for it only."""
    operator = operator_of(context)
    found = _find(operator, "/admin/invites", "invites", which, "open")
    operator.ask("DELETE", f"/admin/invites/{found}")
    click.echo(f"withdrawn: {found}")


@click.group(cls=Group, invoke_without_command=True)
@json_option
@wide_option
@click.pass_context
def enrolments(context: click.Context, as_json: bool) -> None:
    """List the joins that had to wait; approve or reject one; or bring admissions."""
    if context.invoked_subcommand is None:
        context.invoke(list_enrolments, as_json=as_json)


enrolments.add_command(unadmitted)
enrolments.add_command(bring)


@enrolments.command("list")
@json_option
@wide_option
@click.pass_context
def list_enrolments(context: click.Context, as_json: bool) -> None:
    """Joins by invites that need approval, and members that came back after a restore."""
    rows = operator_of(context).pages("/admin/enrolments", "enrolments")
    columns = [
        id_column("id", "id"),
        Column("name", "name"),
        Column("roles", "roles"),
        id_column("node id", "node_id"),
        Column("state", "state"),
        time_column("asked", "requested_at"),
        Column("came back with", "serial"),
    ]
    listing(columns, rows, "no joins wait", as_json)


@enrolments.command()
@click.argument("which", metavar="NODE-ID|NAME", type=node_name)
@click.pass_context
def approve(context: click.Context, which: str) -> None:
    """
    Let the host in: it gets its certificate when it asks again.

    Compare its node id first: `gmesh join` shows it on that host, `enrolments` what waits here.  Whoever
    came into the invite's possession may have asked before it.
    """
    _decide(context, which, "approve")


@enrolments.command()
@click.argument("which", metavar="NODE-ID|NAME", type=node_name)
@click.pass_context
def reject(context: click.Context, which: str) -> None:
    """Refuse the host; its invite is spent."""
    _decide(context, which, "reject")


def _decide(context: click.Context, which: str, decision: str) -> None:
    operator = operator_of(context)
    waiting = [
        row for row in operator.pages("/admin/enrolments", "enrolments") if row.get("state") == "pending"
    ]
    ids = [str(row.get(key)) for row in waiting for key in ("id", "node_id")]
    if len(which) == SHORT_ID and any(each.startswith(which) for each in ids):
        which = one_id(ids, which)
    found = [row for row in waiting if which in (row.get("name"), row.get("id"), row.get("node_id"))]
    if len(found) != 1:
        raise ConfigurationError(
            "not-found",
            f"{len(found)} joins of {which} wait: name one by its node id (gmesh admin enrolments)",
        )
    invite, node_id = (identifier(str(found[0].get(key))) for key in ("id", "node_id"))
    answer = operator.ask("POST", f"/admin/enrolments/{invite}", {"decision": decision, "node_id": node_id})
    click.echo(f"{words(answer.get('state'))}: {words(answer.get('name'))}, node id {node_id}")


def _find(operator: OperatorClient, path: str, member: str, which: str, state: str) -> str:
    """The id of the one entry of this name and state; an id stands for itself."""
    if not is_name(which) or len(which) == ID_CHARACTERS:
        return identifier(which)
    rows = operator.pages(path, member)
    found = [str(row.get("id")) for row in rows if (row.get("name"), row.get("state")) == (which, state)]
    if not found and len(which) == SHORT_ID:
        return one_id([str(row.get("id")) for row in rows if row.get("state") == state], which)
    if len(found) != 1:
        raise ConfigurationError(
            "not-found", f"{len(found)} {member} for {which} are {state}: name one by its id"
        )
    return identifier(found[0])
