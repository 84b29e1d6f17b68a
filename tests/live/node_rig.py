# SPDX-License-Identifier: MIT
"""What tests of real nodes share: their local API, and waiting for what they come to say there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gmesh.testing.patience import ProcessPatience
from gmesh.testing.processes import LocalConnection

LISTEN = "tcp:0:interface=127.0.0.1"
ANSWER = 60.0
#: Seconds; what two nodes lost on the way between them is made good after 300 s (RESYNC_INTERVAL).
PATIENCE = 400.0


def ask(state: Path, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = LocalConnection(state / "node.sock")
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def until(condition: Callable[[], bool], told: Callable[[], str] = str) -> None:
    """
    Ask again until it is so; every question is answered by a daemon that has other things to do.

    @param told: what is told when it never becomes so.
    """
    patience = ProcessPatience(PATIENCE)
    while not condition():
        assert patience.lasts(), f"it never became so {told()}"
        time.sleep(0.05)


def until_time(moment: float) -> None:
    """Wait for a moment of Unix time that something in a document begins with."""
    until(lambda: time.time() > moment)


def listening_port(daemon: Any) -> int:
    line = daemon.wait_for(r"listening on tcp:\d+")
    return int(daemon.log.splitlines()[line - 1].rpartition(":")[2])
