# SPDX-License-Identifier: MIT
"""
Programs with streams between two real daemons: a broken stream is never a clean end, whoever dies.

The programs are sockets that block, and speak the protocol by hand.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from daemon.held_ports import free_port

from gmesh.client.stream_frames import FIN, FrameDecoder, FrameKind, Signal, data_head
from gmesh.stream_errors import StreamCode
from gmesh.testing.processes import ProcessMesh, ProcessNode

pytestmark = pytest.mark.live

DONE = Signal(FrameKind.RESET, StreamCode.DONE)
PATIENCE = 180.0


class Program:
    """
    A program at the socket of a node.

    @cvar sockets: of all of them.
    """

    sockets: ClassVar[list[socket.socket]] = []

    def __init__(self, node: ProcessNode, request: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.sockets.append(self.socket)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(node.state / "node.sock"))
        self.socket.sendall(request.encode())
        self._rest = b""
        self._decoder = FrameDecoder()

    def head(self) -> tuple[int, dict[str, Any]]:
        """Status and headers of the next answer; those in JSON are read."""
        while b"\r\n\r\n" not in self._rest:
            received = self.socket.recv(65536)
            assert received, "no answer"
            self._rest += received
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return int(first.split()[1]), {
            name: json.loads(value) if value.startswith("{") else value for name, value in pairs
        }

    def status(self) -> int:
        """Of the next answer."""
        return self.head()[0]

    def bytes(self) -> bytes:
        """All that comes, to the end."""
        found = self._rest
        while received := self.socket.recv(65536):
            found += received
        return found

    def frames(self, until: FrameKind = FrameKind.RESET) -> list[bytes | Signal]:
        """All that comes until a frame of this kind, or the end of the socket."""
        found: list[bytes | Signal] = list(self._decoder.feed(self._rest))
        self._rest = b""
        while not any(isinstance(item, Signal) and item.kind is until for item in found):
            try:
                received = self.socket.recv(65536)
            except ConnectionResetError:
                break
            if not received:
                break
            found += self._decoder.feed(received)
        return found

    def write(self, data: bytes) -> None:
        self.socket.sendall(data_head(len(data)) + data)

    def end(self) -> None:
        self.socket.sendall(FIN)


def upgrade(target: str) -> str:
    return f"GET {target} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: gmesh-stream\r\n\r\n"


CONNECT = upgrade("/v1/connect?node=b&service=web")
ACCEPT = upgrade("/v1/accept?service=web")
RAW = "CONNECT b:web HTTP/1.1\r\nHost: b:web\r\n\r\n"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[ProcessMesh]:
    """Daemons a and b, linked, each with a path to the other."""
    made = ProcessMesh(tmp_path)
    port = free_port()
    made.add("a", "anchor", arguments=["--listen", f"tcp:{port}:interface=127.0.0.1"])
    made.add("b", "client", arguments=["--peer", f"127.0.0.1:{port}"])
    try:
        for node in made.nodes.values():
            node.start()
        linked(made)
        yield made
    finally:
        for each in Program.sockets:
            each.close()
        Program.sockets.clear()
        made.stop()


def linked(mesh: ProcessMesh) -> None:
    """Wait until both have a path to the other."""
    mesh.wait(lambda: mesh["a"].reaches("b") and mesh["b"].reaches("a"))


def pair(mesh: ProcessMesh, request: str = CONNECT) -> tuple[Program, Program]:
    """A dialling and an accepting program with a stream between them."""
    far = Program(mesh["b"], ACCEPT)
    assert far.status() == 100
    near = Program(mesh["a"], request)
    assert near.status() in (101, 200)
    assert far.status() == 101
    return near, far


def test_a_whole_conversation(mesh: ProcessMesh) -> None:
    """Half-closes each way, a table that shows it, and a break at a program's word."""
    near, far = pair(mesh)
    near.write(b"question")
    near.end()
    assert far.frames(FrameKind.FIN) == [b"question", Signal(FrameKind.FIN)]
    [row] = mesh["a"].ask("GET", "/v1/streams")
    assert (row["peer"], row["service"], row["direction"], row["state"]) == ("b", "web", "out", "half-closed")
    far.write(b"answer" * 1000)
    far.end()
    assert b"".join(piece for piece in near.frames() if isinstance(piece, bytes)) == b"answer" * 1000
    assert far.frames()[-1] == DONE
    mesh.wait(lambda: not mesh["a"].ask("GET", "/v1/streams"))
    near, far = pair(mesh)
    [row] = mesh["b"].ask("GET", "/v1/streams")
    assert row["direction"] == "in"
    assert mesh["b"].ask("DELETE", f"/v1/streams/{row['id']}") == {"ended": row["id"]}
    for program in (near, far):
        last = program.frames()[-1]
        assert isinstance(last, Signal)
        assert last.code is StreamCode.ABORTED
    assert "stream" in mesh["a"].log.read_text()


