# SPDX-License-Identifier: MIT
"""What administrators call: policies and operators."""

from __future__ import annotations

from gmesh.authority import limits
from gmesh.authority.bodies import GenesisBody, OperatorBody, OperatorKeyBody, PolicyBody
from gmesh.authority.routes.table import PAGE, Access, Answer, Call, RouteTable, json_answer
from gmesh.trust.documents import Genesis, document_from_dict
from gmesh.trust.limits import MAX_INTEGER

__all__ = ["table"]

table = RouteTable()


@table.add("GET", "/admin/policies", Access.READ, query=PAGE)
async def list_policies(call: Call) -> Answer:
    """Versions of the policy, newest first, below C{?after=}."""
    before = call.number("after", MAX_INTEGER)
    return json_answer(await call.authority.governance.policies(before, call.limit()))


@table.add("GET", "/admin/policies/<int(max=9007199254740991):version>", Access.READ, answers=(200, 404))
async def one_policy(call: Call) -> Answer:
    """One version of the policy, in file form."""
    return Answer(await call.authority.governance.policy(call.path["version"]))


@table.add(
    "POST",
    "/admin/policies",
    Access.ADMINISTER,
    body=PolicyBody,
    answers=(200, 201, 404),
    body_limit=limits.POLICY_BODY_BYTES,
)
async def publish_policy(call: Call) -> Answer:
    """Publish the next policy; with C{dry_run} only tell whether it could be."""
    answer = await call.authority.governance.publish_policy(call.caller, call.body)
    return json_answer(answer, 200 if call.body.dry_run else 201)


@table.add(
    "POST",
    "/admin/genesis",
    Access.ADMINISTER,
    body=GenesisBody,
    answers=(201,),
    body_limit=limits.POLICY_BODY_BYTES,
)
async def publish_genesis(call: Call) -> Answer:
    """Publish the next version of the genesis, made and signed offline."""
    document = document_from_dict(call.body.genesis, Genesis)
    return json_answer(await call.authority.governance.publish_genesis(call.caller, document), 201)


@table.add("GET", "/admin/operators", Access.READ)
async def list_operators(call: Call) -> Answer:
    """Everybody who may ask."""
    return json_answer(await call.authority.records.operators())


@table.add("POST", "/admin/operators", Access.ADMINISTER, body=OperatorBody, answers=(201,))
async def add_operator(call: Call) -> Answer:
    """Let a key act; the policy that names it is published with it."""
    return json_answer(await call.authority.governance.add_operator(call.caller, call.body), 201)


@table.add("DELETE", "/admin/operators/<string(length=32):id>", Access.ADMINISTER, answers=(200, 404))
async def remove_operator(call: Call) -> Answer:
    """Refuse a key from now on."""
    return json_answer(await call.authority.governance.remove_operator(call.caller, call.path["id"]))


@table.add(
    "POST",
    "/admin/operators/<string(length=32):id>",
    Access.READ,
    body=OperatorKeyBody,
    answers=(201, 404),
)
async def replace_operator(call: Call) -> Answer:
    """Put a new key in the place of the caller's own, or as an administrator of another's."""
    answer = await call.authority.governance.replace_operator(call.caller, call.path["id"], call.body)
    return json_answer(answer, 201)


@table.add("GET", "/admin/approvals", Access.READ, query=PAGE)
async def list_approvals(call: Call) -> Answer:
    """Requests that wait for more operators to ask for the same."""
    authority = call.authority
    return json_answer(
        await authority.approvals.page(call.text("after"), call.limit(), authority.clock.now())
    )


@table.add(
    "GET",
    "/admin/policies/explain",
    Access.READ,
    answers=(200, 404),
    query=("source", "target", "service"),
)
async def explain_policy(call: Call) -> Answer:
    """Whether one member may reach a service of another, and the rule that says so."""
    named = call.text("source"), call.text("target"), call.text("service")
    return json_answer(await call.authority.records.explain(*named))
