# SPDX-License-Identifier: MIT
"""SIGUSR1 at real daemons, as a logrotate script sends it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority.state_files import Keys, write_state
from live.node_rig import LISTEN, ask, until

from gmesh.testing.twistd import twistd

pytestmark = pytest.mark.live

Start = Callable[..., Any]
FORMATS = [(), ("--log-format", "json")]


def rotate(start: Start, log: Path, arguments: tuple[object, ...], reload: str) -> None:
    """Turn the log of a daemon over by the signal alone, then as logrotate does, and see it write on."""

    def lines(path: Path, wanted: str) -> Callable[[], bool]:
        return lambda: runs() and path.exists() and wanted in path.read_text()

    def runs() -> bool:
        assert daemon.process.poll() is None, f"it ended with {daemon.process.poll()}"
        return True

    daemon = start(*arguments, program=(*twistd(), "--logfile", str(log)))
    until(lines(log, "listening on"))
    daemon.signal(signal.SIGUSR1)
    first = log.with_name("log.1")
    until(lambda: runs() and first.exists() and log.exists())
    daemon.signal(signal.SIGHUP)
    until(lines(log, reload))
    os.rename(log, log.with_name("rotated"))
    daemon.signal(signal.SIGUSR1)
    until(lambda: runs() and log.exists())
    daemon.signal(signal.SIGHUP)
    until(lines(log, reload))
    daemon.stop()
    assert "listening on" in first.read_text()
    for path in (first, log.with_name("rotated"), log):
        told = path.read_text().splitlines()
        assert told and ("json" not in arguments or all(json.loads(line) for line in told))


@pytest.mark.parametrize("log_format", FORMATS)
def test_d10_the_log_of_a_node_is_turned_over(
    start: Start, enrol: Callable[..., Path], tmp_path: Path, log_format: tuple[str, ...]
) -> None:
    """In its own format and in twistd's; the node goes on."""
    arguments = ("gmesh-node", "--state", enrol("a", "anchor"), "--listen", LISTEN, *log_format)
    rotate(start, tmp_path / "log", arguments, "reload: reading")


@pytest.mark.parametrize("log_format", FORMATS)
def test_d10_the_log_of_an_authority_is_turned_over(
    start: Start, tmp_path: Path, log_format: tuple[str, ...]
) -> None:
    """In its own format and in twistd's; the authority goes on."""
    write_state(tmp_path / "authority", Keys(), int(time.time()))
    arguments = ("gmesh-authority", "--state", tmp_path / "authority", "--listen", LISTEN, *log_format)
    rotate(start, tmp_path / "log", arguments, "reloaded: ")


def test_d10_a_daemon_without_a_log_file(start: Start, enrol: Callable[..., Path]) -> None:
    """There is nothing to turn over, and nothing ends."""
    state = enrol("a", "anchor")
    daemon = start("gmesh-node", "--state", state, "--listen", LISTEN)
    seen = daemon.wait_for("local API on")
    assert ask(state, "GET", "/v1/status")[0] == 200
    daemon.signal(signal.SIGUSR1)
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("reload: reading", after=seen)
