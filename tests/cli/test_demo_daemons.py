# SPDX-License-Identifier: MIT
"""The demonstration's daemons: real processes, waited for, told of in one line, and always stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gmesh.cli import demo_daemons
from gmesh.cli.demo_daemons import DaemonFailed, Daemons
from gmesh.testing import twistd


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    """No daemon yet; all are stopped afterwards."""
    daemons = Daemons(tmp_path)
    yield daemons
    daemons.stop()


def test_daemon_that_ends(daemons: Daemons) -> None:
    """A daemon that ends by itself is told with its name and last line."""
    daemons.start("authority", "gmesh-nonsense")
    with pytest.raises(DaemonFailed, match=r"^authority ended by itself: .*gmesh-nonsense"):
        daemons.wait_until("it answers", lambda: False)


def test_wait_in_vain(daemons: Daemons) -> None:
    """What does not become so in time is told."""
    with pytest.raises(DaemonFailed, match="waited 0 s in vain until pigs fly"):
        daemons.wait_until("pigs fly", lambda: False, 0.0)


def test_a_port_is_kept_for_its_daemon(daemons: Daemons) -> None:
    """Before it listens nobody is answered there; it can listen there; each has another one."""
    port = daemons.port()
    assert daemons.port() != port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 60)
    with socket.create_server(("127.0.0.1", port)):
        socket.create_connection(("127.0.0.1", port), 60).close()


@pytest.mark.parametrize("deaf", [False, True])
def test_all_are_stopped(daemons: Daemons, monkeypatch: pytest.MonkeyPatch, deaf: bool) -> None:
    """SIGTERM stops a daemon; one that does not hear it is killed."""
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if deaf else ""
    code = f"{ignore}open('up', 'w').close(); import time; time.sleep(60)"
    monkeypatch.setattr(twistd, "RUN_TWISTD", code)
    monkeypatch.setattr(demo_daemons, "STOP_SECONDS", 0.2 if deaf else 60.0)
    daemon = daemons.start("node")
    daemons.wait_until("it is up", (daemon.log.parent / "up").exists)
    daemons.stop()
    assert daemon.process.returncode == (-9 if deaf else -15)


def test_interrupted_in_the_middle_of_a_start(daemons: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal between a daemon's start and its listing still ends the demonstration, and the daemon."""
    started = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> Any:
        process = started(*arguments, **options)
        os.kill(os.getpid(), signal.SIGUSR1)
        return process

    before = signal.signal(signal.SIGUSR1, lambda number, frame: daemons.interrupt())
    try:
        monkeypatch.setattr(twistd, "RUN_TWISTD", "import time; time.sleep(60)")
        monkeypatch.setattr(subprocess, "Popen", popen)
        with pytest.raises(KeyboardInterrupt):
            daemons.start("node")
    finally:
        signal.signal(signal.SIGUSR1, before)
    daemons.stop()
    assert [daemon.process.returncode for daemon in daemons.all] == [-15]
