# SPDX-License-Identifier: MIT
"""
The nodes of the demonstration as the programs on them see them: over the local API of each.

Tests: C{tests/live/test_demo.py}.
"""

from __future__ import annotations

import base64
import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

from gmesh.cli.demo_daemons import WAIT_SECONDS, DaemonFailed
from gmesh.cli.http import Endpoint, HttpRefused, Unreachable

__all__ = ["Nodes", "answers", "next_message"]

SERVICE = "demo"
SEND_SECONDS = 20.0


class Nodes:
    """
    All nodes, by name.

    @param nodes: where the local API of each is.
    """

    def __init__(self, nodes: dict[str, Endpoint]) -> None:
        self.nodes = nodes

    def send(self, source: str, target: str, text: str) -> Any:
        """As C{gmesh send}. @return: the round trip in milliseconds."""
        body = {
            "node": target,
            "service": SERVICE,
            "data": base64.b64encode(text.encode()).decode(),
            "timeout": SEND_SECONDS,
        }
        return self.nodes[source].request_json("POST", "/v1/send", body)["rtt_ms"]

    @contextlib.contextmanager
    def receiver(self, name: str) -> Iterator[queue.Queue[dict[str, Any]]]:
        """As C{gmesh receive}, in a thread of its own; entered once the node has taken it in."""
        inbox: queue.Queue[dict[str, Any]] = queue.Queue()
        with self.nodes[name].stream(f"/v1/receive?service={SERVICE}", WAIT_SECONDS) as messages:
            reader = threading.Thread(target=lambda: inbox.put(next(messages)), daemon=True)
            reader.start()
            yield inbox
            reader.join(WAIT_SECONDS)

    def path(self, source: str, target: str) -> list[str]:
        """The path that a node would take now, or nothing."""
        for route in self.nodes[source].request_json("GET", "/v1/routes"):
            if route["name"] == target:
                return list(route["path"])
        return []

    def peers(self, name: str) -> set[str]:
        """The neighbours of a node."""
        return {peer["name"] for peer in self.nodes[name].request_json("GET", "/v1/peers")}

    def transits(self, name: str) -> list[dict[str, Any]]:
        """The paths that pass through a node, by its own account."""
        transits: list[dict[str, Any]] = self.nodes[name].request_json("GET", "/v1/transits")
        if not transits:
            raise DaemonFailed("no-transit", f"{name} passed nothing on: the messages took another path")
        return transits


def answers(endpoint: Endpoint, path: str) -> bool:
    """True if a daemon there answers well."""
    try:
        endpoint.request("GET", path)
    except (Unreachable, HttpRefused):
        return False
    return True


def next_message(inbox: queue.Queue[dict[str, Any]], what: str) -> dict[str, Any]:
    """
    The next message of an inbox.

    @param what: completes "waited in vain until ...".
    """
    try:
        return inbox.get(timeout=WAIT_SECONDS)
    except queue.Empty:
        raise DaemonFailed("timeout", f"waited in vain until {what}") from None
