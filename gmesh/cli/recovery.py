# SPDX-License-Identifier: MIT
"""
C{gmesh restore} and C{gmesh recover-operator}: on the authority's host, while its daemon is stopped.

Tests: C{tests/cli/test_admin_requests.py}, C{tests/live/test_authority_rotation.py}.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gmesh.cli.options import json_option, passphrase_option, public_key
from gmesh.cli.output import Column, print_json, printable, table
from gmesh.keyfiles import Passphrases

if TYPE_CHECKING:
    from gmesh.authority.store.operators import OperatorRow

__all__ = ["recover_operator", "restore"]

LISTED = 20
"""How many names one line shows; C{--json} has them all."""
_OPERATORS = (Column("key id", "key_id"), Column("role", "role"), Column("name", "name"))
_path = click.Path(path_type=Path)
_state_option = click.option(
    "--state", metavar="DIR", type=_path, required=True, help="The authority's state directory."
)


@click.command()
@click.argument("backup", metavar="BACKUP", type=_path)
@_state_option
@click.option(
    "--crl",
    "crls",
    metavar="FILE",
    multiple=True,
    type=_path,
    help="crl.json of a node, the newest to be found.",
)
@click.option(
    "--policy", "policies", metavar="FILE", multiple=True, type=_path, help="policy.json of a node."
)
@click.option(
    "--accept-lost-revocations",
    is_flag=True,
    help="Go on without a node's files: what was revoked since the backup is allowed again.",
)
@passphrase_option
@json_option
def restore(
    backup: Path,
    state: Path,
    crls: tuple[Path, ...],
    policies: tuple[Path, ...],
    accept_lost_revocations: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """
    Put BACKUP in the place of the authority's database; its daemon must be stopped.

    Numbers and serials go on in a new epoch, so that none is given out twice; what nodes know
    of revocations and policy is taken in; open invites are withdrawn, for some were used.
    """
    from gmesh.authority.restore import restore as put_back

    done = put_back(
        state,
        backup,
        int(time.time()),
        crls,
        policies,
        accept_lost_revocations,
        Passphrases(passphrase_file),
    )
    if as_json:
        return print_json(
            {
                "epoch": done.epoch,
                "revocations": done.revocations,
                "revoked_by_dropped_keys": done.revoked_by_dropped_keys,
                "policy_version": done.policy_version,
                "invites_withdrawn": done.invites_withdrawn,
                "operators_before": _operators(done.operators_before),
                "operators_after": _operators(done.operators_after),
            }
        )
    click.echo(
        f"restored: epoch {done.epoch}, {done.revocations} revocations taken in,"
        f" policy {done.policy_version}, {done.invites_withdrawn} open invites withdrawn"
    )
    doubtful = done.revoked_by_dropped_keys
    if doubtful:
        more = f" and {len(doubtful) - LISTED} more" if len(doubtful) > LISTED else ""
        click.echo(
            f"{len(doubtful)} more on the word of keys that the newest genesis dropped: "
            + ", ".join(map(printable, doubtful[:LISTED]))
            + more
        )
    for when, rows in (("before", done.operators_before), ("from now on", done.operators_after)):
        click.echo(f"operators {when}:")
        table(_OPERATORS, _operators(rows), "none")


def _operators(rows: Sequence[OperatorRow]) -> list[dict[str, str]]:
    return [{"key_id": row.key_id, "role": row.role, "name": row.name} for row in rows]


@click.command("recover-operator")
@_state_option
@click.option("--key", "public", metavar="PUBLIC", required=True, help="The new operator's public key.")
@click.option("--name", default="recovered", show_default=True, help="Who it is, for people.")
@passphrase_option
@json_option
def recover_operator(
    state: Path, public: str, name: str, passphrase_file: Path | None, as_json: bool
) -> None:
    """Let a new key administer, when the last administrator's is lost; the daemon must be stopped."""
    from gmesh.authority.operators import recover_operator as recover

    version = recover(state, public_key(public), name, int(time.time()), Passphrases(passphrase_file))
    if as_json:
        return print_json({"policy_version": version})
    click.echo(f"the key administers from policy {version} on: start the authority again")
