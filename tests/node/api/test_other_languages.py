# SPDX-License-Identifier: MIT
"""The program of the manual that is not in Python, between two nodes: it knows the socket."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from node.api.stream_programs import LocalNodes, connect
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from gmesh.client.stream_frames import FrameKind, data_head

PROGRAM = Path(__file__).resolve().parents[3] / "docs/examples/stream.pl"
PERL = shutil.which("perl")

pytestmark = pytest.mark.skipif(PERL is None, reason="there is no perl on this host")


@pytest_twisted.async_yield_fixture
async def nodes(tmp_path: Path) -> AsyncIterator[LocalNodes]:
    """Nodes a and b, and their sockets."""
    made = LocalNodes(tmp_path)
    await made.start()
    yield made
    await made.close()


def run(sent: bytes, *arguments: str) -> Deferred[subprocess.CompletedProcess[bytes]]:
    """What the program prints, and how it ends."""
    assert PERL is not None
    command = [PERL, "-w", str(PROGRAM), *arguments]
    return deferToThread(subprocess.run, command, input=sent, capture_output=True, timeout=180, check=False)


@pytest_twisted.ensureDeferred
async def test_one_dials_and_one_serves(nodes: LocalNodes) -> None:
    """Megabytes both ways, each to its end, and both know that all arrived."""
    question, answer = bytes(range(256)) * 16384, bytes(range(255, -1, -1)) * 8192
    nodes.b.hold(600, 300)
    both = [
        run(answer, nodes.path(nodes.b), "accept", "web"),
        run(question, nodes.path(nodes.a), "connect", "b", "web"),
    ]
    served, dialled = await gatherResults(both)
    assert (served.returncode, served.stderr) == (0, b"")
    assert (dialled.returncode, dialled.stderr) == (0, b"")
    assert served.stdout == question
    assert dialled.stdout == answer


@pytest_twisted.ensureDeferred
async def test_it_ends_badly_when_the_stream_breaks(nodes: LocalNodes) -> None:
    """Though its own half has ended."""
    served = run(b"", nodes.path(nodes.b), "accept", "web")
    nodes.b.hold(600, 300)
    near = await nodes.program(nodes.a, connect("b"))
    await nodes.until(lambda: near.heads)
    near.transport.write(data_head(4) + b"half")
    await nodes.until(lambda: FrameKind.FIN in near.kinds)
    near.transport.loseConnection()
    ended = await served
    assert ended.stdout == b"half"
    assert ended.returncode != 0
    assert ended.stderr.startswith(b"broken (7): ")


@pytest_twisted.ensureDeferred
async def test_it_says_why_it_was_refused(nodes: LocalNodes) -> None:
    """With the problem document."""
    ended = await run(b"", nodes.path(nodes.a), "connect", "nobody", "web")
    assert ended.returncode != 0
    assert ended.stderr.startswith(b"404: ")
    assert b"urn:gmesh:problem:unknown-node" in ended.stderr
