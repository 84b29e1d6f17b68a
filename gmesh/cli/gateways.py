# SPDX-License-Identifier: MIT
"""
C{expose} and C{forward}: a program as a service of this node, a service of another as a port, while they run.

Tests: C{tests/live/test_streams_by_programs.py}.
"""

from __future__ import annotations

import json
from typing import Any

import click

from gmesh.cli.http import Endpoint
from gmesh.cli.local import node_command
from gmesh.cli.output import words
from gmesh.cli.pipe_watch import end_with_the_reader

__all__ = ["expose", "forward"]


@node_command
@click.argument("endpoint")
@click.option("--service", required=True, metavar="NAME", help="Its name in the mesh.")
@click.option("--proxy-protocol", is_flag=True, help="Tell it who is there, by a PROXY header of version 2.")
def expose(endpoint: str, service: str, proxy_protocol: bool, where: Endpoint, as_json: bool) -> None:
    """
    Expose what listens at ENDPOINT, tcp:HOST:PORT, as a service of this node, until interrupted.

    The policy says who may use it.  To expose it for good, write [[expose]] into the node's file.
    """
    body: dict[str, Any] = {"service": service, "to": endpoint}
    if proxy_protocol:
        body["proxy_protocol"] = 2
    _hold(where, "/v1/exposures", body, "exposing {to} as {service}; ^C ends it", as_json)


@node_command
@click.argument("listen")
@click.argument("to", metavar="NODE:SERVICE")
def forward(listen: str, to: str, where: Endpoint, as_json: bool) -> None:
    """
    Listen at LISTEN, tcp:PORT, and join each connection to a service of another node, until interrupted.

    A bare port is one of loopback.  To forward it for good, write [[forward]] into the node's file.
    """
    body = {"listen": listen, "to": to}
    _hold(where, "/v1/forwards", body, "forwarding {listen} to {to}; ^C ends it", as_json)


def _hold(where: Endpoint, path: str, body: dict[str, Any], line: str, as_json: bool) -> None:
    """
    Until it is taken back.

    @raise Unreachable: when the node stops.
    @raise click.ClickException: when this user may not have it any more.
    """
    end_with_the_reader()
    with where.stream(path, body=body) as rows:
        for row in rows:
            if row.get("ended_by"):
                raise click.ClickException(row["ended_by"])
            told = {name: words(value) for name, value in row.items()}
            print(json.dumps(row) if as_json else line.format_map(told), flush=True)
