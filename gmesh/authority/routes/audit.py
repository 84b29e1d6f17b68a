# SPDX-License-Identifier: MIT
"""The audit."""

from __future__ import annotations

from gmesh.authority.route import PAGE, Access, Call, Response, RouteTable, json_response

__all__ = ["table"]

table = RouteTable()


@table.add("GET", "/admin/audit", Access.READ, query=PAGE)
async def list_audit(call: Call) -> Response:
    """The audit chain, from the row after C{?after=}."""
    return json_response(await call.authority.audit.page(call.number("after", 0), call.limit()))
