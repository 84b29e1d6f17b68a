# SPDX-License-Identifier: MIT
"""Revoking."""

from __future__ import annotations

from gmesh.authority.revocations import RevocationBody
from gmesh.authority.route import Access, Call, Response, RouteTable, json_response

__all__ = ["table"]

table = RouteTable()


@table.add("POST", "/admin/revocations", Access.OPERATE, body=RevocationBody, answers=(201, 404))
async def revoke(call: Call) -> Response:
    """Revoke a node, a certificate or an identity key."""
    return json_response(await call.authority.revocations.revoke(call.caller, call.body), 201)
