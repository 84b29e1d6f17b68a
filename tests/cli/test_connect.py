# SPDX-License-Identifier: MIT
"""gmesh connect: standard input and output joined to a stream, as ssh and shell scripts need it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from node.api.stream_programs import LocalNodes
from pytest_twisted import async_yield_fixture
from streams.wires import Program
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from gmesh.stream_errors import StreamLost

PATIENCE = 180
CLOCK: Any = reactor


@async_yield_fixture
async def nodes(tmp_path: Path) -> AsyncIterator[LocalNodes]:
    """Two nodes with local APIs at real sockets."""
    made = LocalNodes(tmp_path)
    await made.start()
    yield made
    for node in (made.a, made.b):
        node.break_all("stopped")
    for _ in range(4):
        await deferLater(CLOCK, 0)
    await made.close()


def command(nodes: LocalNodes, *arguments: str) -> list[str]:
    """That command at node a."""
    control = f"unix:{nodes.path(nodes.a)}"
    return [sys.executable, "-m", "gmesh.cli.main", "connect", "--control", control, *arguments]


def start(nodes: LocalNodes, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """It, with pipes."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command(nodes, *arguments), **pipes)


def ended(process: subprocess.Popen[bytes], sent: bytes | None = None) -> Deferred[tuple[int, bytes, bytes]]:
    """Its status and what it printed, once standard input was closed behind C{sent}."""

    def wait() -> tuple[int, bytes, bytes]:
        out, err = process.communicate(sent, timeout=PATIENCE)
        return process.returncode, out, err

    return deferToThread(wait)


def served(nodes: LocalNodes, said: Any = None) -> Deferred[Program]:
    """A program of node b; fires with it once it has a stream."""
    there: Deferred[Program] = Deferred()

    def take(offer: Any) -> None:
        program = Program(*([said] if said else []))
        offer.accept(program)
        there.callback(program)

    nodes.b.listen("web", take)
    return there


async def test_the_end_of_the_question_is_not_the_end_of_the_answer(nodes: LocalNodes) -> None:
    """A service that answers only after the end of the file; both ends are clean, so the status is 0."""
    there = served(nodes)
    finished = ended(start(nodes, "b.gmesh", "web"), b"question" * 50_000)
    program = await there
    assert await program.ended == b"question" * 50_000
    program.transport.write(b"answer" * 50_000)
    program.transport.loseWriteConnection()
    assert await finished == (0, b"answer" * 50_000, b"")


async def test_the_end_of_the_answer_is_not_the_end_of_the_question(nodes: LocalNodes) -> None:
    """The far end says all and half-closes: standard output ends, and standard input goes on."""
    there = served(nodes)
    process = start(nodes, "b", "web")
    program = await there
    program.transport.write(b"file")
    program.transport.loseWriteConnection()
    assert process.stdout is not None and process.stdin is not None
    assert await deferToThread(process.stdout.read) == b"file"
    assert process.poll() is None
    process.stdin.write(b"still here")
    process.stdin.flush()
    assert await program.until(10) == b"still here"
    assert (await ended(process))[0] == 0


async def test_it_ends_once_the_far_end_has_closed_though_standard_input_is_open(nodes: LocalNodes) -> None:
    """Nobody has to press a key to get a prompt back."""
    there = served(nodes)
    process = start(nodes, "b", "web")
    program = await there
    program.transport.write(b"bye")
    program.transport.loseConnection()
    status = await deferToThread(process.wait, PATIENCE)
    assert status == 0
    assert (await ended(process))[1] == b"bye"


@pytest.mark.parametrize("broken", ["by the far program", "by the mesh"])
async def test_a_broken_stream_is_a_failure_in_one_line(nodes: LocalNodes, broken: str) -> None:
    """Half a file is not taken for a file: the status says it."""
    there = served(nodes)
    process = start(nodes, "b", "web")
    program = await there
    program.transport.write(b"half a fi")
    assert process.stdout is not None
    assert await deferToThread(process.stdout.read, 9) == b"half a fi"
    if broken == "by the mesh":
        nodes.a.break_all("revoked", "b was revoked")
        line = b"gmesh: the stream broke (revoked): b was revoked\n"
    else:
        program.transport.abortConnection()
        line = b"gmesh: the stream broke (aborted)"
    status, _, err = await ended(process)
    assert status == 1
    assert err.startswith(line)
    assert err.count(b"\n") == 1


async def test_input_that_cannot_be_read_breaks_the_stream(nodes: LocalNodes, tmp_path: Path) -> None:
    """Standard input is only for writing: the far end sees no clean end, and the status is 1."""
    there = served(nodes)
    unreadable = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    process = start(nodes, "b", "web", stdin=unreadable)
    os.close(unreadable)
    program = await there
    status, _, told = await ended(process)
    assert status == 1
    assert told.startswith(b"gmesh: ") and told.count(b"\n") == 1
    lost = await program.lost
    assert isinstance(lost, StreamLost) and "standard input cannot be read" in str(lost)


async def test_a_reader_of_its_output_that_goes_ends_it(nodes: LocalNodes) -> None:
    """gmesh connect | head -1."""
    there = served(nodes)
    process = start(nodes, "b", "web")
    program = await there
    assert process.stdout is not None
    process.stdout.close()
    program.transport.write(bytes(1000))
    assert await deferToThread(process.wait, PATIENCE) == 1
    assert await program.lost is not None
    assert process.stdin is not None and process.stderr is not None
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize(
    ("node", "service", "line"),
    [
        ("nobody", "web", b"no node called 'nobody' is known here"),
        ("b", "nothing", b"b has no service nothing"),
        ("no/name", "web", b"'no/name' cannot be the name of a node"),
        ("b", "No Service", b"'No Service' cannot name a service"),
    ],
)
async def test_a_refusal_is_one_line(nodes: LocalNodes, node: str, service: str, line: bytes) -> None:
    """And nothing was read of standard input."""
    status, out, err = await ended(start(nodes, node, service), b"")
    assert (status, out) == (1, b"")
    assert err.startswith(b"gmesh: " + line)


async def test_the_socket_is_handed_to_ssh(nodes: LocalNodes) -> None:
    """Not a byte of what the far end says first is lost; the command has ended, and the stream goes on."""
    there = served(nodes, lambda program, data: program.transport.write(data.upper()))
    mine, its = socket.socketpair()
    with mine, its:
        process = start(nodes, "b", "web", "--fdpass", stdin=subprocess.DEVNULL, stdout=its)
        program = await there
        program.transport.write(b"SSH-2.0-x\r\n")
        assert (await ended(process))[0] == 0
        _, [number], _, _ = socket.recv_fds(mine, 1, 1)
    with socket.socket(fileno=number) as stream:
        stream.settimeout(PATIENCE)
        stream.sendall(b"hello")
        read = b""
        while len(read) < 16:
            read += await deferToThread(stream.recv, 100)
        assert read == b"SSH-2.0-x\r\nHELLO"
    await program.ended
    program.transport.loseConnection()
    await program.lost


async def test_handing_over_takes_a_socket(nodes: LocalNodes) -> None:
    """From a shell it is a mistake, and nothing is dialled."""
    status, _, err = await ended(start(nodes, "b", "web", "--fdpass"), b"")
    assert (status, err) == (1, b"gmesh: --fdpass is for ssh with ProxyUseFdpass: stdout is no socket\n")
    assert nodes.a.open_streams() == []
