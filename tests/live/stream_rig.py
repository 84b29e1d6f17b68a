# SPDX-License-Identifier: MIT
"""Three nodes in a row, as daemons, for programs that use streams from one end to the other."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from daemon.held_ports import free_port

from gmesh.testing.processes import ProcessMesh

__all__ = ["DEADLINE", "LOOPBACK", "Row", "free_port", "gmesh", "needs", "serving", "sshd"]

DEADLINE = 180
LOOPBACK = "127.0.0.1"


def needs(program: str) -> str:
    """Where this program is; skips the test, aloud, where it is missing."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"there is no {program} on this host")
    return path


def gmesh(state: Path, *arguments: str) -> list[str]:
    """The command line of the node with this state directory."""
    return [sys.executable, "-m", "gmesh.cli.main", *arguments, "--state", str(state)]


class Row:
    """
    Nodes a, b and c: what a and c say to each other passes b.

    @param near: what a is called.
    @param far: what c is called.
    """

    def __init__(self, directory: Path, port: int, near: str = "a", far: str = "c") -> None:
        self.directory = directory
        self.near, self.far = near, far
        self.mesh = ProcessMesh(directory)
        peer = ["--peer", f"{LOOPBACK}:{port}"]
        self.mesh.add("b", "anchor", arguments=["--listen", f"tcp:{port}:interface={LOOPBACK}"])
        self.files = {name: directory / f"{name}.toml" for name in (near, far)}
        for name, file in self.files.items():
            file.write_text("")
            self.mesh.add(name, "client", arguments=[*peer, "--config", str(file)])

    def start(self) -> None:
        """Start all three, and wait until a reaches c."""
        for node in self.mesh.nodes.values():
            node.start()
        near, far = self.mesh[self.near], self.mesh[self.far]
        self.mesh.wait(lambda: near.reaches(self.far) and far.reaches(self.near))

    def configure(self, name: str, text: str) -> None:
        """Give the file of a node another text, and have the daemon read it."""
        self.files[name].write_text(text)
        before = self.mesh[name].log.read_bytes().count(b"reload: reading")
        process = self.mesh[name]._process
        assert process is not None
        process.send_signal(signal.SIGHUP)
        self.mesh.wait(lambda: self.mesh[name].log.read_bytes().count(b"reload: reading") > before)

    def state(self, name: str) -> Path:
        """The state directory of a node."""
        return self.mesh[name].state

    def exposed(self, *services: str) -> None:
        """Wait until the far node exposes these."""
        far = self.mesh[self.far]
        self.mesh.wait(lambda: {row["service"] for row in far.ask("GET", "/v1/exposures")} == {*services})

    def run(self, *arguments: str, sent: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end."""
        return subprocess.run(
            arguments, input=sent, capture_output=True, timeout=DEADLINE, check=False, **options
        )


@contextmanager
def sshd(directory: Path, more: str = "") -> Iterator[tuple[int, Path]]:
    """
    An sshd on loopback, with a new key for whoever runs this.

    @param more: lines of its configuration.
    @return: its port, and the file of the key.
    """
    server, port = needs("sshd"), free_port()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as the service of Debian's package makes it
    directory.mkdir()
    for name in ("host", "user"):
        keygen = [needs("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(keygen, check=True, timeout=DEADLINE)
    (directory / "sshd_config").write_text(
        f"Port {port}\nListenAddress {LOOPBACK}\nHostKey {directory}/host\nPidFile none\nStrictModes no\n"
        f"AuthorizedKeysFile {directory}/user.pub\nUsePAM no\nPermitRootLogin yes\n{more}\n"
    )
    command = [server, "-D", "-e", "-f", str(directory / "sshd_config")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        line = daemon.stderr.readline()
        if "Server listening" not in line:
            pytest.skip(f"sshd does not start here: {line.strip()}")
        reading = threading.Thread(target=daemon.stderr.read, daemon=True)
        reading.start()
        try:
            yield port, directory / "user"
        finally:
            daemon.terminate()
            daemon.wait(DEADLINE)
            reading.join(DEADLINE)


@contextmanager
def serving(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port of loopback, on which each connection is answered in a thread of its own."""
    with socket.create_server((LOOPBACK, 0)) as listening:

        def take(connection: socket.socket) -> None:
            with connection, suppress(ConnectionError):
                answer(connection)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=take, args=[connection], daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE)
