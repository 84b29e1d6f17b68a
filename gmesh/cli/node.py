# SPDX-License-Identifier: MIT
"""The commands that speak to the node of this host, over its local API and nothing else."""

from __future__ import annotations

import base64
import binascii
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from gmesh.cli.http import Endpoint, HttpRefused
from gmesh.cli.limits import MAX_MESSAGE, MAX_PING_COUNT, NODE_TIMEOUT
from gmesh.cli.options import NumberRange
from gmesh.cli.show import Column, age, facts, milliseconds, moment, print_json, printable, table, words
from gmesh.errors import ConfigurationError

__all__ = [
    "capture",
    "locate",
    "nodes",
    "peers",
    "ping",
    "receive",
    "routes",
    "send",
    "services",
    "status",
    "trace",
    "transits",
]

#: Where the Debian unit puts the socket.
SYSTEM_SOCKET = Path("/run/gmesh-node/node.sock")


def locate(state: str | None, control: str | None) -> Endpoint:
    """
    The local API named by the options: C{--control}, else C{--state} or GMESH_STATE, else the system's.

    C{--control} is read as C{twistd gmesh-node} reads it, or is a URL or the path of a socket.

    @raise ConfigurationError: if there is none, or the string names no address.
    """
    if control is not None:
        return Endpoint(_address(control))
    if state is not None:
        return Endpoint(f"unix:{Path(state) / 'node.sock'}")
    if SYSTEM_SOCKET.exists():
        return Endpoint(f"unix:{SYSTEM_SOCKET}")
    raise ConfigurationError(
        "no-node",
        "which node? give --state DIR or --control ENDPOINT, or set GMESH_STATE to its state directory",
    )


def _address(control: str) -> str:
    if control.startswith(("http://", "https://")):
        return control
    kind, *parts = (part.replace("\0", ":") for part in control.replace("\\:", "\0").split(":"))
    plain = [part for part in parts if "=" not in part]
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    path = named.get("address") or (plain[0] if plain else "")
    port = named.get("port") or (plain[-1] if plain else "")
    if kind == "unix" and path:
        return f"unix:{path}"
    if kind == "tcp" and port.isdigit():
        host = named.get("interface") or (plain[0] if len(plain) > 1 else "127.0.0.1")
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if "/" in kind and not parts:
        return f"unix:{kind}"
    raise ConfigurationError("bad-endpoint", f"{control!r} is no endpoint: give unix:PATH or tcp:HOST:PORT")


