# SPDX-License-Identifier: MIT
"""
Where the node of this host answers, and the options and questions that all commands to it share.

Tests: C{tests/cli/test_node.py}.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gmesh.cli.endpoint_text import split
from gmesh.cli.http import Endpoint, HttpRefused
from gmesh.cli.limits import NODE_TIMEOUT
from gmesh.client.where import SYSTEM_SOCKET as PACKAGED
from gmesh.errors import ConfigurationError

__all__ = ["SYSTEM_SOCKET", "locate", "node_command", "node_options", "read_list", "read_object"]

#: Where the Debian unit puts the socket.
SYSTEM_SOCKET = Path(PACKAGED)


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
    kind, plain, named = split(control)
    path = named.get("address") or (plain[0] if plain else "")
    port = named.get("port") or (plain[-1] if plain else "")
    if kind == "unix" and path:
        return f"unix:{path}"
    if kind == "tcp" and port.isdigit():
        host = named.get("interface") or (plain[0] if len(plain) > 1 else "127.0.0.1")
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if "/" in kind and not plain and not named:
        return f"unix:{kind}"
    raise ConfigurationError(
        "bad-endpoint", f"{control!r} is not an endpoint: give unix:PATH or tcp:HOST:PORT"
    )


def node_command(function: Callable[..., None]) -> click.Command:
    """A command to the local node: it is called with C{where} that is and C{as_json}."""

    @functools.wraps(function)
    def run(state: str | None, control: str | None, **others: Any) -> None:
        function(where=locate(state, control), **others)

    return node_options(run)


def node_options(function: Callable[..., None]) -> click.Command:
    """A command with the options every command to the local node takes, unread."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--control", metavar="ENDPOINT", help="Its local API, if not the state directory's."),
        click.option(
            "--state", metavar="DIR", envvar="GMESH_STATE", show_envvar=True, help="Its state directory."
        ),
    ):
        function = option(function)
    return click.command()(function)


def read_list(
    where: Endpoint,
    path: str,
    method: str = "GET",
    body: dict[str, Any] | None = None,
    timeout: float = NODE_TIMEOUT,
) -> list[dict[str, Any]]:
    """Ask for a list of objects. @raise HttpRefused: if it is refused, or something else comes."""
    rows = where.request_json(method, path, body, timeout)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise HttpRefused("invalid-answer", f"{where.where} did not answer with a list", 200, {})
    return rows


def read_object(
    where: Endpoint,
    path: str,
    method: str = "GET",
    body: dict[str, Any] | None = None,
    timeout: float = NODE_TIMEOUT,
) -> dict[str, Any]:
    """Ask for an object. @raise HttpRefused: if it is refused, or something else comes."""
    answer = where.request_json(method, path, body, timeout)
    if not isinstance(answer, dict):
        raise HttpRefused("invalid-answer", f"{where.where} did not answer with an object", 200, {})
    return answer
