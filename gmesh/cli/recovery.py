# SPDX-License-Identifier: MIT
"""
C{gmesh restore} and C{gmesh recover-operator}: on the authority's host, while its daemon is stopped.

Tests: C{tests/authority/test_restore_command.py}, C{tests/live/test_authority_rotation.py}.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmesh.cli.database_options import database_options, shared_engine
from gmesh.cli.options import json_option, passphrase_option, public_key
from gmesh.cli.output import Column, print_json, printable, table
from gmesh.errors import ConfigurationError
from gmesh.keyfiles import Passphrases

if TYPE_CHECKING:
    from gmesh.authority.restore import Restored
    from gmesh.authority.store.operators import OperatorRow

__all__ = ["recover_operator", "restore", "rework", "rework_options"]

LISTED = 20
"""How many names one line shows; C{--json} has them all."""
_OPERATORS = (Column("key id", "key_id"), Column("role", "role"), Column("name", "name"))
_path = click.Path(path_type=Path)
_state_option = click.option(
    "--state", metavar="DIR", type=_path, required=True, help="The authority's state directory."
)


_EVIDENCE = (
    click.option(
        "--crl",
        "crls",
        metavar="FILE",
        multiple=True,
        type=_path,
        help="crl.json of a node, the newest to be found.",
    ),
    click.option(
        "--policy", "policies", metavar="FILE", multiple=True, type=_path, help="policy.json of a node."
    ),
    click.option(
        "--status",
        "statuses",
        metavar="FILE",
        multiple=True,
        type=_path,
        help="status.json of a node: what must be known, and which audit is genuine.",
    ),
    click.option(
        "--audit",
        "audits",
        metavar="FILE",
        multiple=True,
        type=_path,
        help="audit.jsonl or an export, beside those in DIR.",
    ),
    click.option(
        "--audit-head",
        "heads",
        metavar="FILE",
        multiple=True,
        type=_path,
        help="audit-head.json of an operator, or floors.json of a node, believed as it is.",
    ),
    click.option(
        "--accept-lost-revocations",
        is_flag=True,
        help="Go on without a node's files, or with older ones: what was revoked since is allowed again.",
    ),
    click.option(
        "--accept-older-policy",
        is_flag=True,
        help="Go on though a newer policy is known to have been published.",
    ),
    click.option(
        "--strike",
        metavar="NAME",
        multiple=True,
        help="Leave out this entry by a dropped key, named as it is listed.",
    ),
    click.option("--dry-run", is_flag=True, help="Show what would be, and change nothing."),
    click.option("--yes", is_flag=True, help="Do not ask when the operators change."),
)


def rework_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate with what is known of the lost days, and what people decide; L{rework} takes all of it."""
    for option in reversed(_EVIDENCE):
        command = option(command)
    return command


@click.command()
@click.argument("backup", metavar="BACKUP", type=_path)
@_state_option
@rework_options
@database_options
@passphrase_option
@json_option
def restore(
    backup: Path,
    state: Path,
    database: str | None,
    database_file: str | None,
    passphrase_file: Path | None,
    as_json: bool,
    **known: Any,
) -> None:
    """
    Put BACKUP in the place of the authority's database; its daemon must be stopped, and all others that
    serve from a database named by --database, whose rows are kept in a file of DIR.

    Numbers and serials go on in a new epoch, so that none is given out twice; what nodes know
    of revocations and policy is taken in, and what the audit of DIR tells of the time since;
    open invites are withdrawn, for some were used.
    """
    from gmesh.authority.restore import restore as put_back
    from gmesh.authority.restore_place import SharedPlace

    engine = shared_engine(database, database_file)
    place = None if engine is None else SharedPlace(engine, state)
    rework(partial(put_back, state, backup, place=place), passphrase_file, as_json, "restored", **known)


