# SPDX-License-Identifier: MIT
"""
C{connect}: standard input and output joined to a stream, as C{ssh} wants of a C{ProxyCommand}.

Tests: C{tests/cli/test_connect.py}.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from contextlib import suppress

import click

from gmesh.cli.http import Endpoint
from gmesh.cli.local import locate
from gmesh.cli.stream_socket import FramedSocket, raw_stream, stream_names
from gmesh.errors import ConfigurationError

__all__ = ["connect"]

_STDIN, _STDOUT = 0, 1
_PIECE = 64 * 1024


@click.command()
@click.argument("node")
@click.argument("service")
@click.option(
    "--fdpass",
    is_flag=True,
    help="Hand the connected socket to ssh, and end: with ProxyUseFdpass no process stays in between.",
)
@click.option("--control", metavar="ENDPOINT", help="Its local API, if not the state directory's.")
@click.option("--state", metavar="DIR", envvar="GMESH_STATE", show_envvar=True, help="Its state directory.")
def connect(node: str, service: str, fdpass: bool, control: str | None, state: str | None) -> None:
    """
    Join standard input and output to a service of NODE, whose name may end in .gmesh.

    The end of the one does not end the other.  Ends with 0 only after a clean end of both: all that
    was written arrived, and all that was to be read has been.
    """
    where = locate(state, control)
    names = stream_names(node, service)
    if fdpass:
        return _pass(where, *names)
    stream = FramedSocket(where, *names)
    threading.Thread(target=_send, args=[stream], daemon=True).start()
    _receive(stream)


def _pass(where: Endpoint, node: str, service: str) -> None:
    if not stat.S_ISSOCK(os.fstat(_STDOUT).st_mode):
        raise ConfigurationError("no-socket", "--fdpass is for ssh with ProxyUseFdpass: stdout is no socket")
    with raw_stream(where, node, service) as stream, socket.socket(fileno=os.dup(_STDOUT)) as ssh:
        socket.send_fds(ssh, [b"\0"], [stream.fileno()])


def _send(stream: FramedSocket) -> None:
    """
    All of standard input, and its end; nothing once the node has closed, which says why.

    Input that cannot be read breaks the stream: half of it must not look whole.
    """
    from gmesh.client.stream_frames import FIN, reset_frame
    from gmesh.stream_errors import StreamCode

    with suppress(ConnectionError):
        try:
            while data := os.read(_STDIN, _PIECE):
                stream.write(data)
            last = FIN
        except ConnectionError:
            raise
        except OSError as error:
            last = reset_frame(StreamCode.ABORTED, f"standard input cannot be read: {error.strerror}")
        stream.socket.sendall(last)


def _receive(stream: FramedSocket) -> None:
    """
    To standard output, until both halves are over.

    @raise HttpRefused: if the stream broke.
    """
    from gmesh.client.stream_frames import FrameKind

    while True:
        found = stream.read()
        for item in found:
            if isinstance(item, bytes):
                _write(item)
            elif item.kind is FrameKind.FIN:
                _end_output()
            elif item.kind is FrameKind.RESET:
                if item.code == 0:
                    return _end_output()
                raise stream.broken(item)
        if not found:
            raise stream.broken(None)


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(_STDOUT, rest) :]


def _end_output() -> None:
    """Whoever reads standard output sees its end, while standard input goes on."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, _STDOUT)
    os.close(nothing)
