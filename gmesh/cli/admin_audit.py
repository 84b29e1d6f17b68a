# SPDX-License-Identifier: MIT
"""
C{gmesh admin audit}: the chain of what was done, shown, followed, checked and taken away.

A check recomputes every row from the first, and holds the end against heads from elsewhere: the
status the authority has signed, what this operator saw at the last check, and the status files of
nodes.  A database that was changed and chained again passes none of these.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from gmesh.cli.groups import Group
from gmesh.cli.http import HttpRefused, Unreachable
from gmesh.cli.operator import PAUSE, OperatorClient, operator_of
from gmesh.cli.options import json_option
from gmesh.cli.output import Column, id_column, print_json, printable, table, time_column, wide_option, words
from gmesh.errors import ConfigurationError, DocumentRefused, GmeshError
from gmesh.files import read_capped, write_atomic
from gmesh.trust.documents import AuditHead, Status, parse_document
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.verify import authority_keys, verify_signatures

__all__ = ["audit"]

PAGE = 500
SHOWN = 50
REMEMBERED = "audit-head.json"
FLOORS_BYTES = 64 * 1024
_KNOWN = ("at", "actor", "action", "target", "outcome", "request_id")
_COLUMNS = [
    Column("row", "seq"),
    time_column("at", "at"),
    id_column("by", "actor"),
    Column("action", "action"),
    Column("target", "target"),
    Column("outcome", "outcome"),
    Column("more", "more"),
]


@click.group(cls=Group, invoke_without_command=True)
@click.option("--verify", is_flag=True, help="Recompute the whole chain and compare its head.")
@click.option(
    "--status",
    "statuses",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="With --verify: status.json of a node, whose head the chain must pass through.",
)
@click.option(
    "--floors",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="With --verify: floors.json of a node, all heads of which the chain must pass through.",
)
@click.option("--action", metavar="NAME", help="Only rows of this action, join for example.")
@click.option("--follow", is_flag=True, help="Print new rows as they come.")
@click.option("--after", type=click.IntRange(min=0), help="Only rows after this one.")
@click.option("--last", type=click.IntRange(min=1), default=SHOWN, show_default=True, help="How many rows.")
@json_option
@wide_option
@click.pass_context
def audit(
    context: click.Context,
    verify: bool,
    statuses: tuple[Path, ...],
    floors: tuple[Path, ...],
    action: str | None,
    follow: bool,
    after: int | None,
    last: int,
    as_json: bool,
) -> None:
    """
    Show the last rows of the audit; or verify, follow or export it.

    With --follow, --json prints one object per line.
    """
    if context.invoked_subcommand is not None:
        return
    if (verify and (follow or action)) or ((statuses or floors) and not verify):
        raise click.UsageError(
            "--status and --floors go with --verify, which goes with neither --follow nor --action"
        )
    operator = operator_of(context)
    if verify:
        return _verify(operator, statuses, floors, as_json)
    size = int(_page(operator, 0, 1).get("size") or 0)
    start = after if after is not None else 0 if action else max(0, size - last)
    if follow:
        return _follow(operator, start, as_json, action)
    rows = [entry for page in _pages(operator, start) for entry in page if _of(action, entry)]
    if action and after is None:
        rows = rows[-last:]
    if as_json:
        return print_json(rows)
    table(_COLUMNS, map(_flat, rows), "no rows")


def _page(operator: OperatorClient, after: int, limit: int) -> dict[str, Any]:
    return operator.ask("GET", f"/admin/audit?after={after}&limit={limit}")


def _pages(operator: OperatorClient, after: int) -> Iterator[list[dict[str, Any]]]:
    """The rows after C{after} that there are now, page by page."""
    while entries := _page(operator, after, PAGE).get("entries") or []:
        yield entries
        seen = entries[-1].get("seq")
        if not isinstance(seen, int) or seen <= after:
            raise HttpRefused("invalid-answer", "the audit does not go forward", 200, {})
        after = seen


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    row = entry.get("row") or {}
    more = {name: value for name, value in row.items() if name not in _KNOWN}
    text = json.dumps(more, ensure_ascii=False) if more else None
    return {"seq": entry.get("seq"), **{name: row.get(name) for name in _KNOWN}, "more": text}


def _of(action: str | None, entry: dict[str, Any]) -> bool:
    return action is None or (entry.get("row") or {}).get("action") == action


def _follow(operator: OperatorClient, after: int, as_json: bool, action: str | None) -> None:
    """Until it is interrupted: an authority that is restarted is asked again, and no row comes twice."""
    gone = False
    while True:
        try:
            for page in _pages(operator, after):
                for entry in page:
                    if _of(action, entry):
                        click.echo(json.dumps(entry, ensure_ascii=False) if as_json else _line(entry))
                after = page[-1]["seq"]
            gone = False
        except Unreachable as error:
            if not gone:
                click.echo(f"gmesh: {printable(error.detail)}: asking again", err=True)
            gone = True
        time.sleep(PAUSE)


def _line(entry: dict[str, Any]) -> str:
    flat = _flat(entry)
    return printable("  ".join(column.show(flat.get(column.key)) for column in _COLUMNS))


@dataclass
class _Chain:
    """The chain while it is recomputed, and the heads it must pass through."""

    expected: list[tuple[str, AuditHead]]
    size: int = 0
    head: bytes = bytes(32)

    def take(self, entries: list[dict[str, Any]]) -> None:
        """Recompute these rows, and compare where a head was seen elsewhere."""
        from gmesh.authority.audit import verify_chain
        from gmesh.trust.canonical import canonical

        for entry in entries:
            try:
                row = (entry["seq"], canonical(entry["row"]), bytes.fromhex(entry["hash"]))
            except (KeyError, TypeError, ValueError) as error:
                raise GmeshError("audit-broken", f"audit row {self.size + 1} is not a row") from error
            self.size, self.head = verify_chain([row], self.size, self.head)
            for where, seen in self.expected:
                if seen.size == self.size and seen.head != self.head.hex():
                    raise GmeshError("audit-fork", f"audit row {self.size} is another one than {where} names")

    def end(self) -> None:
        """@raise GmeshError: C{audit-fork}, if a head lies beyond the last row."""
        for where, seen in self.expected:
            if seen.size > self.size:
                raise GmeshError(
                    "audit-fork",
                    f"the chain has {self.size} rows, but {where} names {seen.size}: rows are gone",
                )


def _verify(
    operator: OperatorClient, statuses: tuple[Path, ...], floors: tuple[Path, ...], as_json: bool
) -> None:
    chain = _Chain([])
    signed = operator.trust.status
    if signed is None:
        raise DocumentRefused("no-status", "the authority has shown no status")
    epoch = signed.body.audit.epoch
    chain.expected = [("the authority's status", signed.body.audit)]
    chain.expected += [(str(path), _head_of(operator, path)) for path in statuses]
    chain.expected += [(str(path), head) for path in floors for head in _floors(path)]
    remembered = operator.directory / REMEMBERED
    if remembered.exists():
        chain.expected.append(("the last check", _remembered(remembered)))
    other = list(dict.fromkeys(where for where, seen in chain.expected if seen.epoch != epoch))
    chain.expected = [(where, seen) for where, seen in chain.expected if seen.epoch == epoch]
    for page in _pages(operator, 0):
        chain.take(page)
    chain.end()
    found = {"epoch": epoch, "size": chain.size, "head": chain.head.hex()}
    write_atomic(remembered, json.dumps(found).encode() + b"\n")
    compared = list(dict.fromkeys(where for where, _ in chain.expected))
    if as_json:
        return print_json({**found, "good": True, "compared": compared, "other_epoch": other})
    click.echo(f"good: {chain.size} rows, head {chain.head.hex()}, compared with {words(compared)}")
    if other:
        click.echo(f"restored since: {words(other)} cannot be compared with epoch {epoch}")


def _head_of(operator: OperatorClient, path: Path) -> AuditHead:
    """The head in a node's status, which a key of this authority, of any time, has signed."""
    keys: dict[str, bytes] = {}
    for genesis in operator.trust.genesis_chain:
        keys |= authority_keys(genesis.body)
    try:
        status = parse_document(read_capped(path, DOCUMENT_LIMITS["status"]), Status)
        verify_signatures(status, keys)
    except DocumentRefused as error:
        raise ConfigurationError(error.reason, f"{path}: {error.detail}") from error
    if status.body.network_id != operator.trust.network_id:
        raise ConfigurationError("wrong-network", f"{path} belongs to another network")
    return status.body.audit


