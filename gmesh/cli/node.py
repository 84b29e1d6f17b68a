# SPDX-License-Identifier: MIT
"""What the node of this host is and knows, as tables: C{status}, C{peers}, C{routes}, C{nodes} and more."""

from __future__ import annotations

from urllib.parse import quote

import click

from gmesh.cli.follow import follow, follow_option
from gmesh.cli.http import Endpoint
from gmesh.cli.local import node_command, read_list, read_object
from gmesh.cli.output import (
    VALID,
    Column,
    age,
    chain,
    cpu_seconds,
    facts,
    id_column,
    listing,
    milliseconds,
    moment,
    print_json,
    wide_option,
    words,
)

__all__ = ["nodes", "peers", "routes", "services", "status", "transits"]


@node_command
@follow_option
def status(where: Endpoint, as_json: bool, follow_it: bool) -> None:
    """Show what the node of this host is, and how fresh what it knows."""
    if follow_it:
        return follow(where, "status", as_json)
    answer = read_object(where, "/v1/status")
    if as_json:
        return print_json(answer)
    certificate = answer.get("certificate") or {}
    authority = answer.get("authority") or {}
    reachable = "reachable" if authority.get("reachable") else "not reachable"
    freshness = f", {words(authority['freshness'])}" if "freshness" in authority else ""
    standing = f", {words(certificate['standing'])}" if certificate.get("standing", VALID) != VALID else ""
    facts(
        [
            ("name", words(answer.get("name"))),
            ("node id", words(answer.get("node_id"))),
            ("network", f"{words(answer.get('network'))} ({words(answer.get('network_id'))})"),
            ("roles", words(answer.get("roles"))),
            (
                "certificate",
                f"{words(certificate.get('serial'))}, until {moment(certificate.get('not_after'))}{standing}",
            ),
            ("authority", f"{reachable}, last heard {age(authority.get('age'))} ago{freshness}"),
            ("crl", words(answer.get("crl_number"))),
            ("policy", words(answer.get("policy_version"))),
            ("links", words(answer.get("links"))),
        ]
    )


@node_command
@follow_option
@wide_option
def peers(where: Endpoint, as_json: bool, follow_it: bool) -> None:
    """List the neighbours this node has links to."""
    if follow_it:
        return follow(where, "peers", as_json)
    columns = [
        Column("name", "name"),
        id_column("node id", "node_id"),
        Column("address", "address"),
        Column("over", "over"),
        Column("round trip", "rtt_ms", milliseconds),
        Column("CPU", "control_seconds", cpu_seconds),
    ]
    listing(columns, read_list(where, "/v1/peers"), "no links", as_json)


@node_command
@click.argument("node", required=False)
@follow_option
@wide_option
def routes(node: str | None, where: Endpoint, as_json: bool, follow_it: bool) -> None:
    """
    List the path to every node that can be reached.

    With NODE: the paths to it, the best first, each without the relays of those before it.
    """
    if follow_it:
        if node is not None:
            raise click.UsageError("--follow shows every node: give it without NODE")
        return follow(where, "routes", as_json)
    columns = [
        Column("name", "name"),
        Column("path", "path", chain),
        Column("cost", "cost"),
    ]
    path = "/v1/routes" if node is None else f"/v1/routes?to={quote(node, safe='')}"
    listing(columns, read_list(where, path), "no routes", as_json)


@node_command
@wide_option
def nodes(where: Endpoint, as_json: bool) -> None:
    """List all nodes this node knows of."""
    columns = [
        Column("name", "name"),
        id_column("node id", "node_id"),
        Column("roles", "roles"),
        Column("reachable", "reachable"),
        Column("services", "services"),
    ]
    listing(columns, read_list(where, "/v1/nodes"), "no nodes", as_json)


@node_command
@wide_option
def transits(where: Endpoint, as_json: bool) -> None:
    """List the paths of others that passed through this node, with the first frame of each."""
    columns = [
        Column("path", "path", chain),
        Column("first frame", "kind"),
        Column("bytes", "bytes"),
    ]
    listing(columns, read_list(where, "/v1/transits"), "nothing has passed", as_json)


@node_command
def services(where: Endpoint, as_json: bool) -> None:
    """List the services of the mesh and their nodes, and what this one takes: messages, streams."""
    columns = [
        Column("service", "service"),
        Column("nodes", "nodes"),
        Column("messages", "messages"),
        Column("streams", "streams"),
    ]
    listing(columns, read_list(where, "/v1/services"), "no services", as_json)
