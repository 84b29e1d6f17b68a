# SPDX-License-Identifier: MIT
"""The programs of the manual that know nothing but the page of the frames: in C, and in Python by hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_twisted
from client.message_daemon import MessageDaemon
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
DEADLINE = 180


@pytest.fixture(params=["c", "python"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The command line that begins it; compiled without a warning."""
    if request.param == "python":
        return [sys.executable, "-I", str(EXAMPLES / "messages_by_hand.py")]
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler on this host")
    binary = tmp_path / "messages"
    strict = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]
    command = [compiler, *strict, "-o", str(binary), str(EXAMPLES / "messages.c")]
    subprocess.run(command, check=True, timeout=DEADLINE)
    return [str(binary)]


@pytest_twisted.async_yield_fixture
async def daemon(tmp_path: Path) -> AsyncIterator[MessageDaemon]:
    made = MessageDaemon(reactor, str(tmp_path / "node.sock"))
    await made.start()
    yield made
    await until(lambda: not any(leg.transport.connected for leg in made.legs))
    await made.stop()


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await deferLater(reactor, 0.001)  # type: ignore[arg-type]  # the module stands for the reactor


def run(program: list[str], path: str, *words: str) -> Deferred[subprocess.CompletedProcess[str]]:
    command = [*program, path, *words]
    return deferToThread(
        subprocess.run, command, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


@pytest_twisted.ensureDeferred
async def test_it_serves_and_sends(daemon: MessageDaemon, program: list[str]) -> None:
    """What one sends the other prints, and answers."""
    server = subprocess.Popen([*program, daemon.path, "serve", "readings"], stdout=subprocess.PIPE, text=True)
    try:
        await until(lambda: "readings" in daemon.datagrams.services.names)
        for words, answer in [("21.5", "4 bytes\n"), ("x" * 10_000, "10000 bytes\n"), ("", "0 bytes\n")]:
            sent = await run(program, daemon.path, "send", "here", "readings", words)
            assert (sent.returncode, sent.stdout, sent.stderr) == (0, answer, "")
        assert server.stdout is not None
        assert server.stdout.readline() == "here: 21.5\n"
    finally:
        server.kill()
        server.communicate(timeout=DEADLINE)


@pytest_twisted.ensureDeferred
async def test_it_says_why_it_was_refused(daemon: MessageDaemon, program: list[str]) -> None:
    """With slug and detail."""
    refused = await run(program, daemon.path, "send", "nobody", "readings", "x")
    assert refused.returncode == 1
    assert refused.stderr.strip() == "unknown-node: no node called nobody is known here"
    refused = await run(program, daemon.path, "serve", "_echo")
    assert refused.returncode == 1 and refused.stderr.startswith("bad-service: ")
