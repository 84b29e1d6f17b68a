# SPDX-License-Identifier: MIT
"""What operators call about nodes: invites, members, certificates, revocations, and the audit."""

from __future__ import annotations

from gmesh.authority.bodies import EnrolmentBody, InviteBody, RevocationBody
from gmesh.authority.routes.table import PAGE, Access, Answer, Call, RouteTable, json_answer

__all__ = ["table"]

table = RouteTable()


@table.add("POST", "/admin/invites", Access.OPERATE, body=InviteBody, answers=(201,))
async def create_invite(call: Call) -> Answer:
    """Let the holder of a key join, once."""
    return json_answer(await call.authority.administration.invite(call.caller, call.body), 201)


@table.add("GET", "/admin/invites", Access.READ, query=PAGE)
async def list_invites(call: Call) -> Answer:
    """Invites and what became of them."""
    return json_answer(await call.authority.records.invites(call.text("after"), call.limit()))


@table.add("DELETE", "/admin/invites/<string(length=32):id>", Access.OPERATE, answers=(204, 404))
async def withdraw_invite(call: Call) -> Answer:
    """Make an invite worthless."""
    await call.authority.administration.withdraw(call.caller, call.path["id"])
    return Answer(b"", 204)


@table.add("GET", "/admin/enrolments", Access.READ, query=PAGE)
async def list_enrolments(call: Call) -> Answer:
    """Joins by invites that need approval."""
    return json_answer(await call.authority.records.enrolments(call.text("after"), call.limit()))


@table.add(
    "POST",
    "/admin/enrolments/<string(length=32):id>",
    Access.OPERATE,
    body=EnrolmentBody,
    answers=(200, 404),
)
async def decide_enrolment(call: Call) -> Answer:
    """Approve or reject a join that waits."""
    administration = call.authority.administration
    return json_answer(await administration.decide_enrolment(call.caller, call.path["id"], call.body))


@table.add("GET", "/admin/nodes", Access.READ, query=PAGE)
async def list_nodes(call: Call) -> Answer:
    """Members, when they were last heard of, what they have applied."""
    return json_answer(await call.authority.records.nodes(call.text("after"), call.limit()))


@table.add("GET", "/admin/certificates", Access.READ, query=PAGE)
async def list_certificates(call: Call) -> Answer:
    """Certificates, by serial."""
    return json_answer(await call.authority.records.certificates(call.number("after", 0), call.limit()))


@table.add("POST", "/admin/revocations", Access.OPERATE, body=RevocationBody, answers=(201, 404))
async def revoke(call: Call) -> Answer:
    """Revoke a node, a certificate or an identity key."""
    return json_answer(await call.authority.revocation.revoke(call.caller, call.body), 201)


@table.add("GET", "/admin/audit", Access.READ, query=PAGE)
async def list_audit(call: Call) -> Answer:
    """The audit chain, from the row after C{?after=}."""
    return json_answer(await call.authority.records.audit(call.number("after", 0), call.limit()))


@table.add("POST", "/admin/backup", Access.ADMINISTER, answers=(201,))
async def backup(call: Call) -> Answer:
    """Copy the database, while it is in use, into the state directory."""
    return json_answer(await call.authority.administration.backup(call.caller), 201)
