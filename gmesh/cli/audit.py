# SPDX-License-Identifier: MIT
"""
C{gmesh audit verify}: an audit that lies there as a file, checked without the authority.

Tests: C{tests/cli/test_audit_file.py}.
"""

from __future__ import annotations

from pathlib import Path

import click

from gmesh.cli.groups import Group
from gmesh.cli.options import json_option
from gmesh.cli.output import print_json, words
from gmesh.errors import GmeshError

__all__ = ["audit"]

_path = click.Path(path_type=Path)


@click.group(cls=Group)
def audit() -> None:
    """Check audit.jsonl or an export of it, offline."""


@audit.command()
@click.argument("file", metavar="FILE", type=_path)
@click.option("--floors", metavar="FILE", multiple=True, type=_path, help="floors.json of a node.")
@click.option(
    "--status", "statuses", metavar="FILE", multiple=True, type=_path, help="status.json of a node."
)
@json_option
def verify(file: Path, floors: tuple[Path, ...], statuses: tuple[Path, ...], as_json: bool) -> None:
    """
    Recompute every hash of FILE, and hold it against heads that nodes keep.

    Without --floors or --status only slips are found: whoever can write a file can compute its hashes
    anew.  Fetch those files from nodes yourself; audit-head.json of an operator's directory is taken too.
    """
    from gmesh.authority.audit_file import heads_in, survey

    found = survey(file, heads_in([*floors, *statuses]))
    if found.broken:
        raise GmeshError("audit-broken", found.broken)
    if found.forked:
        one = found.forked[0]
        raise GmeshError(
            "audit-fork", f"audit row {one.size} of {file} is another one than {one.where} names"
        )
    if found.beyond:
        one = max(found.beyond, key=lambda head: head.size)
        raise GmeshError(
            "audit-fork",
            f"{file} has {found.size} rows, but {one.where} names {one.size}: rows are gone, or it is older",
        )
    if not found.size:
        raise GmeshError("audit-broken", f"{file} holds no row: an authority writes the first when it starts")
    met, other = (
        list(dict.fromkeys(head.where for head in heads)) for heads in (found.met, found.other_epoch)
    )
    if as_json:
        return print_json(
            {
                "good": True,
                "epoch": found.epoch,
                "size": found.size,
                "head": found.head,
                "compared": met,
                "other_epoch": other,
            }
        )
    compared = f"compared with {words(met)}" if met else "compared with nothing: give --floors of nodes"
    click.echo(f"good: {found.size} rows, head {found.head}, {compared}")
    if other:
        click.echo(f"restored since: heads of {words(other)} cannot be compared with epoch {found.epoch}")
