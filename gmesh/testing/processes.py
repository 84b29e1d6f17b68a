# SPDX-License-Identifier: MIT
"""
A mesh of real C{twistd} processes without an authority: what no simulation shows, for a handful of nodes.

The state directories are made here, by the keys of an L{Issuer}; nodes are spoken to over their own
sockets. A node may run behind any command, such as C{ip netns exec NAME}.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Any

from gmesh.testing.issuer import Issuer

__all__ = ["ProcessMesh", "ProcessNode"]

TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
POLL = 0.05
ANSWER_DEADLINE = 60.0
STOP_DEADLINE = 60.0


class _Local(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float | None) -> None:
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
        self._arguments = (*behind, *TWISTD, "gmesh-node", "--state", str(state), *arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments, cwd=self.state, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

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
        connection = _Local(self.state / "node.sock", timeout)
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
        connection = _Local(self.state / "node.sock", None)
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
        self.issuer = Issuer(time.time, SystemRandom(), [], ["http://127.0.0.1:9"])
        self._directory = directory

    def __getitem__(self, name: str) -> ProcessNode:
        return self.nodes[name]

    def add(
        self, name: str, *roles: str, arguments: Sequence[str] = (), behind: Sequence[str] = ()
    ) -> ProcessNode:
        """Enrol a node; C{arguments}: C{--listen}, C{--peer}, ... of C{twistd gmesh-node}."""
        enrolled = self.issuer.enrol(name, *(roles or ("relay",)))
        state = self._directory / name
        state.mkdir(mode=0o700)
        for file, key in (("identity.key", enrolled.node_key), ("noise.key", enrolled.noise_key)):
            descriptor = os.open(state / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as handle:
                handle.write(key.to_pem())
        documents = {"genesis": self.issuer.genesis, "certificate": enrolled.certificate}
        documents |= {document.type: document for document in self.issuer.documents}
        for kind, document in documents.items():
            (state / f"{kind}.json").write_bytes(document.encode())
        node = self.nodes[name] = ProcessNode(name, state, arguments, behind)
        return node

    def wait(self, condition: Callable[[], object], within: float = 180.0) -> float:
        """
        Ask again and again, in real time, until it is so.

        @return: the seconds it took.
        @raise AssertionError: if it does not become so.
        """
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > within:
                raise AssertionError(f"not within {within} s")
            time.sleep(POLL)
        return time.monotonic() - start

    def stop(self) -> None:
        """End every daemon."""
        for node in self.nodes.values():
            node.stop()
