# SPDX-License-Identifier: MIT
"""
C{twistd gmesh-authority}: its options, and the daemon that they make.

Tests: C{tests/authority/test_tap.py}, C{tests/live/test_authority_daemon.py}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gmesh.authority.options import UNIT, Options
from gmesh.daemon.interrupts import stop_once
from gmesh.daemon.monotonic import keep_monotonic_time
from gmesh.errors import GmeshError
from gmesh.files import told

if TYPE_CHECKING:
    from gmesh.authority.daemon import AuthorityService

__all__ = ["Options", "makeService"]


def makeService(options: Options, reactor: Any = None) -> AuthorityService:
    """
    The daemon.

    Everything that can be wrong with the state directory ends the program here, with one line.
    """
    from gmesh.authority.daemon import compose  # a second of imports, for which the options must be right

    if reactor is None:
        from twisted.internet import reactor

        keep_monotonic_time(reactor)
    try:
        service = compose(options, reactor)
    except (GmeshError, OSError) as error:
        raise SystemExit(f"{UNIT}: {told(error)}") from None
    stop_once(reactor)
    return service
