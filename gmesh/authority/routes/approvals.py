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


@table.add("GET", "/admin/approvals/<string(length=64):id>", Access.READ, answers=(200, 404))
async def one_approval(call: Call) -> Response:
    """What waits under an id."""
    authority = call.authority
    return json_response(await authority.approvals.one(call.path["id"], authority.clock.now()))


@table.add("DELETE", "/admin/approvals/<string(length=64):id>", Access.READ, answers=(204, 404))
async def withdraw_approval(call: Call) -> Response:
    """Take back what the caller proposed."""
    await call.authority.approvals.withdraw(call.caller, call.path["id"])
    return Response(b"", 204)
