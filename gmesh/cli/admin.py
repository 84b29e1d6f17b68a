# SPDX-License-Identifier: MIT
"""C{gmesh admin}: what an operator asks of the authority, signed with the operator's own key."""

from __future__ import annotations

from pathlib import Path

import click

from gmesh.cli.groups import LazyGroup
from gmesh.cli.options import passphrase_option, patience_option, seconds
from gmesh.cli.proxied import proxy_options

__all__ = ["COMMANDS", "admin"]

#: Sub-command -> (module, what it is for); the order is the order of C{--help}.
COMMANDS: dict[str, tuple[str, str]] = {
    "invite": ("gmesh.cli.admin_invites", "Print an invite: it admits one host, once, under one name."),
    "invites": ("gmesh.cli.admin_invites", "List the invites, or withdraw one."),
    "enrolments": ("gmesh.cli.admin_invites", "Joins that wait: list, approve, reject, admit."),
    "nodes": ("gmesh.cli.admin_members", "List the nodes that were admitted."),
    "certificates": ("gmesh.cli.admin_members", "List the certificates."),
    "revoke": ("gmesh.cli.admin_revocations", "Cut a node, a certificate or a key off."),
    "policy": ("gmesh.cli.admin_policies", "Show, publish, explain and roll back the policy."),
    "operators": ("gmesh.cli.admin_operators", "List, add, replace and remove operators."),
    "approvals": ("gmesh.cli.admin_approvals", "What waits for the approval of more operators."),
    "command": ("gmesh.cli.admin_commands", "Give nodes a command."),
    "commands": ("gmesh.cli.admin_commands", "Commands given, and what became of them."),
    "audit": ("gmesh.cli.admin_audit", "Show, follow, verify and export the audit."),
    "genesis": ("gmesh.cli.admin_policies", "Publish the next genesis."),
    "replicas": ("gmesh.cli.admin_replicas", "List the daemons that serve from the same database."),
    "backup": ("gmesh.cli.admin_backups", "Have the authority copy its database."),
}


@click.group(cls=LazyGroup, table={name: (module, name, text) for name, (module, text) in COMMANDS.items()})
@click.option(
    "--operator",
    "directory",
    metavar="DIR",
    envvar="GMESH_OPERATOR",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="The operator's directory, as gmesh init made it.",
)
@passphrase_option
@patience_option
@proxy_options
@click.pass_context
def admin(context: click.Context, directory: Path | None, passphrase_file: Path | None, timeout: str) -> None:
    """Admit, list and revoke nodes, decide policy, and watch, as an operator."""
    context.obj = {"directory": directory, "passphrase_file": passphrase_file, "timeout": seconds(timeout)}
