# SPDX-License-Identifier: MIT
"""The README by hand: what it has people type, on real daemons."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from live.conftest import DEADLINE, Daemon, warned
from live.node_rig import until

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
BY_HAND = (ROOT / "README.rst").read_text(encoding="utf-8").partition("By hand\n")[2]
BY_HAND = BY_HAND.partition("Where to read on")[0]
COMMANDS = re.findall(r"^ {4}(\S.*)$", BY_HAND, re.MULTILINE)
END = re.search(r"``(gmesh admin [^`]+ revoke b)``", BY_HAND)


def test_by_hand_in_nine_commands() -> None:
    """No more, and no invite stands in a command."""
    assert len(COMMANDS) <= 9
    assert not [line for line in COMMANDS if "INVITE" in line or "gmesh-invite" in line]


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """A function that types one line into a shell that has C{gmesh} on its path."""
    command = tmp_path / "bin/gmesh"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m gmesh.cli.main "$@"\n')
    command.chmod(0o755)

    def typed(line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["sh", "-c", line],
            cwd=tmp_path,
            env=warned() | {"PATH": f"{command.parent}:/usr/bin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    return typed


def test_by_hand_as_it_stands(
    shell: Callable[..., subprocess.Popen[str]], start: Callable[..., Daemon], free_port: Callable[[], int]
) -> None:
    """From nothing to a message between two nodes, and the end of one; only addresses are those of here."""
    authority, anchor = f":{free_port()}", f":{free_port()}"
    here = [
        re.sub(r"192\.0\.2\.\d", "127.0.0.1", line).replace(":8440", authority).replace(":7443", anchor)
        for line in COMMANDS
    ]
    printed, receiver = "", None
    for line in here:
        words = shlex.split(line)
        if words[0] == "twistd":
            assert words[1:3] == ["-n", "--pidfile="]
            start(*words[3:]).wait_for("local API|admin requests|READY|ready")
        elif "receive" in words:
            receiver = shell(f"{line} --count 1")
        elif "send" in words:
            assert receiver is not None
            until(lambda line=line: _end(shell(line))[0] == 0)
            assert _end(receiver) == (0, "door open\n")
        else:
            status, printed = _end(shell(line), printed)
            assert status == 0, line
    assert END is not None
    assert _end(shell(END[1]))[0] == 0
    until(lambda: "\nb " not in _end(shell("gmesh peers --state a"))[1])


def _end(running: subprocess.Popen[str], stdin: str = "") -> tuple[int, str]:
    """How a command ended, and what it printed."""
    out, _ = running.communicate(stdin, timeout=DEADLINE)
    return running.returncode, out
