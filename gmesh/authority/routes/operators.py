# SPDX-License-Identifier: MIT
"""Operators."""

from __future__ import annotations

from gmesh.authority.operators import OperatorBody, OperatorKeyBody
from gmesh.authority.route import Access, Call, Response, RouteTable, json_response

__all__ = ["table"]

table = RouteTable()


@table.add("GET", "/admin/operators", Access.READ)
async def list_operators(call: Call) -> Response:
    """Everybody who may ask."""
    return json_response(await call.authority.operators.page())


@table.add("POST", "/admin/operators", Access.ADMINISTER, body=OperatorBody, answers=(201,))
async def add_operator(call: Call) -> Response:
    """Let a key act; the policy that names it is published with it."""
    return json_response(await call.authority.operators.add(call.caller, call.body), 201)


@table.add("DELETE", "/admin/operators/<string(length=32):id>", Access.ADMINISTER, answers=(200, 404))
async def remove_operator(call: Call) -> Response:
    """Refuse a key from now on."""
    return json_response(await call.authority.operators.remove(call.caller, call.path["id"]))


@table.add(
    "POST",
    "/admin/operators/<string(length=32):id>",
    Access.READ,
    body=OperatorKeyBody,
    answers=(201, 404),
)
async def replace_operator(call: Call) -> Response:
    """Put a new key in the place of the caller's own, or as an administrator of another's."""
    answer = await call.authority.operators.replace(call.caller, call.path["id"], call.body)
    return json_response(answer, 201)
