# SPDX-License-Identifier: MIT
"""Commands to nodes."""

from __future__ import annotations

from gmesh.authority.commands import CommandBody
from gmesh.authority.route import PAGE, Access, Call, Response, RouteTable, json_response
from gmesh.trust.documents import Command, document_from_dict
from gmesh.trust.limits import MAX_INTEGER

__all__ = ["table"]

table = RouteTable()


@table.add("GET", "/commands", Access.MEMBER, query=("since",))
async def commands_since(call: Call) -> Response:
    """What members are asked to do, after the number they know."""
    return Response(await call.authority.commands.since(call.number("since", 0)))


@table.add("GET", "/admin/commands", Access.READ, query=PAGE)
async def list_commands(call: Call) -> Response:
    """Commands, newest first, below C{?after=}, and the newest number."""
    before = call.number("after", MAX_INTEGER)
    return json_response(await call.authority.commands.page(before, call.limit()))


@table.add("POST", "/admin/commands", Access.READ, body=CommandBody, answers=(201, 404))
async def give_command(call: Call) -> Response:
    """Give a command that the caller signed; the policy says which role it takes."""
    document = document_from_dict(call.body.command, Command)
    return json_response(await call.authority.commands.give(call.caller, document), 201)


@table.add(
    "GET",
    "/admin/commands/<string(length=32):id>",
    Access.READ,
    answers=(200, 404),
    query=PAGE,
)
async def one_command(call: Call) -> Response:
    """A command, and which of the members it concerns have done, refused or not answered it."""
    found = await call.authority.commands.one(call.path["id"], call.text("after"), call.limit())
    return json_response(found)
