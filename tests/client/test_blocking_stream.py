# SPDX-License-Identifier: MIT
"""Streams of scripts without Twisted: between two nodes, over their sockets, each script in a thread."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from node.api.stream_programs import LocalNodes, connect
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from gmesh.client import SocketRefused
from gmesh.client.blocking_stream import BlockingStream, StreamBroken, accept_stream, open_stream
from gmesh.client.stream_frames import data_head


@pytest_twisted.async_yield_fixture
async def nodes(tmp_path: Path) -> AsyncIterator[LocalNodes]:
    """Nodes a and b, and their sockets."""
    made = LocalNodes(tmp_path)
    await made.start()
    yield made
    await made.close()


Act = Callable[[BlockingStream], Any]


def both(nodes: LocalNodes, near: Act, far: Act) -> Deferred[Any]:
    """A script that dials, and one that serves: what each comes to."""

    def dial() -> Any:
        with open_stream("b", "file", nodes.path(nodes.a)) as stream:
            return near(stream)

    def serve() -> Any:
        with accept_stream("file", nodes.path(nodes.b)) as stream:
            return far(stream)

    nodes.b.hold(600, 300)
    return gatherResults([outcome(serve), outcome(dial)])


def outcome(act: Callable[[], Any]) -> Deferred[Any]:
    """What it returns, or the reason why it broke."""

    def run() -> Any:
        try:
            return act()
        except (StreamBroken, SocketRefused) as error:
            return error.reason

    return deferToThread(run)


@pytest_twisted.ensureDeferred
async def test_a_file_is_copied(nodes: LocalNodes) -> None:
    """Megabytes, to the end, and the one who sent it knows that they have arrived."""
    sent, copy = bytes(range(256)) * 20_000, io.BytesIO()

    def take(stream: BlockingStream) -> str:
        shutil.copyfileobj(stream, copy)
        return stream.peer

    peer, _ = await both(nodes, lambda stream: shutil.copyfileobj(io.BytesIO(sent), stream), take)
    assert peer == "a"
    assert hashlib.sha256(copy.getvalue()).digest() == hashlib.sha256(sent).digest()


@pytest_twisted.ensureDeferred
async def test_a_question_and_its_answer(nodes: LocalNodes) -> None:
    """The half that is ended is read to its end, the other goes on."""

    def answer(stream: BlockingStream) -> bytes:
        question = stream.read()
        stream.write(question.upper())
        return question

    def ask(stream: BlockingStream) -> bytes:
        stream.write(b"how warm?")
        stream.end()
        with pytest.raises(ValueError):
            stream.write(b"more")
        return stream.read(3) + stream.read()

    assert await both(nodes, ask, answer) == [b"how warm?", b"HOW WARM?"]


@pytest_twisted.ensureDeferred
async def test_who_fails_breaks_it_for_both(nodes: LocalNodes) -> None:
    """What was read so far is no whole file, and that is told."""

    def fail(stream: BlockingStream) -> None:
        stream.write(b"half")
        raise SocketRefused("mine", "the disk is gone")

    assert await both(nodes, fail, BlockingStream.read) == ["aborted", "mine"]


@pytest_twisted.ensureDeferred
async def test_a_writer_whose_reader_has_gone(nodes: LocalNodes) -> None:
    """It is told, though it reads nothing itself; how the reader's end came out hangs on who was first."""

    def write(stream: BlockingStream) -> None:
        while True:
            stream.write(bytes(50_000))

    reader, writer = await both(nodes, write, lambda stream: stream.read(10)[:1])
    assert writer == "stopped" and reader in (b"\0", "aborted")


@pytest_twisted.ensureDeferred
async def test_a_program_that_dies(nodes: LocalNodes) -> None:
    """What was read is not all."""
    nodes.b.hold(600, 300)

    def serve() -> bytes:
        with accept_stream("file", nodes.path(nodes.b)) as stream:
            return stream.read()

    served = outcome(serve)
    near = await nodes.program(nodes.a, connect("b", "file"))
    await nodes.until(lambda: near.heads)
    near.transport.write(data_head(4) + b"half")
    near.transport.loseConnection()
    assert await served == "aborted"


@pytest_twisted.ensureDeferred
async def test_refusals(nodes: LocalNodes) -> None:
    """Nobody of that name; a service that no program may have."""
    path = nodes.path(nodes.a)
    assert await outcome(lambda: open_stream("nobody", "file", path)) == "unknown-node"
    assert await outcome(lambda: accept_stream("_echo", path)) == "bad-service"
