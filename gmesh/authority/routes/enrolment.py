# SPDX-License-Identifier: MIT
"""What nodes call: join, renew, heartbeat; and certificates by serial."""

from __future__ import annotations

from gmesh.authority.bodies import HeartbeatBody, RenewBody
from gmesh.authority.routes.table import Access, Answer, Call, RouteTable, json_answer
from gmesh.trust.join import JoinRequest

__all__ = ["table"]

table = RouteTable()


def _certificate(document: bytes, status: int) -> Answer:
    return Answer(b'{"certificate":%s}' % document, status)


@table.add("POST", "/join", Access.JOIN, body=JoinRequest, answers=(200, 201, 202))
async def join(call: Call) -> Answer:
    """Become a member by an invite; asked again, the same certificate; 202 while an operator must approve."""
    admitted = await call.authority.admission.admit(call.caller, call.body)
    if admitted.certificate is None:
        return json_answer({"state": "pending", "id": admitted.invite_id}, 202)
    return _certificate(admitted.certificate, 201 if admitted.new else 200)


@table.add("POST", "/renew", Access.NODE, body=RenewBody, answers=(200, 201))
async def renew(call: Call) -> Answer:
    """The next certificate of a member; 200 with the one it has while that is fresh."""
    caller = call.caller
    document, new = await call.authority.membership.renew(caller, caller.certificate, call.body.noise_key)
    return _certificate(document, 201 if new else 200)


@table.add("POST", "/heartbeat", Access.NODE, body=HeartbeatBody)
async def heartbeat(call: Call) -> Answer:
    """Tell that a member lives; the answer is the status in force and the authority's time."""
    authority, caller, body = call.authority, call.caller, call.body
    await authority.membership.heartbeat(caller, caller.certificate, body.sent_ms, body.numbers)
    if body.receipts:
        await authority.control.take_receipts(caller, caller.certificate, body.receipts)
    return Answer(b'{"status":%s,"time":%d}' % (authority.publisher.status.body, authority.clock.now()))


@table.add("GET", "/certificates/<int(max=9007199254740991):serial>", Access.MEMBER, answers=(200, 404))
async def certificate(call: Call) -> Answer:
    """One certificate, to members and operators."""
    return Answer(await call.authority.records.certificate(call.path["serial"]))
