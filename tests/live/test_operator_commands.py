# SPDX-License-Identifier: MIT
"""Operators' commands from the command line to real daemons: over an anchor, with receipts, to the end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live

OPERATOR = ("admin", "--operator", "net/operator")


#: Seconds: five for the receipts, and the command line's own; a loaded machine may take any time.
RECEIPTS = 10


@pytest.mark.parametrize("bound", [math.inf, pytest.param(RECEIPTS, marks=pytest.mark.soak)])
def test_commands_and_their_receipts(
    gmesh: Callable[..., Any],
    start: Callable[..., Any],
    free_port: Callable[[], int],
    tmp_path: Path,
    bound: float,
) -> None:
    """L11: all targets answer (within seconds), a bad argument is refused, shutdown stops the process."""
    http, mesh = free_port(), free_port()
    url = f"http://127.0.0.1:{http}"
    gmesh("init", "net", "--network", "lab", "--authority-url", url, "--anchor", f"a=127.0.0.1:{mesh}")
    listen = f"tcp:{http}:interface=127.0.0.1"
    start("gmesh-authority", "--state", tmp_path / "net/authority", "--listen", listen).wait_for("ready")
    for name, role in (("a", "anchor"), ("b", "client")):
        made = gmesh(*OPERATOR, "invite", "--name", name, "--role", role)
        gmesh("join", made.stdout.strip(), "--state", name)
    a = start("gmesh-node", "--state", tmp_path / "a", "--listen", f"tcp:{mesh}:interface=127.0.0.1")
    b = start("gmesh-node", "--state", tmp_path / "b")
    b.wait_for("Link to a at .* is up")
    begun = time.monotonic()
    told = json.loads(gmesh(*OPERATOR, "command", "reload", "--all", "--wait", "--json").stdout)
    took = time.monotonic() - begun
    assert {node["name"]: (node["state"], node["detail"]) for node in told["nodes"]} == {
        "a": ("done", "reloaded"),
        "b": ("done", "reloaded"),
    }
    assert took < bound
    a.wait_for("reload: reading")
    bad = gmesh(*OPERATOR, "command", "log-level", "level=loud", "--node", "b", "--wait", check=False)
    assert bad.returncode == 1
    assert "level must be one of debug, info, warn, error, critical" in bad.stderr
    done = gmesh(*OPERATOR, "command", "shutdown", "--node", "b", "--wait")
    assert "stopping" in done.stdout
    assert b.wait() == 0
    some = gmesh(*OPERATOR, "command", "reload", "--all", "--wait", "--timeout", "15s", check=False)
    rows = [line.split() for line in some.stdout.splitlines()[2:]]
    assert [(row[0], row[1]) for row in rows] == [("a", "done"), ("b", "no-answer")]
    assert (some.returncode, some.stderr) == (1, "gmesh: not every node has done it: 1 no answer\n")
