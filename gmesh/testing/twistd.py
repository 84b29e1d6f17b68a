# SPDX-License-Identifier: MIT
"""
How a daemon of this gmesh is started without a service manager: a C{twistd} process in the foreground.

L{gmesh.testing.processes}, C{gmesh demo}, the tests of real daemons and the benches all start them here.
Tests: C{tests/testing/test_twistd.py}.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import gmesh

__all__ = ["RUN_TWISTD", "environment", "start_twistd", "twistd"]

RUN_TWISTD = "from twisted.scripts.twistd import run; run()"
"""What the console script C{twistd} does, for whichever interpreter runs it."""


def twistd(before: str = "") -> list[str]:
    """The command of C{twistd} in the foreground; C{before} is Python that its process runs first."""
    return [sys.executable, "-c", f"{before}\n{RUN_TWISTD}", "-n", "--pidfile="]


def environment(**more: str) -> dict[str, str]:
    """Ours, without its C{GMESH_} settings, and such that this gmesh is found from any directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GMESH_")}
    paths = [str(Path(gmesh.__file__).resolve().parents[1]), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths)} | more


def start_twistd(
    arguments: Sequence[str],
    directory: Path,
    output: int | IO[bytes],
    *,
    command: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    start_new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """
    Start a daemon, which reads nothing.

    @param arguments: the sub-command and its options.
    @param directory: where it runs.
    @param output: what takes its log and its errors, as for C{subprocess.Popen}.
    @param command: instead of L{twistd}'s.
    @param env: instead of L{environment}'s.
    @param start_new_session: keep ^C in the terminal from it.
    """
    return subprocess.Popen(
        [*(command or twistd()), *arguments],
        cwd=directory,
        env=env or environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=start_new_session,
    )
