# SPDX-License-Identifier: MIT
"""
Whether the daemon works, and what it offers.

Tests: C{tests/authority/test_state.py}, C{tests/authority/test_disk.py}.
"""

from __future__ import annotations

from gmesh.authority.route import Access, Call, Response, RouteTable, json_response

__all__ = ["table"]

table = RouteTable()


@table.add("GET", "/healthz", Access.PUBLIC)
async def alive(call: Call) -> Response:
    """Answers as long as the reactor turns."""
    return json_response({"status": "ok"})


@table.add("GET", "/openapi.json", Access.PUBLIC)
async def description(call: Call) -> Response:
    """This document."""
    return Response(call.authority.description)


@table.add("GET", "/readyz", Access.PUBLIC)
async def ready(call: Call) -> Response:
    """
    Whether a decision could be written and signed, the clock is right, and others of the database are
    followed; only the log says why not.
    """
    if call.authority.follower is not None:
        call.authority.follower.check()
    await call.authority.ready()
    return json_response({"status": "ready"})
