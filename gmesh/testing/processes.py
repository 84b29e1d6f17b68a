# SPDX-License-Identifier: MIT
"""
A mesh of real C{twistd} processes without an authority: what no simulation shows, for a handful of nodes.

The state directories are made here, by the keys of an L{Issuer}; nodes are spoken to over their own
sockets. A node may run behind any command, such as C{ip netns exec NAME}.
Tests: C{tests/live/test_ring.py}, C{tests/live/test_application.py}.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gmesh.testing.issuer import Issuer
from gmesh.testing.patience import Patience
from gmesh.testing.twistd import start_twistd, twistd

__all__ = ["LocalConnection", "ProcessMesh", "ProcessNode"]

POLL = 0.05
ANSWER_DEADLINE = 180.0
STOP_DEADLINE = 300.0


class LocalConnection(http.client.HTTPConnection):
    """HTTP over the unix socket of a node."""

    def __init__(self, path: Path, timeout: float | None = ANSWER_DEADLINE) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class ProcessNode:
    """
    One daemon.

    @param arguments: of C{twistd gmesh-node}, the state directory excepted.
    @param behind: the command it runs behind.
    """

    def __init__(self, name: str, state: Path, arguments: Sequence[str], behind: Sequence[str]) -> None:
        self.name = name
        self.state = state
        self.log = state / "node.log"
        self._command = [*behind, *twistd()]
        self._arguments = ["gmesh-node", "--state", str(state), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        with self.log.open("ab") as log:
            self._process = start_twistd(self._arguments, self.state, log, command=self._command)

    def kill(self) -> None:
        """As by a power cut."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As by C{systemctl stop}: it asks its neighbours to route around it first."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def ask(self, method: str, path: str, body: Any = None, timeout: float = ANSWER_DEADLINE) -> Any:
        """
        One request of the local API.

        @return: the JSON of the answer.
        @raise OSError: if the node does not run.
        """
        connection = LocalConnection(self.state / "node.sock", timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def reaches(self, *names: str) -> bool:
        """Whether it has a path to each of these."""
        try:
            return {row["name"] for row in self.ask("GET", "/v1/routes")} >= set(names)
        except (OSError, http.client.HTTPException):
            return False

    def receive(self, service: str, receiver: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """
        Serve a service: C{receiver} is called in a thread with each message.

        @return: a function that ends it.
        """
        connection = LocalConnection(self.state / "node.sock", None)
        connection.request("GET", f"/v1/receive?service={service}")
        stream = connection.getresponse()

        def read() -> None:
            try:
                while line := stream.readline():
                    receiver(json.loads(line))
            except (OSError, ValueError):
                return

        thread = threading.Thread(target=read, daemon=True)
        thread.start()

        def end() -> None:
            if connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)
            thread.join(STOP_DEADLINE)
            stream.close()
            connection.close()

        return end


class ProcessMesh:
    """
    Daemons and their issuer.

    @param directory: an empty one for the state of all nodes.
    """

    def __init__(self, directory: Path) -> None:
        self.nodes: dict[str, ProcessNode] = {}
        self.issuer = Issuer.unreachable()
        self._directory = directory

    def __getitem__(self, name: str) -> ProcessNode:
        return self.nodes[name]

    def add(
        self, name: str, *roles: str, arguments: Sequence[str] = (), behind: Sequence[str] = ()
    ) -> ProcessNode:
        """Enrol a node; C{arguments}: C{--listen}, C{--peer}, ... of C{twistd gmesh-node}."""
        state = self._directory / name
        self.issuer.write_state(self.issuer.enrol(name, *(roles or ("relay",))), state)
        node = self.nodes[name] = ProcessNode(name, state, arguments, behind)
        return node

    def wait(self, condition: Callable[[], object], within: float = 180.0) -> float:
        """
        Ask again and again, in real time, until it is so.

        @param within: seconds, as of L{Patience}.
        @return: the seconds it took.
        @raise AssertionError: if it does not become so.
        """
        start, patience = time.monotonic(), Patience(within)
        while not condition():
            if not patience.lasts():
                raise AssertionError(f"not within {within} s")
            time.sleep(POLL)
        return time.monotonic() - start

    def stop(self) -> None:
        """End every daemon."""
        for node in self.nodes.values():
            node.stop()
