# SPDX-License-Identifier: MIT
"""Votes of operators."""

from __future__ import annotations

from gmesh.authority.route import PAGE, Access, Call, Response, RouteTable, json_response

__all__ = ["table"]

table = RouteTable()


@table.add("GET", "/admin/approvals", Access.READ, query=PAGE)
async def list_approvals(call: Call) -> Response:
    """Requests that wait for more operators to ask for the same."""
    authority = call.authority
    return json_response(
        await authority.approvals.page(call.text("after"), call.limit(), authority.clock.now())
    )