def test_raw_bytes(mesh: ProcessMesh) -> None:
    """After CONNECT, to the end of each half."""
    near, far = pair(mesh, RAW)
    near.socket.sendall(b"q" * 100_000)
    near.socket.shutdown(socket.SHUT_WR)
    question = far.frames(FrameKind.FIN)
    assert b"".join(piece for piece in question if isinstance(piece, bytes)) == b"q" * 100_000
    far.write(b"a")
    far.end()
    assert near.bytes() == b"a"
    assert far.frames()[-1] == DONE


def test_program_killed(mesh: ProcessMesh) -> None:
    """By SIGKILL, after it has ended its half: the far one hears of an abort."""
    code = (
        "import socket, sys, time\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.argv[2].encode())\n"
        "s.recv(9999); s.sendall(bytes.fromhex('0000000468616c6601000000')); print(flush=True)\n"
        "time.sleep(600)"
    )
    far = Program(mesh["b"], ACCEPT)
    assert far.status() == 100
    command = [sys.executable, "-c", code, str(mesh["a"].state / "node.sock"), CONNECT]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as near:
        assert near.stdout is not None
        near.stdout.readline()
        assert far.status() == 101
        assert far.frames(FrameKind.FIN) == [b"half", Signal(FrameKind.FIN)]
        near.send_signal(signal.SIGKILL)
    last = far.frames()[-1]
    assert isinstance(last, Signal)
    assert last.code is StreamCode.ABORTED


@pytest.mark.parametrize("request_of", [CONNECT, RAW], ids=["framed", "raw"])
def test_own_daemon_killed(mesh: ProcessMesh, request_of: str) -> None:
    """A framed program sees no RESET(done), even after the FIN of the far end; the far one is told too."""
    near, far = pair(mesh, request_of)
    far.write(b"x")
    far.end()
    if request_of is CONNECT:
        assert near.frames(FrameKind.FIN) == [b"x", Signal(FrameKind.FIN)]
    mesh["a"].kill()
    if request_of is CONNECT:
        assert near.frames() == []
    mesh["a"].start()
    last = far.frames()[-1]
    assert isinstance(last, Signal)
    assert (last.kind, last.code) == (FrameKind.RESET, StreamCode.RESTARTED)


def test_own_daemon_stopped(mesh: ProcessMesh) -> None:
    """As by C{systemctl restart}: both programs are told at once that it stops."""
    near, far = pair(mesh)
    mesh["a"].stop()
    for program in (near, far):
        last = program.frames()[-1]
        assert isinstance(last, Signal)
        assert (last.kind, last.code) == (FrameKind.RESET, StreamCode.STOPPED)


def test_a_stream_waits_for_a_program_that_comes_back(mesh: ProcessMesh) -> None:
    """After a restart of its daemon; what is dialled later to nobody is refused at once."""
    waiting = Program(mesh["b"], ACCEPT)
    assert waiting.status() == 100
    mesh["b"].stop()
    assert waiting.bytes() == b""
    mesh["b"].start()
    linked(mesh)
    near = Program(mesh["a"], CONNECT)
    mesh.wait(lambda: [row["state"] for row in mesh["b"].ask("GET", "/v1/streams")] == ["opening"])
    far = Program(mesh["b"], ACCEPT)
    assert near.status() == 101
    assert far.status() == 100
    assert far.status() == 101
    began = time.monotonic()
    mesh.wait(lambda: Program(mesh["a"], CONNECT).status() == 404)
    assert time.monotonic() - began < PATIENCE


def resident(node: ProcessNode) -> int:
    """Bytes of memory of its daemon."""
    assert node._process is not None
    pages = Path(f"/proc/{node._process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def seconds(node: ProcessNode) -> float:
    """CPU time of its daemon."""
    assert node._process is not None
    fields = Path(f"/proc/{node._process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.soak
def test_a_thousand_idle_streams(mesh: ProcessMesh) -> None:
    """They cost at most 8 MiB and 1 % of a core at each daemon."""
    near, far = pair(mesh)
    before = {name: resident(node) for name, node in mesh.nodes.items()}
    for _ in range(1000):
        assert Program(mesh["b"], ACCEPT).status() == 100
        mesh.wait(lambda: Program(mesh["a"], CONNECT).status() == 101)  # 503 above 200 a second
    grown = {name: resident(node) - before[name] for name, node in mesh.nodes.items()}
    began, spent = time.monotonic(), {name: seconds(node) for name, node in mesh.nodes.items()}
    near.write(b"x")
    assert far.socket.recv(1)
    time.sleep(20)
    lasted = time.monotonic() - began
    used = {name: (seconds(node) - spent[name]) / lasted for name, node in mesh.nodes.items()}
    print(f"idle: {grown} bytes, {used} of a core")  # noqa: T201  # measured
    assert max(grown.values()) <= 8 * 1024 * 1024
    assert max(used.values()) <= 0.01
