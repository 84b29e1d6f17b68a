# SPDX-License-Identifier: MIT
"""What tests of real nodes share: their local API, and waiting for what they come to say there."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LISTEN = "tcp:0:interface=127.0.0.1"


class LocalConnection(http.client.HTTPConnection):
    """HTTP over the node's unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


def ask(state: Path, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = LocalConnection(state / "node.sock")
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Ask again until it is so; every question is answered by a daemon that has other things to do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never became so"
        time.sleep(0.05)


def listening_port(daemon: Any) -> int:
    line = daemon.wait_for(r"listening on tcp:\d+")
    return int(daemon.log.splitlines()[line - 1].rpartition(":")[2])
