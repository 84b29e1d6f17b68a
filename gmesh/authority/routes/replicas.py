# SPDX-License-Identifier: MIT
"""The daemons that serve from one database."""

from __future__ import annotations

from gmesh.authority.route import PAGE, Access, Call, Response, RouteTable, json_response

__all__ = ["table"]

table = RouteTable()


@table.add("GET", "/admin/replicas", Access.READ, query=PAGE)
async def list_replicas(call: Call) -> Response:
    """Daemons of the database: since when, last heard of when, their keys, what they serve, ready or not."""
    return json_response(await call.authority.replicas.page(call.text("after"), call.limit()))
