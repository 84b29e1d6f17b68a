# SPDX-License-Identifier: MIT
"""Backups."""

from __future__ import annotations

from gmesh.authority.route import Access, Call, Response, RouteTable, json_response

__all__ = ["table"]

table = RouteTable()


@table.add("POST", "/admin/backup", Access.ADMINISTER, answers=(201,))
async def backup(call: Call) -> Response:
    """Copy the database, while it is in use, into the state directory."""
    return json_response(await call.authority.backups.make(call.caller), 201)
