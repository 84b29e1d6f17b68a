# SPDX-License-Identifier: MIT
"""
Messages from and to the shell: C{send} and C{receive}.

Tests: C{tests/cli/test_node.py}.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from gmesh.cli.http import Endpoint, HttpRefused
from gmesh.cli.limits import MAX_MESSAGE, MAX_SEND_TIMEOUT, NODE_TIMEOUT
from gmesh.cli.local import node_command
from gmesh.cli.options import NumberRange, node_name
from gmesh.cli.output import milliseconds, print_json, printable, words
from gmesh.cli.pipe_watch import end_with_the_reader
from gmesh.errors import ConfigurationError
from gmesh.trust.names import is_service

if TYPE_CHECKING:
    from gmesh.client.blocking_mesh import BlockingMesh, ReceivedMessage

__all__ = ["receive", "send"]

_AHEAD = 64
"""Messages that may wait here for their turn: as many as a receiver over HTTP had."""


@node_command
@click.argument("node", type=node_name)
@click.argument("text", required=False)
@click.option("--service", required=True, metavar="NAME", help="The service that receives it.")
@click.option(
    "--timeout",
    default=10.0,
    show_default=True,
    type=NumberRange(0.1, MAX_SEND_TIMEOUT),
    help="Seconds until it is given up.",
)
def send(
    node: str,
    text: str | None,
    service: str,
    timeout: float,
    where: Endpoint,
    as_json: bool,
) -> None:
    """
    Send TEXT, or standard input if it is - or left out, to a service of NODE.

    Succeeds only when its receiver has acknowledged it.
    """
    data = os.fsencode(text) if text not in (None, "-") else sys.stdin.buffer.read(MAX_MESSAGE + 1)
    if len(data) > MAX_MESSAGE:
        raise ConfigurationError("too-large", f"a message has at most {MAX_MESSAGE} bytes")
    with _mesh(where, service) as mesh:
        since = time.monotonic()
        answer = mesh.send(node, service, data, timeout)
        row: dict[str, Any] = {"delivered": True, "rtt_ms": round(1000 * (time.monotonic() - since), 3)}
    if as_json:
        return print_json(row | ({"answer": _base64(answer)} if answer else {}))
    print(f"delivered to {node} in {milliseconds(row['rtt_ms'])}")


@node_command
@click.option("--service", required=True, metavar="NAME", help="The service to serve.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many messages.")
@click.option("--raw", is_flag=True, help="Write the bytes as they are, with nothing added.")
def receive(service: str, count: int | None, raw: bool, where: Endpoint, as_json: bool) -> None:
    """
    Print the messages sent to a service of this node, one per line, until interrupted.

    A message is acknowledged once it is written. On a terminal each is preceded by the name of its sender;
    --json always shows it. With --raw --count 1 a file that was sent arrives as it was.
    """
    if raw and as_json:
        raise click.UsageError("--raw and --json exclude each other")
    end_with_the_reader()
    with _mesh(where, service) as mesh:
        concurrency = 1 if count is not None else _AHEAD
        messages = mesh.receive(service, concurrency, again=False)
        try:
            for number, message in enumerate(messages, start=1):
                if raw:
                    sys.stdout.buffer.write(message.data)
                    sys.stdout.buffer.flush()
                else:
                    print(json.dumps(_row(service, message)) if as_json else _line(message), flush=True)
                message.done()
                if number == count:
                    return
        except ConnectionResetError:
            raise HttpRefused("closed", "the node stopped", 200, {}) from None


@contextmanager
def _mesh(where: Endpoint, service: str) -> Iterator[BlockingMesh]:
    """The mesh by the node at C{where}. @raise ConfigurationError: for what can be no service of programs."""
    from gmesh.client.answers import MESSAGES_REQUEST
    from gmesh.client.blocking_mesh import BlockingMesh

    if not is_service(service) or service.startswith("_"):
        detail = "a service is a-z, 0-9 and -, with a letter or digit at both ends"
        raise ConfigurationError("bad-service", detail)
    with BlockingMesh(connect=lambda: where.switch(MESSAGES_REQUEST, 101, NODE_TIMEOUT)) as mesh:
        yield mesh


def _row(service: str, message: ReceivedMessage) -> dict[str, Any]:
    """A message as JSON, with the keys of C{GET /v1/receive}."""
    row: dict[str, Any] = {"from": message.source, "service": service, "data": _base64(message.data)}
    if message.key:
        row["key"] = message.key
    return row | ({"redelivered": True} if message.redelivered else {})


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _line(message: ReceivedMessage) -> str:
    text = printable(message.data.decode("utf-8", "backslashreplace"))
    return f"{words(message.source)}: {text}" if sys.stdout.isatty() else text
