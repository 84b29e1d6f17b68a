# SPDX-License-Identifier: MIT
"""
The console script C{gmesh}: ^C while it is still being imported ends it without a traceback.

Tests: C{tests/live/test_harsh_world.py}.
"""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> None:
    """Import the command, run it, and let nothing interrupt its end; one that ignores ^C goes on doing so."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gmesh.cli.main import main as command

    try:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        command()
    finally:
        if heard:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
