# SPDX-License-Identifier: MIT
"""
C{gmesh admin revoke}: cut off, and see who knows it.

Tests: C{tests/cli/test_admin.py}, C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from gmesh.cli.crl_held import CrlHeld
from gmesh.cli.limits import SUSPECT_HEARTBEATS
from gmesh.cli.operator import OperatorClient, operator_of, poll
from gmesh.cli.options import json_option, key_name, node_name, seconds, wait_options
from gmesh.cli.output import print_json, words
from gmesh.cli.presence import heard_lately, shortened, since
from gmesh.errors import GmeshError
from gmesh.trust.documents import RevocationReason

__all__ = ["revoke"]


@click.command()
@click.argument("node", type=node_name, required=False)
@click.option("--serial", type=click.IntRange(min=0), help="One certificate only.")
@click.option("--key", metavar="KEY", help="An identity key, by its public half or its id, for ever.")
@click.option(
    "--reason",
    type=click.Choice([reason.slug for reason in RevocationReason]),
    default=RevocationReason.UNSPECIFIED.slug,
    show_default=True,
    help="Why; key-compromise bars the key too.",
)
@wait_options
@json_option
@click.pass_context
def revoke(
    context: click.Context,
    node: str | None,
    serial: int | None,
    key: str | None,
    reason: str,
    wait: bool,
    timeout: str,
    as_json: bool,
) -> None:
    """
    Cut NODE off: all its certificates are revoked, and it cannot renew them.

    With --serial or --key instead of NODE, one certificate or an identity key.  --wait ends
    when every node heard of lately has reported that it holds the new CRL: with 0, or with 3
    if others are away; with 1 if one of them has not reported in time, or runs on two hosts.
    """
    choices: dict[str, str | int | None] = {"node": node, "serial": serial, "key": key}
    named = [(kind, value) for kind, value in choices.items() if value is not None]
    if len(named) != 1:
        raise click.UsageError("name exactly one of NODE, --serial and --key")
    ((kind, value),) = named
    patience = seconds(timeout)
    target = key_name(str(value)) if kind == "key" else value
    operator = operator_of(context)
    answer = operator.ask("POST", "/admin/revocations", {kind: target, "reason": reason})
    number = int(answer.get("crl_number") or 0)
    entries = (("serials", "serials"), ("node", "nodes"), ("key", "keys"))
    listed = ", ".join(f"{kind} {words(answer[name])}" for kind, name in entries if answer.get(name))
    listed = listed or "no certificate was left to revoke"
    text = f"revoked {target}: {listed}, in CRL {number}"
    if not wait:
        return print_json(answer) if as_json else click.echo(text)
    if not as_json:
        click.echo(text)
    look = Confirmations(operator, CrlHeld(operator, number, answer.get("crl_digest")))
    look.patient(patience)
    if as_json:
        print_json({**answer, **look.as_json()})
    elif look.applied:
        click.echo(f"{len(look.applied)} nodes hold CRL {number}: {shortened(look.applied)}")
    elif look.nobody:
        click.echo(f"no other node is left that could hold CRL {number}")
    _judge(look, number)


def _judge(look: Confirmations, number: int) -> None:
    """@raise GmeshError: C{not-confirmed}, or C{away} when those heard of lately all hold the CRL."""
    told = []
    if look.waiting:
        told.append(f"{len(look.waiting)} heard of lately do not say so: {shortened(look.waiting)}")
    if look.suspected:
        told.append(
            f"suspected, for they go on with an older CRL: {shortened(look.suspected)};"
            " see gmesh doctor there, or revoke them"
        )
    if look.doubled:
        told.append(
            f"{len(look.doubled)} run on two hosts with one key, of which one says so: "
            f"{shortened(look.doubled)}; stop one of the two, or revoke the node"
        )
    if look.away:
        told.append(f"{len(look.away)} are away: {shortened(look.away)}")
    if told:
        reason = "not-confirmed" if look.waiting or look.doubled else "away"
        raise GmeshError(reason, f"not every node has confirmed CRL {number}: {'; '.join(told)}")


class Confirmations:
    """
    Which members have said in a heartbeat that they hold a CRL.

    A member that is revoked, or has let its certificate end, is in none of the lists.

    @ivar applied: they hold it.
    @ivar doubled: they hold it, but run on two hosts, and which of the two said so is not known.
    @ivar waiting: they were heard of lately, and do not say so.
    @ivar suspected: those of C{waiting} that sent heartbeats since, and still do not.
    @ivar away: not heard of lately, with since when; nobody waits for them.
    """

    def __init__(self, operator: OperatorClient, crl: CrlHeld) -> None:
        self._operator = operator
        self._crl = crl
        self._seen: dict[str, int] = {}
        self._beats: Counter[str] = Counter()
        self._rows: list[dict[str, Any]] = []
        self.applied: list[str] = []
        self.doubled: list[str] = []
        self.waiting: list[str] = []
        self.suspected: list[str] = []
        self.away: list[str] = []

    def patient(self, timeout: float) -> None:
        """Ask until those heard of lately have all confirmed, or C{timeout} seconds are over."""
        poll(self.ask, lambda _: not self.waiting, timeout)

    def ask(self) -> None:
        """Look once."""
        now = self._operator.authority.wall()
        rows = self._operator.pages("/admin/nodes", "nodes")
        members = [row for row in rows if not row.get("revoked") and _whole(row.get("not_after")) >= now]
        others = [row for row in members if not self._crl.holds(row)]
        late = [row for row in others if heard_lately(row, now)]
        for row in late:
            self._count(str(row.get("name")), _whole(row.get("last_seen")))
        self._rows = [row for row in others if not heard_lately(row, now)]
        holding = [row for row in members if self._crl.holds(row)]
        self.applied = [str(row.get("name")) for row in holding if not row.get("hosts")]
        self.doubled = [str(row.get("name")) for row in holding if row.get("hosts")]
        self.waiting = [str(row.get("name")) for row in late]
        self.suspected = [name for name in self.waiting if self._beats[name] >= SUSPECT_HEARTBEATS]
        self.away = [since(row, now) for row in self._rows]

    @property
    def nobody(self) -> bool:
        """Whether there is no member to ask."""
        return not (self.applied or self.doubled or self.waiting or self.away)

    def as_json(self) -> dict[str, Any]:
        """What was found, for programs."""
        away = [{"name": row.get("name"), "last_seen": row.get("last_seen")} for row in self._rows]
        return {
            "applied": self.applied,
            "doubled": self.doubled,
            "waiting": self.waiting,
            "suspected": self.suspected,
            "away": away,
        }

    def _count(self, name: str, seen: int) -> None:
        if seen != self._seen.setdefault(name, seen):
            self._seen[name] = seen
            self._beats[name] += 1


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
