# SPDX-License-Identifier: MIT
"""Who needs an admission, and the admissions that operators bring."""

from __future__ import annotations

from gmesh.authority.admissions import AdmissionsBody
from gmesh.authority.route import PAGE, Access, Call, Response, RouteTable, json_response

__all__ = ["table"]

table = RouteTable()


@table.add("GET", "/admin/admissions", Access.READ, query=PAGE)
async def list_admissions(call: Call) -> Response:
    """Members and hosts that ask to be one, and until when each is admitted."""
    return json_response(await call.authority.admissions.page(call.text("after"), call.limit()))


@table.add("POST", "/admin/admissions", Access.OPERATE, body=AdmissionsBody)
async def take_admissions(call: Call) -> Response:
    """Keep what an admission key has signed, to be handed out with certificates."""
    return json_response(await call.authority.admissions.take(call.caller, call.body))
