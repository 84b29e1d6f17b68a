# SPDX-License-Identifier: MIT
"""
Messages from and to the shell: C{send} and C{receive}.

Tests: C{tests/cli/test_node.py}.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import sys
from typing import Any
from urllib.parse import quote

import click

from gmesh.cli.http import Endpoint, HttpRefused
from gmesh.cli.limits import MAX_MESSAGE, MAX_SEND_TIMEOUT, NODE_TIMEOUT
from gmesh.cli.local import node_command, read_object
from gmesh.cli.options import NumberRange, node_name
from gmesh.cli.output import milliseconds, print_json, printable, words
from gmesh.cli.pipe_watch import end_with_the_reader
from gmesh.errors import ConfigurationError

__all__ = ["receive", "send"]


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
    body = {"node": node, "service": service, "data": base64.b64encode(data).decode(), "timeout": timeout}
    answer = read_object(where, "/v1/send", "POST", body, timeout + NODE_TIMEOUT)
    if as_json:
        return print_json(answer)
    print(f"delivered to {node} in {milliseconds(answer.get('rtt_ms'))}")


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
    with where.stream(f"/v1/receive?service={quote(service, safe='')}&ack=1") as messages:
        for number, message in enumerate(messages, start=1):
            if raw:
                sys.stdout.buffer.write(_data(message))
                sys.stdout.buffer.flush()
            else:
                print(json.dumps(message) if as_json else _message_line(message), flush=True)
            if "id" in message:
                body = {"ids": [message["id"]]}
                read_object(where, "/v1/receive/ack", "POST", body, NODE_TIMEOUT)
            if number == count:
                return
    raise HttpRefused("closed", "the node stopped", 200, {})


def _data(message: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(str(message.get("data", "")), validate=True)
    except binascii.Error as error:
        raise HttpRefused("invalid-answer", "the node sent a message that is not base64", 200, {}) from error


def _message_line(message: dict[str, Any]) -> str:
    data = _data(message)
    text = printable(data.decode("utf-8", "backslashreplace"))
    return f"{words(message.get('from'))}: {text}" if sys.stdout.isatty() else text
