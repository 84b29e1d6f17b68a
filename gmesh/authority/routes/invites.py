# SPDX-License-Identifier: MIT
"""Invites."""

from __future__ import annotations

from gmesh.authority.invites import InviteBody
from gmesh.authority.route import PAGE, Access, Call, Response, RouteTable, json_response

__all__ = ["table"]

table = RouteTable()


@table.add("POST", "/admin/invites", Access.OPERATE, body=InviteBody, answers=(201,))
async def create_invite(call: Call) -> Response:
    """Let the holder of a key join, once."""
    return json_response(await call.authority.invites.create(call.caller, call.body), 201)


@table.add("GET", "/admin/invites", Access.READ, query=PAGE)
async def list_invites(call: Call) -> Response:
    """Invites and what became of them."""
    return json_response(await call.authority.invites.page(call.text("after"), call.limit()))


@table.add("DELETE", "/admin/invites/<string(length=32):id>", Access.OPERATE, answers=(204, 404))
async def withdraw_invite(call: Call) -> Response:
    """Make an invite worthless."""
    await call.authority.invites.withdraw(call.caller, call.path["id"])
    return Response(b"", 204)
