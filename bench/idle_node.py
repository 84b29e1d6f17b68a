# SPDX-License-Identifier: MIT
"""An idle node as shipped: the whole daemon in a process of its own, and the memory it holds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import SystemRandom

from bench.harness import HERE
from gmesh.testing.issuer import Issuer

__all__ = ["TWISTD", "enrol", "idle_node_rss", "lone_issuer"]

DEADLINE = 30.0
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]


def lone_issuer() -> Issuer:
    """An authority that nobody reaches."""
    return Issuer(time.time, SystemRandom(), [], ["http://127.0.0.1:9"])


def enrol(issuer: Issuer, name: str, role: str, state: Path) -> None:
    """Make the state directory of a new node."""
    state.mkdir(exist_ok=True)
    node = issuer.enrol(name, role)
    for file, key in (("identity.key", node.node_key), ("noise.key", node.noise_key)):
        (state / file).write_bytes(key.to_pem())
        (state / file).chmod(0o600)
    (state / "genesis.json").write_bytes(issuer.genesis.encode())
    (state / "certificate.json").write_bytes(node.certificate.encode())
    for document in issuer.documents:
        (state / f"{document.type}.json").write_bytes(document.encode())


def _rss(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


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
    KiB of C{twistd gmesh-node} a moment after it started, its authority away, and after the first
    question to its local API, which loads what answers.
    """
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        enrol(lone_issuer(), "idle", "relay", state)
        listen = ["--state", directory, "--listen", "tcp:0:interface=127.0.0.1"]
        node = subprocess.Popen(
            [*TWISTD, "gmesh-node", *listen],
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": str(HERE)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + DEADLINE
            while not (state / "node.sock").exists():
                if time.monotonic() > until or node.poll() is not None:
                    raise RuntimeError("the idle node did not start")
                time.sleep(0.1)
            time.sleep(2.0)
            idle = _rss(node.pid)
            _ask(state / "node.sock")
            return idle, _rss(node.pid)
        finally:
            node.terminate()
            node.wait()
