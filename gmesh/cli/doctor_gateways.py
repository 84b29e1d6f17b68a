# SPDX-License-Identifier: MIT
"""
Checks of what the node exposes and forwards: whether the targets take connections, and the ports are open.

Tests: C{tests/cli/test_doctor_gateways.py}.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gmesh.cli.doctor_findings import Finding, fail, ok
from gmesh.cli.endpoint_text import client_place
from gmesh.cli.http import Endpoint, HttpRefused
from gmesh.cli.local import read_list
from gmesh.cli.output import words

__all__ = ["exposures", "forwards", "gateways"]

#: Seconds that a target has; all are tried at once.
DIAL_SECONDS = 4.0
MAX_AT_ONCE = 16


def gateways(where: Endpoint) -> list[Finding]:
    """Of the node that answers there; nothing, if it is of a version without."""
    try:
        exposed, forwarded = read_list(where, "/v1/exposures"), read_list(where, "/v1/forwards")
    except HttpRefused:
        return []
    return [*exposures(exposed), *forwards(forwarded)]


def exposures(rows: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """A connection to the target of each, as this user."""
    known = list(rows)
    if not known:
        return []
    with ThreadPoolExecutor(min(MAX_AT_ONCE, len(known))) as pool:
        troubles = list(pool.map(lambda row: _trouble(str(row.get("to"))), known))
    found = []
    for row, trouble in zip(known, troubles, strict=True):
        service, target = words(row.get("service")), words(row.get("to"))
        if trouble:
            detail = f"{service} is exposed, but {target} takes no connection: {trouble}"
            found.append(fail("expose", detail, "start what serves it, or correct [[expose]]"))
        else:
            found.append(ok("expose", f"{service} is exposed, and {target} takes connections"))
    return found


def forwards(rows: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """What the daemon says of its ports."""
    found = []
    for row in rows:
        port, to, trouble = words(row.get("listen")), words(row.get("to")), row.get("trouble")
        if trouble:
            advice = "free the port, or correct [[forward]], and reload"
            found.append(fail("forward", f"nothing leads to {to}: {words(trouble)}", advice))
        else:
            found.append(ok("forward", f"{port} leads to {to}"))
    return found


def _trouble(target: str) -> str:
    """Why it takes no connection; empty if it does."""
    try:
        if target.startswith("unix:"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(DIAL_SECONDS)
                probe.connect(target.removeprefix("unix:"))
            return ""
        place = client_place(target, local=True)
        if place is None:
            return "it is no address"
        with socket.create_connection((place.host, place.port), DIAL_SECONDS):
            return ""
    except OSError as error:
        return error.strerror or str(error)
