# SPDX-License-Identifier: MIT
"""The node daemon as shipped, as a child of a bench: C{twistd gmesh-node} that has said READY."""

from __future__ import annotations

import re
import socket
import tempfile
from pathlib import Path

from bench.children import HERE, Child, ChildDied, watch
from gmesh.testing.issuer import Issuer
from gmesh.testing.twistd import twistd

__all__ = ["Daemon", "idle_node_rss"]

DEADLINE = 30.0
"""Seconds from the start of a daemon to READY."""


class Daemon(Child):
    """
    One node.

    @param state: its state directory.
    @param peers: the ports on this host that it dials.
    @ivar port: where it listens.
    @ivar start: CPU seconds it took to READY.
    @raise ChildDied: if it ends instead of saying READY, or says nothing for too long.
    """

    def __init__(self, state: Path, *peers: int) -> None:
        self.log, notify = state / "log", state / "notify"
        notify.unlink(missing_ok=True)
        listen = ["--state", str(state), "--listen", "tcp:0:interface=127.0.0.1"]
        dialled = [word for port in peers for word in ("--peer", f"127.0.0.1:{port}")]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, self.log.open("wb") as output:
            manager.bind(str(notify))
            super().__init__(
                f"gmesh-node {state.name}",
                [*twistd(), "gmesh-node", *listen, *dialled],
                {"PYTHONPATH": str(HERE), "NOTIFY_SOCKET": str(notify)},
                output.fileno(),
            )
            try:
                if not watch(manager.fileno(), DEADLINE) or manager.recv(100) != b"READY=1":
                    raise ChildDied(f"{self.name} was not ready within {DEADLINE:g} s\n{self.last_words()}")
                self.start = self.cpu()
                found = re.search(r"listening on tcp:(\d+)", self.log.read_text())
                assert found is not None
                self.port = int(found[1])
            except BaseException:
                self.close()
                raise

    def last_words(self) -> str:
        """The end of its log, and what it wrote to standard error."""
        return self.log.read_text() + self.errors()

    def ask_to_end(self) -> None:
        """As systemd does."""
        super().ask_to_end()
        self.child.terminate()


def _ask(path: Path) -> None:
    """One question to the local API."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as local:
        local.connect(str(path))
        local.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: local.recv(65536), b""))
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the idle node answered {answer[:80]!r}")


def idle_node_rss() -> tuple[int, int]:
    """
    KiB of a node a moment after it started, its authority away, and after the first question to its
    local API, which loads what answers.
    """
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory) / "idle"
        issuer = Issuer.unreachable()
        issuer.write_state(issuer.enrol("idle", "relay"), state)
        with Daemon(state) as node:
            watch(seconds=2.0)
            idle = node.rss_kib()
            _ask(state / "node.sock")
            return idle, node.rss_kib()
