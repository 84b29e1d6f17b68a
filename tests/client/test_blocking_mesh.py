# SPDX-License-Identifier: MIT
"""The mesh as scripts see it; in a thread, over a real socket."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
import pytest_twisted
from client.message_daemon import MessageDaemon
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from gmesh.client import BlockingMesh, Mesh, ServiceEvent
from gmesh.client.message_frames import FrameType, GivenMessage, MessageFrame, MessageFrameReader
from gmesh.errors import SendRefused


@pytest_twisted.async_yield_fixture
async def daemon(tmp_path: Path) -> AsyncIterator[MessageDaemon]:
    made = MessageDaemon(reactor, str(tmp_path / "node.sock"))
    await made.start()
    yield made
    while any(leg.transport.connected for leg in made.legs):
        await deferLater(reactor, 0.001)  # type: ignore[arg-type]  # the module stands for the reactor
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_two_scripts(daemon: MessageDaemon) -> None:
    """One serves and answers, the other asks; each refusal is told."""

    def serve() -> list[bytes]:
        got = []
        with BlockingMesh(daemon.path) as mesh:
            for message in mesh.receive("ask"):
                got.append(message.data)
                if message.data == b"no":
                    message.refuse("not now")
                else:
                    message.done(message.data.upper())
                if message.data == b"end":
                    break
        return got

    def ask() -> list[object]:
        with BlockingMesh(daemon.path) as mesh:
            told: list[object] = [mesh.request("here", "ask", b"one", key="k")]
            for node, service, data in [("here", "ask", b"no"), ("nobody", "ask", b"x")]:
                try:
                    mesh.send(node, service, data)
                except SendRefused as refusal:
                    told.append(refusal.reason)
            told += [len(mesh.nodes()), mesh.services()[0]["nodes"], mesh.request("here", "ask", b"end")]
            return told

    serving = deferToThread(serve)
    while "ask" not in daemon.datagrams.services.names:
        await deferLater(reactor, 0.001)  # type: ignore[arg-type]  # the module stands for the reactor
    assert await deferToThread(ask) == [b"ONE", "refused", "unknown-node", 3, ["here"], b"END"]
    assert await serving == [b"one", b"no", b"end"]


@pytest_twisted.ensureDeferred
async def test_a_script_that_ends_with_a_message_gives_it_back(daemon: MessageDaemon) -> None:
    """It comes to the next one, marked."""

    def take(finish: bool) -> bool:
        with BlockingMesh(daemon.path) as mesh:
            message = next(mesh.receive("log"))
            if finish:
                message.done()
                mesh.nodes()  # it has been read
            return message.redelivered

    sent = deferToThread(lambda: send(daemon.path))
    assert await deferToThread(take, False) is False
    assert await deferToThread(take, True) is True
    assert await sent == b""


def send(path: str) -> bytes:
    with BlockingMesh(path) as mesh:
        while True:
            try:
                return mesh.send("here", "log", b"x", timeout=20)
            except SendRefused as refusal:
                assert refusal.reason == "no-such-service"  # the receiver is on its way


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_restarts(daemon: MessageDaemon, caplog: pytest.LogCaptureFixture) -> None:
    """A receiver serves again, with a line at each end; a sender is told, and connects with its next call."""
    caplog.set_level("INFO", "gmesh.client")

    def serve() -> list[bytes]:
        got = []
        with BlockingMesh(daemon.path) as mesh:
            for message in mesh.receive("ask"):
                got.append(message.data)
                message.done(message.data.upper())
                if len(got) == 2:
                    mesh.nodes()  # it has been read
                    return got
        return got

    serving = deferToThread(serve)
    await until(lambda: "ask" in daemon.datagrams.services.names)
    asking = await deferToThread(BlockingMesh, daemon.path)
    assert await deferToThread(asking.request, "here", "ask", b"one") == b"ONE"
    await daemon.stop()
    with pytest.raises(OSError):
        await deferToThread(asking.request, "here", "ask", b"lost")
    await daemon.start()
    await until(lambda: "ask" in daemon.datagrams.services.names)
    assert await deferToThread(asking.request, "here", "ask", b"two") == b"TWO"
    assert await serving == [b"one", b"two"]
    asking.close()
    assert [record.getMessage() for record in caplog.records] == [
        "no connection to the node: the node's daemon hung up",
        "connected to the node again",
    ]


@pytest_twisted.ensureDeferred
async def test_what_a_receiver_has_not_read_when_it_stops(daemon: MessageDaemon) -> None:
    """Its senders hear at once that there is no receiver any more, and the service is free."""

    def serve() -> None:
        for message in receiving.receive("log", concurrency=3):
            receiving.nodes()  # what the node gives meanwhile has come
            message.done()
            break
        receiving.nodes()

    receiving, sending = await deferToThread(BlockingMesh, daemon.path), Mesh(daemon.path)
    serving = deferToThread(serve)
    await until(lambda: "log" in daemon.datagrams.services.names)
    first, *others = [sending.send("here", "log", b"x", timeout=5) for _ in range(3)]
    await serving
    assert await first == b"" and daemon.datagrams.services.names == []
    for sent in others:
        with pytest.raises(SendRefused, match="no-such-service"):
            await sent
    receiving.close()
    sending.close()


@pytest_twisted.ensureDeferred
async def test_many_at_once_and_who_is_there(daemon: MessageDaemon) -> None:
    """One result a node; who offers a service comes first of all that a watch tells."""

    def serve() -> None:
        with BlockingMesh(daemon.path) as mesh:
            messages = mesh.receive("log")
            for _ in range(3):
                next(messages).done(b"ok")
            mesh.nodes()

    def ask() -> list[object]:
        with BlockingMesh(daemon.path) as mesh:
            told: list[object] = [mesh.send_to("log", b"x"), mesh.send_to("log", b"x", role="pump")]
            told.append(mesh.send_to("log", b"x", nodes=["here", "nobody"])["here"])
            return [*told, next(mesh.watch("log"))]

    serving = deferToThread(serve)
    await until(lambda: "log" in daemon.datagrams.services.names)
    here, role, named, event = await deferToThread(ask)
    assert (here, named, event) == ({"here": b"ok"}, b"ok", ServiceEvent("log", "here", True))
    assert role["here"] == b"ok" and role["there"].reason == "unknown-node" and len(role) == 2
    await serving


class ScriptedDaemons:
    """One after the other, each with what it says once it was asked something."""

    def __init__(self, *scripts: list[MessageFrame]) -> None:
        self._scripts = list(scripts)
        self._threads: list[threading.Thread] = []
        self.ends: list[socket.socket] = []

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.sendall(WELCOME.encode())
        self.ends.append(ours)
        script = self._scripts.pop(0)
        if script:
            self._threads.append(threading.Thread(target=self._answer, args=(ours, script)))
            self._threads[-1].start()
        return theirs

    def _answer(self, end: socket.socket, script: list[MessageFrame]) -> None:
        end.recv(2**16)
        end.sendall(b"".join(frame.encode() for frame in script))

    def close(self) -> None:
        for thread in self._threads:
            thread.join()
        for end in self.ends:
            end.close()


WELCOME = MessageFrame(FrameType.WELCOME, 0, bytes(8) + b"{}")


@pytest.mark.parametrize("use", ["receive", "watch", "nodes"])
def test_the_first_use_after_the_daemon_has_ended_connects_again(use: str) -> None:
    """Nobody had to fail first to find out."""
    given = GivenMessage(1, "there", "aa" * 16, (), b"x").encode()
    answers = {
        "receive": [MessageFrame(FrameType.SERVING, 1), MessageFrame(FrameType.MESSAGE, 5, given)],
        "watch": [MessageFrame(FrameType.ANSWER, 1, b'[{"service": "log", "nodes": ["here"]}]')],
        "nodes": [MessageFrame(FrameType.ANSWER, 1, b"[]")],
    }
    daemons = ScriptedDaemons([], answers[use])
    with closing(daemons), BlockingMesh(connect=daemons.connect) as mesh:
        daemons.ends[0].close()
        if use == "receive":
            assert next(mesh.receive("log")).data == b"x"
        elif use == "watch":
            assert next(mesh.watch("log")) == ServiceEvent("log", "here", True)
        else:
            assert mesh.nodes() == []


def test_what_was_closed_is_used_no_more() -> None:
    """Whoever waits for ever does not wait for what the program itself has ended."""
    daemons = ScriptedDaemons([])
    with closing(daemons):
        mesh = BlockingMesh(connect=daemons.connect)
        mesh.close()
        for use in (mesh.receive("log"), mesh.watch("log")):
            with pytest.raises(ConnectionAbortedError):
                next(use)


def test_it_hears_while_it_says_something_long() -> None:
    """A daemon that waits until it is heard, before it listens again, does not stop both for ever."""
    daemons = ScriptedDaemons([])
    heard: list[int] = []

    def talk_then_listen(end: socket.socket) -> None:
        end.sendall(MessageFrame(FrameType.ANSWER, 77, bytes(2**19 + 2**18)).encode())
        reader = MessageFrameReader()
        while not heard:
            heard.extend(len(frame.body) for frame in reader.feed(end.recv(2**16)))
        end.sendall(MessageFrame(FrameType.SENT, 1, bytes(4) + b"ok").encode())

    with closing(daemons), BlockingMesh(connect=daemons.connect) as mesh:
        daemon = threading.Thread(target=talk_then_listen, args=daemons.ends)
        daemon.start()
        assert mesh.send("there", "log", bytes(2**19 + 2**18)) == b"ok"
        daemon.join()
    assert heard[0] > 2**19


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await deferLater(reactor, 0.001)  # type: ignore[arg-type]  # the module stands for the reactor


def test_without_a_daemon(tmp_path: Path) -> None:
    """An OSError, as of any socket."""
    with pytest.raises(OSError):
        BlockingMesh(str(tmp_path / "node.sock"))


def test_it_starts_without_twisted() -> None:
    """A script that sends imports no reactor, and nothing of the daemon."""
    code = (
        "import sys; before = set(sys.modules); from gmesh.client import BlockingMesh; "
        "heavy = 'twisted', 'zope', 'gmesh.node', 'gmesh.wire'; "
        "sys.exit(any(name.startswith(heavy) for name in set(sys.modules) - before))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
