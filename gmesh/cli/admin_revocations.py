# SPDX-License-Identifier: MIT
"""
C{gmesh admin revoke}: cut off, and see who knows it.

Tests: C{tests/cli/test_admin.py}, C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

from typing import Any

import click

from gmesh.cli.crl_held import CrlHeld
from gmesh.cli.operator import OperatorClient, operator_of, poll
from gmesh.cli.options import json_option, key_name, node_name, seconds, wait_options
from gmesh.cli.output import print_json, words
from gmesh.errors import GmeshError
from gmesh.trust.documents import RevocationReason

__all__ = ["revoke"]

NAMES_SHOWN = 10


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
    when every other node has reported that it holds the new CRL.
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
    crl = CrlHeld(operator, number, answer.get("crl_digest"))
    applied, missing = poll(lambda: holders(operator, crl), lambda found: not found[1], patience)
    if as_json:
        print_json({**answer, "applied": applied, "waiting": missing})
    elif applied:
        click.echo(f"{len(applied)} nodes hold CRL {number}: {shortened(applied)}")
    if missing:
        raise GmeshError(
            "not-confirmed",
            f"{len(missing)} nodes have not reported yet that they hold CRL {number}: {shortened(missing)}",
        )


def holders(operator: OperatorClient, crl: CrlHeld) -> tuple[list[str], list[str]]:
    """
    Who holds this CRL.

    @return: the members that said so in their last heartbeat, and those that did not; a node that is
        revoked, or has let its certificate end, is in neither list.
    """
    now = operator.authority.wall()
    applied: list[str] = []
    missing: list[str] = []
    for row in operator.pages("/admin/nodes", "nodes"):
        if row.get("revoked") or _whole(row.get("not_after")) < now:
            continue
        (applied if crl.holds(row) else missing).append(str(row.get("name")))
    return applied, missing


def shortened(names: list[str]) -> str:
    """A few names, and how many more."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
