# SPDX-License-Identifier: MIT
"""What members ask for, and what operators ask about members."""

from __future__ import annotations

from gmesh.authority.members import HeartbeatBody, HeartbeatShape, RenewBody, RenewShape
from gmesh.authority.route import PAGE, Access, Call, Response, RouteTable, json_response

__all__ = ["table"]

table = RouteTable()


@table.add("POST", "/renew", Access.NODE, body=RenewBody, answers=(200, 201), shape=RenewShape)
async def renew(call: Call) -> Response:
    """The next certificate of a member; 200 with the one it has while that is fresh."""
    caller = call.caller
    document, new = await call.authority.members.renew(caller, caller.certificate, call.body.noise_key)
    return Response(b'{"certificate":%s}' % document, 201 if new else 200)


@table.add("POST", "/heartbeat", Access.NODE, body=HeartbeatBody, shape=HeartbeatShape)
async def heartbeat(call: Call) -> Response:
    """Report that a member lives; the answer is the status in force and the authority's time."""
    authority, caller, body = call.authority, call.caller, call.body
    if authority.follower is not None and authority.publisher.behind(body.numbers):
        await authority.look()
    await authority.members.heartbeat(caller, body)
    if body.receipts:
        await authority.commands.take_receipts(caller, caller.certificate, body.receipts)
    return Response(b'{"status":%s,"time":%d}' % (authority.publisher.status.body, authority.clock.now()))


@table.add("GET", "/certificates/<int(max=9007199254740991):serial>", Access.MEMBER, answers=(200, 404))
async def certificate(call: Call) -> Response:
    """One certificate, to members and operators."""
    return Response(await call.authority.members.certificate(call.path["serial"]))


@table.add("GET", "/admin/nodes", Access.READ, query=PAGE)
async def list_nodes(call: Call) -> Response:
    """Members, when they were last heard of, what they have applied."""
    return json_response(await call.authority.members.page(call.text("after"), call.limit()))


@table.add("GET", "/admin/certificates", Access.READ, query=PAGE)
async def list_certificates(call: Call) -> Response:
    """Certificates, by serial."""
    return json_response(await call.authority.members.certificates(call.number("after", 0), call.limit()))
