# SPDX-License-Identifier: MIT
"""
Questions that put frames on the mesh, and a look at those that pass: C{ping}, C{trace}, C{capture}.

Tests: C{tests/cli/test_node.py}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from gmesh.cli.http import Endpoint, HttpRefused
from gmesh.cli.limits import MAX_PING_COUNT, NODE_TIMEOUT, PING_TIMEOUT
from gmesh.cli.local import node_command, read_list, read_object
from gmesh.cli.options import NumberRange, node_name
from gmesh.cli.output import (
    Column,
    chain,
    listing,
    milliseconds,
    print_json,
    printable,
    table,
    wide_option,
    words,
)

__all__ = ["capture", "ping", "trace"]

TIMED_OUT = "timed-out"
"""The slug of a frame that was not answered in time."""


@node_command
@click.argument("node", type=node_name)
@click.option(
    "--count", default=3, show_default=True, type=click.IntRange(1, MAX_PING_COUNT), help="How often."
)
def ping(node: str, count: int, where: Endpoint, as_json: bool) -> None:
    """
    Measure sealed round trips to NODE, one after the other.

    Succeeds only when every one of them was answered.
    """
    answered: list[Any] = []
    lost = 0
    for _ in range(count):
        try:
            body = {"node": node, "count": 1}
            answer = read_object(where, "/v1/ping", "POST", body, NODE_TIMEOUT + PING_TIMEOUT)
        except HttpRefused as error:
            if error.reason != TIMED_OUT:
                raise
            lost += 1
            report = f"no answer from {printable(node)}"
        else:
            answered += answer.get("rtt_ms") or []
            report = f"answer from {words(answer.get('node'))}: {milliseconds(answered[-1])}"
        if not as_json:
            print(report, flush=True)
    if as_json:
        print_json({"node": node, "rtt_ms": answered, "lost": lost})
    if lost:
        raise HttpRefused(TIMED_OUT, f"{node} did not answer {lost} of {count} in time", 504, {})


@node_command
@click.argument("node", type=node_name)
@click.option("--service", metavar="NAME", help="Ask the policy about this one; without it, about any.")
@wide_option
def trace(node: str, service: str | None, where: Endpoint, as_json: bool) -> None:
    """
    Show the path to NODE; for each hop the round trip, and whether the policy lets this node reach it.

    Succeeds only when NODE itself has answered.
    """
    question = {"node": node} if service is None else {"node": node, "service": service}
    answer = read_object(where, "/v1/trace", "POST", question, 4 * NODE_TIMEOUT)
    hops = answer.get("hops") or []
    if as_json:
        print_json(answer)
    else:
        print(chain(answer.get("path")))
        columns = [
            Column("hop", "name"),
            Column("round trip", "answer", words),
            Column("policy", "policy"),
        ]
        table(columns, [hop | {"answer": _answer(hop)} for hop in hops], "no hops")
    if hops and hops[-1].get("rtt_ms") is None:
        raise HttpRefused(TIMED_OUT, f"{node} did not answer: {_answer(hops[-1])}", 504, {})


def _answer(hop: Mapping[str, Any]) -> str:
    """The round trip, or why there is none."""
    rtt = hop.get("rtt_ms")
    return words(hop.get("reason")) if rtt is None else milliseconds(rtt)


@node_command
@click.argument("peer", type=node_name)
@click.option("--seconds", default=5.0, show_default=True, type=NumberRange(0.1, 60), help="For how long.")
@click.option(
    "--count", default=1000, show_default=True, type=click.IntRange(1, 4096), help="End after so many frames."
)
@wide_option
def capture(peer: str, seconds: float, count: int, where: Endpoint, as_json: bool) -> None:
    """Show the headers of the frames on the link to PEER; never what they carry."""
    body = {"peer": peer, "seconds": seconds, "count": count}
    rows = read_list(where, "/v1/capture", "POST", body, seconds + NODE_TIMEOUT)
    columns = [
        Column("at", "at_ms", milliseconds),
        Column("", "sent", lambda sent: "sent" if sent else "received"),
        Column("frame", "kind"),
        Column("bytes", "bytes"),
        Column("path", "path", chain),
        Column("hop", "hop"),
        Column("counter", "counter"),
    ]
    listing(columns, rows, "nothing passed", as_json)
