# SPDX-License-Identifier: MIT
"""The daemon as twistd makes it, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from authority.state_files import Keys, write_state

PROGRAM = """
import sys, time
from twisted.internet import reactor
from gmesh.authority.tap import Options, makeService
options = Options()
options.parseOptions(["--state", sys.argv[1]])
service = makeService(options)
print(reactor.seconds is time.monotonic)
"""


LISTENING = """
import socket, sys
from twisted.internet import reactor
from gmesh.authority.tap import Options, makeService
options = Options()
options.parseOptions(["--state", sys.argv[1], "--listen", "unix:" + sys.argv[2]])
makeService(options, reactor).privilegedStartService()
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[2])
print("answers")
"""


def ended(program: str, *arguments: object) -> tuple[int, str, str]:
    """What became of this program: code, output, errors."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=180,
    )
    return done.returncode, done.stdout, done.stderr


def test_timers_keep_monotonic_time(tmp_path: Path) -> None:
    """A stepped wall clock moves no timer, and is seen as a step: the two clocks are not one."""
    write_state(tmp_path / "authority", Keys(), int(time.time()))
    assert ended(PROGRAM, tmp_path / "authority") == (0, "True\n", "")


def test_a_socket_left_by_a_killed_authority(tmp_path: Path) -> None:
    """It is taken over even if another process has the dead one's number, as after a power cut."""
    write_state(tmp_path / "authority", Keys(), int(time.time()))
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (tmp_path / "http.sock.lock").symlink_to(str(os.getppid()))
    assert ended(LISTENING, tmp_path / "authority", path) == (0, "answers\n", "")


def test_a_socket_of_a_running_daemon(tmp_path: Path) -> None:
    """It is left alone, and the authority ends with one line that names what is in the way."""
    write_state(tmp_path / "authority", Keys(), int(time.time()))
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        (tmp_path / "http.sock.lock").symlink_to(str(os.getppid()))
        refused = f"gmesh-authority: cannot listen on unix:{path}: another process listens there\n"
        assert ended(LISTENING, tmp_path / "authority", path) == (1, "", refused)
    assert path.is_socket()
