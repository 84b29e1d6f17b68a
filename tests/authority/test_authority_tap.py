# SPDX-License-Identifier: MIT
"""The daemon as twistd makes it, in a process of its own."""

from __future__ import annotations

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


def test_k1_timers_keep_steady_time(tmp_path: Path) -> None:
    """A stepped wall clock moves no timer, and is seen as a step: the two clocks are not one."""
    write_state(tmp_path / "authority", Keys(), int(time.time()))
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "authority")],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")
