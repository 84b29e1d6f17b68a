# SPDX-License-Identifier: MIT
"""Daemons and commands started in odd ways: as the wrong user, or with standard streams closed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from authority.state_files import Keys, write_state
from live.node_rig import until

from gmesh.testing.twistd import environment, twistd

pytestmark = pytest.mark.live

DEADLINE = 180.0
NOBODY = 65534
#: As twistd does, for root only after a first try that imports all there is, which others may not read.
AS_NOBODY = f"""
import importlib, os, sys
from twisted.internet import reactor
tap = importlib.import_module(sys.argv[1])
def start(state):
    options = tap.Options()
    options.parseOptions(["--state", state])
    tap.makeService(options, reactor)
try:
    start("nowhere")
except SystemExit:
    pass
if os.geteuid() == 0:
    os.seteuid({NOBODY})
start(sys.argv[2])
"""


def ended(command: list[str], directory: Path) -> tuple[int, str]:
    """The exit status of a program that ends by itself, and all that it wrote."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("unit", ["gmesh-node", "gmesh-authority"])
def test_b8_a_daemon_started_as_the_wrong_user(tmp_path: Path, enrol: Callable[..., Path], unit: str) -> None:
    """One line that names the file and the user, and no traceback."""
    if unit == "gmesh-node":
        state = enrol("a", "anchor")
    else:
        state = tmp_path / "authority"
        write_state(state, Keys(), int(time.time()))
    tmp_path.chmod(0o755)
    state.chmod(0o700 if os.geteuid() == 0 else 0)
    status, wrote = ended([sys.executable, "-c", AS_NOBODY, f"gmesh.{unit[6:]}.tap", str(state)], tmp_path)
    state.chmod(0o700)
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    lines = [line for line in wrote.splitlines() if line.startswith(f"{unit}: ")]
    assert (status, len(lines)) == (1, 1), wrote
    assert f"this process is uid {user}" in lines[0] and str(state) in lines[0]
    assert "Traceback" not in wrote


def closed(*arguments: str | Path) -> list[str]:
    """A command whose standard input is closed."""
    code = "import os, sys; os.close(0); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", code, sys.executable, "-m", "gmesh.cli.main", *map(str, arguments)]


def test_d15_join_with_standard_input_closed(tmp_path: Path) -> None:
    """There is no invite to read: that is told as for an empty one."""
    status, wrote = ended(closed("join", "-", "--state", tmp_path / "new"), tmp_path)
    assert (status, wrote.count("\n")) == (1, 1), wrote
    assert wrote.startswith("gmesh: ")


def test_d15_a_daemon_with_standard_output_closed(tmp_path: Path) -> None:
    """Its log has no place to go, and it is checked and started like any other."""
    write_state(tmp_path / "authority", Keys(), int(time.time()))
    before = "import os, sys; os.close(1); sys.stdout = None"
    process = subprocess.Popen(
        [*twistd(before), "gmesh-authority", "--state", "authority", "--listen", "unix:http.sock"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

    def listens() -> bool:
        assert process.poll() is None
        return (tmp_path / "http.sock").exists()

    until(listens)
    process.terminate()
    _, errors = process.communicate(timeout=DEADLINE)
    assert b"Traceback" not in errors
