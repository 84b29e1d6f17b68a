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
    answer = await call.authority.revocations.revoke(call.caller, call.body)
    if call.authority.publisher.crl_document.body.number < answer["crl_number"]:
        await call.authority.look()
    crl = call.authority.publisher.crl_document
    if crl.body.number >= answer["crl_number"]:
        answer |= {"crl_number": crl.body.number, "crl_digest": crl.digest}
    return json_response(answer, 201)
