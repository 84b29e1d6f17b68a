# SPDX-License-Identifier: MIT
"""Programs that send and receive through real daemons, and what 200 is worth when one of them dies."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gmesh.cli.demo_ports import Ports
from gmesh.client import BlockingMesh
from gmesh.testing.processes import LocalConnection, ProcessMesh

pytestmark = pytest.mark.live

PROGRAM = Path(__file__).with_name("receiving_program.py")


class Receiver:
    """The receiving program, as often as it is started."""

    def __init__(self, mesh: ProcessMesh, tmp_path: Path, service: str) -> None:
        self.socket = mesh["boiler"].state / "node.sock"
        self.service = service
        self.record = tmp_path / f"{service}.dealt-with"
        self.record.touch()
        self.process: subprocess.Popen[str] | None = None

    def start(self, seconds: float) -> None:
        """Until it receives."""
        command = [
            sys.executable,
            str(PROGRAM),
            str(self.socket),
            self.service,
            str(self.record),
            str(seconds),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "receiving\n"

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """By a signal, which is over then; only SIGSTOP leaves it there."""
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)
        else:
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()

    @property
    def dealt_with(self) -> list[str]:
        return self.record.read_text(encoding="ascii").splitlines()


class Senders:
    """Programs that send one message after the other, each with a number of its own, until told to end."""

    def __init__(self, mesh: ProcessMesh, service: str, count: int, timeout: float) -> None:
        self.socket = mesh["gauge"].state / "node.sock"
        self.service = service
        self.timeout = timeout
        self.numbers = itertools.count()
        self.answers: dict[str, tuple[int, str]] = {}
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._send, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _send(self) -> None:
        connection = LocalConnection(self.socket, self.timeout + 60)
        while not self.over.is_set():
            text = str(next(self.numbers))
            self.answers[text] = send(connection, self.service, text.encode(), self.timeout)
        connection.close()

    def end(self) -> None:
        """No further message; wait for the answers."""
        self.over.set()
        for thread in self.threads:
            thread.join()

    def with_status(self, status: int) -> set[str]:
        return {text for text, (found, _) in self.answers.items() if found == status}


def send(
    connection: http.client.HTTPConnection, service: str, data: bytes, timeout: float = 10.0
) -> tuple[int, str]:
    """Status and slug of the answer, if there is one."""
    body = {"node": "boiler", "service": service, "timeout": timeout, "data": base64.b64encode(data).decode()}
    connection.request("POST", "/v1/send", json.dumps(body))
    answer = connection.getresponse()
    value: dict[str, Any] = json.loads(answer.read())
    return answer.status, str(value.get("type", "")).removeprefix("urn:gmesh:problem:")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessMesh]:
    """Two nodes with a link."""
    with Ports() as ports:
        yield from _two_nodes(tmp_path_factory.mktemp("nodes"), ports())


def _two_nodes(directory: Path, port: int) -> Iterator[ProcessMesh]:
    mesh = ProcessMesh(directory)
    mesh.add("boiler", "anchor", arguments=["--listen", f"tcp:{port}:interface=127.0.0.1"])
    mesh.add("gauge", "client", arguments=["--peer", f"127.0.0.1:{port}"])
    try:
        for node in mesh.nodes.values():
            node.start()
        mesh.wait(lambda: mesh["gauge"].reaches("boiler"))
        yield mesh
    finally:
        mesh.stop()


@pytest.fixture
def receiver(mesh: ProcessMesh, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """Of a service of the test's own."""
    made = Receiver(mesh, tmp_path, re.sub("[^a-z]", "", request.node.name)[-20:])
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_killed_program_had_not_dealt_with_is_not_acknowledged(
    mesh: ProcessMesh, receiver: Receiver, how: signal.Signals
) -> None:
    """20 ms a message, killed or stopped and killed in the middle: every 200 is a line in its record."""
    receiver.start(0.02)
    senders = Senders(mesh, receiver.service, 8, 4.0)
    mesh.wait(lambda: len(senders.with_status(200)) >= 20)
    receiver.end(how)
    if how == signal.SIGSTOP:
        before = len(senders.with_status(200))
        mesh.wait(lambda: senders.with_status(504))
        assert len(senders.with_status(200)) <= before + 8
        receiver.end()
    senders.end()
    dealt_with = receiver.dealt_with
    assert senders.with_status(200) <= set(dealt_with)
    others = {slug for status, slug in senders.answers.values() if status != 200}
    assert others <= {"timed-out", "receiver-gone", "no-such-service"}
    assert len(senders.with_status(200)) >= 20