def _floors(path: Path) -> list[AuditHead]:
    """The heads that a node keeps; nobody signed them together, so they are as good as the way they came."""
    from gmesh.trust.floors import Floors

    try:
        return Floors.from_dict(msgspec.json.decode(read_capped(path, FLOORS_BYTES), type=dict)).audits
    except (msgspec.DecodeError, DocumentRefused) as error:
        raise ConfigurationError("bad-floors", f"{path} is not floors.json of a node") from error


def _remembered(path: Path) -> AuditHead:
    try:
        return msgspec.json.decode(read_capped(path, 4096), type=AuditHead)
    except msgspec.DecodeError as error:
        raise ConfigurationError("bad-head", f"{path} is damaged: remove it if you know why") from error


@audit.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@click.pass_context
def export(context: click.Context, target: Path) -> None:
    """Write the whole audit to FILE, one JSON object per line, as audit.jsonl on the authority."""
    if target.exists():
        raise ConfigurationError("exists", f"{target} exists: an export overwrites nothing")
    count = 0
    operator = operator_of(context)
    with open(target, "x", encoding="utf-8") as stream:
        try:
            for page in _pages(operator, 0):
                for entry in page:
                    stream.write(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n")
                count += len(page)
        except BaseException:
            target.unlink()
            raise
    click.echo(f"{count} rows: {target}")