def rework(
    run: Callable[..., Restored],
    passphrase_file: Path | None,
    as_json: bool,
    verb: str,
    *,
    crls: tuple[Path, ...],
    policies: tuple[Path, ...],
    statuses: tuple[Path, ...],
    audits: tuple[Path, ...],
    heads: tuple[Path, ...],
    accept_lost_revocations: bool,
    accept_older_policy: bool,
    strike: tuple[str, ...],
    dry_run: bool,
    yes: bool,
) -> None:
    """
    Have a database reworked, once the person at the terminal agrees, and show what was done.

    @param run: L{gmesh.authority.restore.restore} or the like, but for what is given here.
    @param verb: what was done to it.
    """
    from gmesh.authority.restore import Choices, Evidence

    shown = False

    def confirm(done: Restored) -> bool:
        nonlocal shown
        if dry_run:
            _show(done, as_json, f"would be {verb}")
            raise click.exceptions.Exit(0)
        if yes or _operators(done.operators_before) == _operators(done.operators_after):
            return True
        if not as_json:
            shown = True
            _show(done, as_json, f"would be {verb}")
        return _agreed()

    now = int(time.time())
    done = run(
        now=now,
        crl_files=crls,
        policy_files=policies,
        accept_lost_revocations=accept_lost_revocations,
        passphrases=Passphrases(passphrase_file),
        evidence=Evidence(statuses, audits, heads),
        choices=Choices(accept_older_policy, strike, confirm),
    )
    if shown:
        click.echo(verb)
    else:
        _show(done, as_json, verb)
    # Requests signed up to this second are refused from now on, for they may have been used before:
    # the command outlasts it, so that what its caller signs next counts.
    time.sleep(max(0.0, now + 1 - time.time()))


def _agreed() -> bool:
    """Whether the person at the terminal wants these operators; without one it is said beforehand."""
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "not-confirmed",
            "the operators change, and nothing was restored: read both lists, then give --yes",
        )
    return click.confirm("Restore, with these operators?", err=True)


def _show(done: Restored, as_json: bool, verb: str) -> None:
    if as_json:
        return print_json(
            {
                "epoch": done.epoch,
                "numbers_from": done.numbers_from,
                "struck": done.struck,
                "lost": done.lost,
                "audits": [
                    {
                        "file": str(told.path),
                        "rows": told.rows,
                        "verified": told.verified,
                        "remark": told.remark or None,
                    }
                    for told in done.audits
                ],
                "revocations": done.revocations,
                "taken_in": done.taken_in,
                "revoked_by_dropped_keys": done.revoked_by_dropped_keys,
                "policy_version": done.policy_version,
                "invites_withdrawn": done.invites_withdrawn,
                "operators_before": _operators(done.operators_before),
                "operators_after": _operators(done.operators_after),
            }
        )
    click.echo(
        f"{verb}: epoch {done.epoch}, {done.revocations} revocations taken in,"
        f" policy {done.policy_version}, {done.invites_withdrawn} open invites withdrawn"
    )
    if done.taken_in:
        click.echo(f"taken in: {_some(done.taken_in)}")
    doubtful = done.revoked_by_dropped_keys
    if doubtful:
        click.echo(
            f"{len(doubtful)} more on the word of keys that the newest genesis dropped: {_some(doubtful)}"
        )
    if done.struck:
        click.echo(f"left out as asked: {', '.join(map(printable, done.struck))}")
    for told in done.audits:
        remark = f"; {printable(told.remark)}" * bool(told.remark)
        click.echo(
            f"{told.path}: {told.rows} rows after the backup, {told.verified} borne out by heads"
            f" of nodes or operators{remark}"
        )
    for line in done.lost:
        click.echo(f"lost: {printable(line)}")
    if done.numbers_from:
        click.echo(
            f"nothing here tells of earlier restores: numbers of this epoch begin above {done.numbers_from};"
            " if this backup was restored on another host today, stop that authority, and restore once more"
            " with files of nodes that have followed it"
        )
    for when, rows in (("before", done.operators_before), ("from now on", done.operators_after)):
        click.echo(f"operators {when}:")
        table(_OPERATORS, _operators(rows), "none")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(map(printable, names[:LISTED])) + more


def _operators(rows: Sequence[OperatorRow]) -> list[dict[str, str]]:
    return [{"key_id": row.key_id, "role": row.role, "name": row.name} for row in rows]


@click.command("recover-operator")
@_state_option
@click.option("--key", "public", metavar="PUBLIC", required=True, help="The new operator's public key.")
@click.option("--name", default="recovered", show_default=True, help="Who it is, for people.")
@database_options
@passphrase_option
@json_option
def recover_operator(
    state: Path,
    public: str,
    name: str,
    database: str | None,
    database_file: str | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """
    Let a new key administer, when the last administrator's is lost; the daemon must be stopped, and all
    others that serve from a database named by --database.
    """
    from gmesh.authority.operators import recover_operator as recover

    key, engine = public_key(public), shared_engine(database, database_file)
    version = recover(state, key, name, int(time.time()), Passphrases(passphrase_file), engine)
    if as_json:
        return print_json({"policy_version": version})
    click.echo(f"the key administers from policy {version} on: start the authority again")
