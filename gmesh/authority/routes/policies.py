# SPDX-License-Identifier: MIT
"""Policies and the genesis."""

from __future__ import annotations

from gmesh.authority.policies import GenesisBody, PolicyBody
from gmesh.authority.route import PAGE, Access, Call, Response, RouteTable, json_response
from gmesh.trust.documents import Genesis, document_from_dict
from gmesh.trust.limits import MAX_INTEGER

__all__ = ["table"]

table = RouteTable()


@table.add("GET", "/admin/policies", Access.READ, query=PAGE)
async def list_policies(call: Call) -> Response:
    """Versions of the policy, newest first, below C{?after=}."""
    before = call.number("after", MAX_INTEGER)
    return json_response(await call.authority.policies.page(before, call.limit()))


@table.add("GET", "/admin/policies/<int(max=9007199254740991):version>", Access.READ, answers=(200, 404))
async def one_policy(call: Call) -> Response:
    """One version of the policy, in file form."""
    return Response(await call.authority.policies.one(call.path["version"]))


@table.add(
    "POST",
    "/admin/policies",
    Access.ADMINISTER,
    body=PolicyBody,
    answers=(200, 201, 404),
)
async def publish_policy(call: Call) -> Response:
    """Publish the next policy; with C{dry_run} only say whether it could be."""
    answer = await call.authority.policies.publish(call.caller, call.body)
    return json_response(answer, 200 if call.body.dry_run else 201)


@table.add(
    "GET",
    "/admin/policies/explain",
    Access.READ,
    answers=(200, 404),
    query=("source", "target", "service"),
)
async def explain_policy(call: Call) -> Response:
    """Whether one member may reach a service of another, and the rule that says so."""
    named = call.text("source"), call.text("target"), call.text("service")
    return json_response(await call.authority.policies.explain(*named))


@table.add(
    "POST",
    "/admin/genesis",
    Access.ADMINISTER,
    body=GenesisBody,
    answers=(201,),
)
async def publish_genesis(call: Call) -> Response:
    """Publish the next version of the genesis, made and signed offline."""
    document = document_from_dict(call.body.genesis, Genesis)
    return json_response(await call.authority.policies.publish_genesis(call.caller, document), 201)
