# SPDX-License-Identifier: MIT
"""Commands: given by operators, fetched by members, watched by operators."""

from __future__ import annotations

from gmesh.authority.bodies import CommandBody
from gmesh.authority.routes.table import PAGE, Access, Answer, Call, RouteTable, json_answer
from gmesh.trust.documents import Command, document_from_dict
from gmesh.trust.limits import MAX_INTEGER

__all__ = ["table"]

table = RouteTable()


@table.add("GET", "/commands", Access.MEMBER, query=("since",))
async def commands_since(call: Call) -> Answer:
    """What members are asked to do, after the number they know."""
    return Answer(await call.authority.control.since(call.number("since", 0)))


@table.add("GET", "/admin/commands", Access.READ, query=PAGE)
async def list_commands(call: Call) -> Answer:
    """Commands, newest first, below C{?after=}, and the newest number."""
    before = call.number("after", MAX_INTEGER)
    return json_answer(await call.authority.control.page(before, call.limit()))


@table.add("POST", "/admin/commands", Access.READ, body=CommandBody, answers=(201, 404))
async def give_command(call: Call) -> Answer:
    """Give a command that the caller signed; the policy says which role it takes."""
    document = document_from_dict(call.body.command, Command)
    return json_answer(await call.authority.control.give(call.caller, document), 201)


@table.add(
    "GET",
    "/admin/commands/<string(length=32):id>",
    Access.READ,
    answers=(200, 404),
    query=PAGE,
)
async def one_command(call: Call) -> Answer:
    """A command, and which of the members it concerns have done, refused or not answered it."""
    found = await call.authority.control.one(call.path["id"], call.text("after"), call.limit())
    return json_answer(found)
