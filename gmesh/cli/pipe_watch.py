# SPDX-License-Identifier: MIT
"""
Whoever reads a long command's output may go: C{| head -1}, a pager.

The next line would find out, but that one may be hours away, or be a message that its sender then believes
has arrived.  Tests: C{tests/cli/test_pipe_watch.py}.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import threading

__all__ = ["end_with_the_reader"]


def end_with_the_reader() -> None:
    """End the process, with status 1 and no message, once standard output is a pipe that nobody reads."""
    try:
        output = sys.stdout.fileno()
        mode = os.fstat(output).st_mode
    except (OSError, ValueError):
        return
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        threading.Thread(target=_watch, args=[output], daemon=True).start()


def _watch(output: int) -> None:
    poll = select.poll()
    poll.register(output, 0)  # errors and hang-ups are always reported
    poll.poll()
    os._exit(1)  # as for BrokenPipeError; every line was flushed when it was printed
