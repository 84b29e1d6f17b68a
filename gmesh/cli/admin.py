# SPDX-License-Identifier: MIT
"""C{gmesh admin}: what an operator asks of the authority, signed with the operator's own key."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from gmesh.cli.options import passphrase_option, patience_option, seconds

__all__ = ["COMMANDS", "admin"]

#: Sub-command -> (module, what it is for); the order is the order of C{--help}.
COMMANDS: dict[str, tuple[str, str]] = {
    "invite": ("gmesh.cli.admin_invites", "Print an invite: it admits one host, once, under one name."),
    "invites": ("gmesh.cli.admin_invites", "List the invites, or withdraw one."),
    "enrolments": ("gmesh.cli.admin_invites", "Joins that wait for approval: list, approve, reject."),
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
    "backup": ("gmesh.cli.admin_backups", "Have the authority copy its database."),
}


class _AdminGroup(click.Group):
    """Imports a command when it is called, so that each starts at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, without importing anything."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in C{--help}, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_AdminGroup)
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
@click.pass_context
def admin(context: click.Context, directory: Path | None, passphrase_file: Path | None, timeout: str) -> None:
    """Admit, list and revoke nodes, decide policy, and watch, as an operator."""
    context.obj = {"directory": directory, "passphrase_file": passphrase_file, "timeout": seconds(timeout)}