def test_a_program_that_restarts_loses_nothing_and_its_senders_wait(
    mesh: ProcessMesh, receiver: Receiver
) -> None:
    """Killed in the middle and started again: all are 200, each dealt with, what it had perhaps twice."""
    receiver.start(0.01)
    senders = Senders(mesh, receiver.service, 8, 60.0)
    mesh.wait(lambda: len(senders.with_status(200)) >= 20)
    receiver.end()
    receiver.start(0.0)
    mesh.wait(lambda: len(senders.with_status(200)) >= 100)
    senders.end()
    assert {status for status, _ in senders.answers.values()} == {200}
    assert senders.with_status(200) == set(receiver.dealt_with)
    assert len(receiver.dealt_with) <= len(senders.answers) + 8


def test_a_slow_program_makes_its_senders_wait(mesh: ProcessMesh, receiver: Receiver) -> None:
    """Forty at once to one that takes 20 ms: nobody is refused."""
    receiver.start(0.02)
    senders = Senders(mesh, receiver.service, 40, 60.0)
    mesh.wait(lambda: len(senders.with_status(200)) >= 100)
    senders.end()
    assert {status for status, _ in senders.answers.values()} == {200}
    assert sorted(receiver.dealt_with, key=int) == sorted(senders.answers, key=int)


def test_a_receiving_node_that_is_killed_acknowledges_nothing_it_lost(
    mesh: ProcessMesh, receiver: Receiver
) -> None:
    """Daemon and program die, and come back: every 200 was dealt with."""
    receiver.start(0.01)
    senders = Senders(mesh, receiver.service, 8, 60.0)
    mesh.wait(lambda: len(senders.with_status(200)) >= 20)
    mesh["boiler"].kill()
    receiver.end()
    mesh["boiler"].start()
    mesh.wait(lambda: mesh["boiler"].reaches("gauge"))
    receiver.start(0.0)
    before = len(senders.with_status(200))
    mesh.wait(lambda: len(senders.with_status(200)) >= before + 50)
    senders.end()
    assert senders.with_status(200) <= set(receiver.dealt_with)


def test_a_caller_that_hangs_up_is_a_number(mesh: ProcessMesh, receiver: Receiver) -> None:
    """No traceback in the log of its node."""
    receiver.start(30.0)
    gauge = mesh["gauge"]

    def counted(node: str, cause: str) -> int:
        return int(mesh[node].ask("GET", "/v1/status")["counters"].get(cause, 0))

    before, handed = counted("gauge", "caller-gone"), counted("boiler", "handed")
    for number in range(1, 4):
        connection = LocalConnection(gauge.state / "node.sock")
        body = {"node": "boiler", "service": receiver.service, "data": "", "timeout": 60.0}
        connection.request("POST", "/v1/send", json.dumps(body))
        mesh.wait(lambda number=number: counted("boiler", "handed") >= handed + number)
        connection.close()
    mesh.wait(lambda: counted("gauge", "caller-gone") == before + 3)
    assert "Traceback" not in gauge.log.read_text()


def test_scripts_in_frames(mesh: ProcessMesh) -> None:
    """Two scripts over the frames of messages: a question, its answer, who is there."""
    got: list[tuple[str, bytes]] = []

    def serve() -> None:
        with BlockingMesh(str(mesh["boiler"].state / "node.sock")) as boiler:
            for message in itertools.islice(boiler.receive("frames"), 100):
                got.append((message.source, message.data))
                message.done(message.data[::-1])
            boiler.nodes()  # the last acknowledgement is read

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    with BlockingMesh(str(mesh["gauge"].state / "node.sock")) as gauge:
        mesh.wait(lambda: any(row["service"] == "frames" for row in gauge.services()))
        sent = [b"%d" % number for number in range(100, 200)]
        assert [gauge.request("boiler", "frames", data) for data in sent] == [data[::-1] for data in sent]
    serving.join()
    assert got == [("gauge", data) for data in sent]


def test_a_message_of_a_mebibyte_is_too_large(mesh: ProcessMesh) -> None:
    """413, and the connection goes on."""
    connection = LocalConnection(mesh["gauge"].state / "node.sock")
    assert send(connection, "log", bytes(1024 * 1024)) == (413, "too-large")
    assert send(connection, "nothing", b"")[0] == 404
    connection.close()