def _command(function: Callable[..., None]) -> click.Command:
    """A command with the options every command of this module takes."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--control", metavar="ENDPOINT", help="Its local API, if not the state directory's."),
        click.option(
            "--state", metavar="DIR", envvar="GMESH_STATE", show_envvar=True, help="Its state directory."
        ),
    ):
        function = option(function)
    return click.command()(function)


def _read_list(where: Endpoint, path: str) -> list[dict[str, Any]]:
    rows = where.request_json("GET", path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise HttpRefused("invalid-answer", f"{where.where} did not answer with a list", 200, {})
    return rows


def _read_object(
    where: Endpoint, method: str, path: str, body: dict[str, Any] | None, timeout: float
) -> dict[str, Any]:
    answer = where.request_json(method, path, body, timeout)
    if not isinstance(answer, dict):
        raise HttpRefused("invalid-answer", f"{where.where} did not answer with an object", 200, {})
    return answer


@_command
def status(state: str | None, control: str | None, as_json: bool) -> None:
    """Show what the node of this host is, and how fresh what it knows."""
    answer = _read_object(locate(state, control), "GET", "/v1/status", None, NODE_TIMEOUT)
    if as_json:
        return print_json(answer)
    certificate = answer.get("certificate") or {}
    authority = answer.get("authority") or {}
    reachable = "reachable" if authority.get("reachable") else "not reachable"
    facts(
        [
            ("name", words(answer.get("name"))),
            ("node id", words(answer.get("node_id"))),
            ("network", f"{words(answer.get('network'))} ({words(answer.get('network_id'))})"),
            ("roles", words(answer.get("roles"))),
            (
                "certificate",
                f"{words(certificate.get('serial'))}, until {moment(certificate.get('not_after'))}",
            ),
            ("authority", f"{reachable}, last heard {age(authority.get('age'))} ago"),
            ("crl", words(answer.get("crl_number"))),
            ("policy", words(answer.get("policy_version"))),
            ("links", words(answer.get("links"))),
        ]
    )


def _path(names: Any) -> str:
    return " > ".join(map(words, names or []))


def _listing(
    path: str, columns: list[Column], empty: str, state: str | None, control: str | None, raw: bool
) -> None:
    rows = _read_list(locate(state, control), path)
    if raw:
        print_json(rows)
    else:
        table(columns, rows, empty)


@_command
def peers(state: str | None, control: str | None, as_json: bool) -> None:
    """List the neighbours this node has links to."""
    columns = [
        Column("name", "name"),
        Column("node id", "node_id"),
        Column("address", "address"),
        Column("round trip", "rtt_ms", milliseconds),
    ]
    _listing("/v1/peers", columns, "no links", state, control, as_json)


@_command
@click.argument("node", required=False)
def routes(node: str | None, state: str | None, control: str | None, as_json: bool) -> None:
    """
    List the path to every node that can be reached.

    With NODE: the paths to it, the best first, each without the relays of those before it.
    """
    columns = [
        Column("name", "name"),
        Column("path", "path", _path),
        Column("cost", "cost"),
    ]
    path = "/v1/routes" if node is None else f"/v1/routes?to={quote(node, safe='')}"
    _listing(path, columns, "no routes", state, control, as_json)


@_command
def nodes(state: str | None, control: str | None, as_json: bool) -> None:
    """List all nodes this node knows of."""
    columns = [
        Column("name", "name"),
        Column("node id", "node_id"),
        Column("roles", "roles"),
        Column("reachable", "reachable"),
    ]
    _listing("/v1/nodes", columns, "no nodes", state, control, as_json)


@_command
def transits(state: str | None, control: str | None, as_json: bool) -> None:
    """List the paths of others that passed through this node, with the first frame of each."""
    columns = [
        Column("path", "path", _path),
        Column("first frame", "kind"),
        Column("bytes", "bytes"),
    ]
    _listing("/v1/transits", columns, "nothing has passed", state, control, as_json)


@_command
def services(state: str | None, control: str | None, as_json: bool) -> None:
    """List the services served on this node."""
    _listing("/v1/services", [Column("service", "service")], "no services", state, control, as_json)


@_command
@click.argument("node")
@click.option(
    "--count", default=3, show_default=True, type=click.IntRange(1, MAX_PING_COUNT), help="How often."
)
def ping(node: str, count: int, state: str | None, control: str | None, as_json: bool) -> None:
    """Measure sealed round trips to NODE."""
    answer = _read_object(
        locate(state, control),
        "POST",
        "/v1/ping",
        {"node": node, "count": count},
        NODE_TIMEOUT + 10.0 * count,
    )
    if as_json:
        return print_json(answer)
    for rtt in answer.get("rtt_ms") or []:
        print(f"answer from {words(answer.get('node'))}: {milliseconds(rtt)}")


@_command
@click.argument("node")
@click.option("--service", metavar="NAME", help="Ask the policy about this one; without it, about any.")
def trace(node: str, service: str | None, state: str | None, control: str | None, as_json: bool) -> None:
    """Show the path to NODE; for each hop the round trip, and whether the policy lets this node reach it."""
    question = {"node": node} if service is None else {"node": node, "service": service}
    answer = _read_object(locate(state, control), "POST", "/v1/trace", question, 4 * NODE_TIMEOUT)
    if as_json:
        return print_json(answer)
    print(" > ".join(map(words, answer.get("path") or [])))
    table(
        [Column("hop", "name"), Column("round trip", "rtt_ms", milliseconds), Column("policy", "policy")],
        answer.get("hops") or [],
        "no hops",
    )


@_command
@click.argument("peer")
@click.option("--seconds", default=5.0, show_default=True, type=NumberRange(0.1, 60), help="For how long.")
@click.option(
    "--count", default=1000, show_default=True, type=click.IntRange(1, 4096), help="End after so many frames."
)
def capture(
    peer: str, seconds: float, count: int, state: str | None, control: str | None, as_json: bool
) -> None:
    """Show the headers of the frames on the link to PEER; never what they carry."""
    where = locate(state, control)
    body = {"peer": peer, "seconds": seconds, "count": count}
    rows = where.request_json("POST", "/v1/capture", body, seconds + NODE_TIMEOUT)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise HttpRefused("invalid-answer", f"{where.where} did not answer with a list", 200, {})
    if as_json:
        return print_json(rows)
    columns = [
        Column("at", "at_ms", milliseconds),
        Column("", "sent", lambda sent: "sent" if sent else "received"),
        Column("frame", "kind"),
        Column("bytes", "bytes"),
        Column("path", "path", _path),
        Column("hop", "hop"),
        Column("counter", "counter"),
    ]
    table(columns, rows, "nothing passed")


@_command
@click.argument("node")
@click.argument("text", required=False)
@click.option("--service", required=True, metavar="NAME", help="The service that shall receive it.")
@click.option(
    "--timeout",
    default=10.0,
    show_default=True,
    type=NumberRange(0.1, 3600),
    help="Seconds until it is given up.",
)
def send(
    node: str,
    text: str | None,
    service: str,
    timeout: float,
    state: str | None,
    control: str | None,
    as_json: bool,
) -> None:
    """
    Send TEXT, or standard input if it is - or left out, to a service of NODE.

    Succeeds only when the receiving node has acknowledged it.
    """
    data = os.fsencode(text) if text not in (None, "-") else sys.stdin.buffer.read(MAX_MESSAGE + 1)
    if len(data) > MAX_MESSAGE:
        raise ConfigurationError("too-large", f"a message has at most {MAX_MESSAGE} bytes")
    body = {"node": node, "service": service, "data": base64.b64encode(data).decode(), "timeout": timeout}
    answer = _read_object(locate(state, control), "POST", "/v1/send", body, timeout + NODE_TIMEOUT)
    if as_json:
        return print_json(answer)
    print(f"delivered to {node} in {milliseconds(answer.get('rtt_ms'))}")


@_command
@click.option("--service", required=True, metavar="NAME", help="The service to serve.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many messages.")
def receive(service: str, count: int | None, state: str | None, control: str | None, as_json: bool) -> None:
    """
    Print the messages sent to a service of this node, one a line, until interrupted.

    On a terminal each is preceded by the name of its sender; --json always tells it.
    """
    with locate(state, control).stream(f"/v1/receive?service={quote(service, safe='')}") as messages:
        for number, message in enumerate(messages, start=1):
            print(json.dumps(message) if as_json else _message_line(message), flush=True)
            if number == count:
                return
    raise HttpRefused("closed", "the node stopped", 200, {})


def _message_line(message: dict[str, Any]) -> str:
    try:
        data = base64.b64decode(str(message.get("data", "")), validate=True)
    except binascii.Error as error:
        raise HttpRefused("invalid-answer", "the node sent a message that is not base64", 200, {}) from error
    text = printable(data.decode("utf-8", "backslashreplace"))
    return f"{words(message.get('from'))}: {text}" if sys.stdout.isatty() else text
