# SPDX-License-Identifier: MIT
"""Whether the daemon runs, and whether it can decide."""

from __future__ import annotations

from gmesh.authority.routes.table import Access, Answer, Call, RouteTable, json_answer

__all__ = ["table"]

table = RouteTable()


@table.add("GET", "/healthz", Access.PUBLIC)
async def alive(call: Call) -> Answer:
    """Answers as long as the reactor turns."""
    return json_answer({"status": "ok"})


@table.add("GET", "/openapi.json", Access.PUBLIC)
async def description(call: Call) -> Answer:
    """This document."""
    return Answer(call.authority.description)


@table.add("GET", "/readyz", Access.PUBLIC)
async def ready(call: Call) -> Answer:
    """Whether a decision could be written and signed, and the clock is right; only the log says why not."""
    await call.authority.ready()
    return json_answer({"status": "ready"})
