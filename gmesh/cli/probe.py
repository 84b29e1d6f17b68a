# SPDX-License-Identifier: MIT
"""Questions that put frames on the mesh, and a look at those that pass: C{ping}, C{trace}, C{capture}."""

from __future__ import annotations

import click

from gmesh.cli.http import Endpoint
from gmesh.cli.limits import MAX_PING_COUNT, NODE_TIMEOUT, PING_TIMEOUT
from gmesh.cli.local import node_command, read_list, read_object
from gmesh.cli.options import NumberRange
from gmesh.cli.show import Column, chain, milliseconds, print_json, table, words

__all__ = ["capture", "ping", "trace"]


@node_command
@click.argument("node")
@click.option(
    "--count", default=3, show_default=True, type=click.IntRange(1, MAX_PING_COUNT), help="How often."
)
def ping(node: str, count: int, where: Endpoint, as_json: bool) -> None:
    """Measure sealed round trips to NODE."""
    body = {"node": node, "count": count}
    answer = read_object(where, "/v1/ping", "POST", body, NODE_TIMEOUT + PING_TIMEOUT * count)
    if as_json:
        return print_json(answer)
    for rtt in answer.get("rtt_ms") or []:
        print(f"answer from {words(answer.get('node'))}: {milliseconds(rtt)}")


@node_command
@click.argument("node")
@click.option("--service", metavar="NAME", help="Ask the policy about this one; without it, about any.")
def trace(node: str, service: str | None, where: Endpoint, as_json: bool) -> None:
    """Show the path to NODE; for each hop the round trip, and whether the policy lets this node reach it."""
    question = {"node": node} if service is None else {"node": node, "service": service}
    answer = read_object(where, "/v1/trace", "POST", question, 4 * NODE_TIMEOUT)
    if as_json:
        return print_json(answer)
    print(chain(answer.get("path")))
    table(
        [Column("hop", "name"), Column("round trip", "rtt_ms", milliseconds), Column("policy", "policy")],
        answer.get("hops") or [],
        "no hops",
    )


@node_command
@click.argument("peer")
@click.option("--seconds", default=5.0, show_default=True, type=NumberRange(0.1, 60), help="For how long.")
@click.option(
    "--count", default=1000, show_default=True, type=click.IntRange(1, 4096), help="End after so many frames."
)
def capture(peer: str, seconds: float, count: int, where: Endpoint, as_json: bool) -> None:
    """Show the headers of the frames on the link to PEER; never what they carry."""
    body = {"peer": peer, "seconds": seconds, "count": count}
    rows = read_list(where, "/v1/capture", "POST", body, seconds + NODE_TIMEOUT)
    if as_json:
        return print_json(rows)
    columns = [
        Column("at", "at_ms", milliseconds),
        Column("", "sent", lambda sent: "sent" if sent else "received"),
        Column("frame", "kind"),
        Column("bytes", "bytes"),
        Column("path", "path", chain),
        Column("hop", "hop"),
        Column("counter", "counter"),
    ]
    table(columns, rows, "nothing passed")
