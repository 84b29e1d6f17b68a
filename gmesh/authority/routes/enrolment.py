# SPDX-License-Identifier: MIT
"""Joining, and the operators who approve."""

from __future__ import annotations

from gmesh.authority.enrolment import EnrolmentBody
from gmesh.authority.route import PAGE, Access, Call, Response, RouteTable, json_response
from gmesh.trust.join import JoinRequest

__all__ = ["table"]

table = RouteTable()


@table.add("POST", "/join", Access.JOIN, body=JoinRequest, answers=(200, 201, 202), shape=JoinRequest)
async def join(call: Call) -> Response:
    """Become a member by an invite; asked again, the same certificate; 202 while an operator must approve."""
    admitted = await call.authority.enrolment.admit(call.caller, call.body)
    if admitted.certificate is None:
        return json_response({"state": "pending", "id": admitted.invite_id}, 202)
    return Response(b'{"certificate":%s}' % admitted.certificate, 201 if admitted.new else 200)


@table.add("GET", "/admin/enrolments", Access.READ, query=PAGE)
async def list_enrolments(call: Call) -> Response:
    """Joins by invites that need approval, and members that came back after a restore."""
    return json_response(await call.authority.enrolment.page(call.text("after"), call.limit()))


@table.add(
    "POST",
    "/admin/enrolments/<string(length=32):id>",
    Access.OPERATE,
    body=EnrolmentBody,
    answers=(200, 404),
)
async def decide_enrolment(call: Call) -> Response:
    """Approve or reject a join that waits."""
    return json_response(await call.authority.enrolment.decide(call.caller, call.path["id"], call.body))
