# SPDX-License-Identifier: MIT
"""
What a route is: one row that says who may call it, what it takes and what it answers.

The server is built from these rows, and so is C{/openapi.json}; a route cannot exist without
saying who may call it.
Tests: C{tests/authority/test_openapi.py}, C{tests/authority/test_api_fuzz.py}.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Any

import msgspec

from gmesh.authority import limits
from gmesh.authority.approvals import Operation
from gmesh.authority.auth import Caller
from gmesh.authority.service import Authority
from gmesh.errors import RequestRefused
from gmesh.trust.limits import MAX_INTEGER

__all__ = ["PAGE", "Access", "Response", "Call", "Route", "RouteTable", "json_response"]


PAGE = ("after", "limit")
_CONVERTER = re.compile(r"<[^:>]*:")
_ARGUMENT = re.compile(r"<(?:int|string\\\(length=(\d+))\\?[^>]*>")  # of an escaped path
_NUMBER = "(?:0|[1-9][0-9]{0,15})"


class Access(Enum):
    """Who may call."""

    PUBLIC = "anybody"
    PUBLISHED = "anybody; a member or operator may sign"
    JOIN = "who holds an invite"
    NODE = "a node, with its certificate in the body"
    MEMBER = "a node or an operator"
    READ = "read"
    OPERATE = "operate"
    ADMINISTER = "administer"

    @property
    def operator(self) -> bool:
        """Whether this is the least role of an operator."""
        return self in (Access.READ, Access.OPERATE, Access.ADMINISTER)

    @property
    def signed(self) -> bool:
        """Whether nobody may call without a signature."""
        return self not in (Access.PUBLIC, Access.PUBLISHED)


class Response(msgspec.Struct, frozen=True, gc=False):
    """What goes out: bytes of JSON unless said otherwise."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    etag: str = ""


def json_response(value: Any, status: int = 200) -> Response:
    """An answer made from a value."""
    return Response(msgspec.json.encode(value), status)


class Call(msgspec.Struct, frozen=True):
    """
    One request, parsed and judged.

    @ivar body: of the type its route names.
    @ivar address: of the client.
    @ivar judged: who signed; None where nobody had to.
    """

    authority: Authority
    request_id: str
    query: Mapping[str, Sequence[str]]
    path: Mapping[str, Any]
    address: str
    body: Any = None
    judged: Caller | None = None

    @property
    def caller(self) -> Caller:
        """Who signed; not for public routes."""
        if self.judged is None:
            raise LookupError("a public route has no caller")
        return self.judged

    def text(self, name: str, default: str = "") -> str:
        """A query argument, given at most once."""
        values = self.query.get(name, [default])
        if len(values) != 1:
            raise RequestRefused("invalid-field", f"?{name}= stands more than once")
        return values[0]

    def number(self, name: str, default: int, most: int = MAX_INTEGER) -> int:
        """A query argument that is a whole number from 0 to C{most}."""
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= most):
            raise RequestRefused("invalid-field", f"?{name}= is a whole number from 0 to {most}")
        return int(text)

    def limit(self) -> int:
        """How many rows a page may have."""
        return max(1, self.number("limit", limits.PAGE_ROWS, limits.PAGE_ROWS_MAX))


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    """
    One row.

    @ivar shape: what a body of somebody unknown must look like, all the way down, before it is parsed.
    @ivar answers: the statuses of its own; L{statuses} are all it can give.
    @ivar query: the arguments it knows; others are ignored.
    """

    method: str
    path: str
    access: Access
    handler: Handler
    body: type[msgspec.Struct] | None
    answers: tuple[int, ...]
    query: tuple[str, ...]
    shape: type[msgspec.Struct] | None

    @cached_property
    def name(self) -> str:
        """As C{approvals.json}, metrics and logs name it: without converters."""
        return f"{self.method} {_CONVERTER.sub('<', self.path)}"

    @cached_property
    def body_limit(self) -> int:
        """Bytes of a request, from the table of C{BODY_LIMITS}."""
        return limits.BODY_LIMITS.get(self.name, limits.BODY_BYTES)

    @cached_property
    def spelling(self) -> str:
        """A pattern of the one way to write its path: each number without zeros before it."""

        def argument(found: re.Match[str]) -> str:
            return f"[^/%]{{{found[1]}}}" if found[1] else _NUMBER

        return _ARGUMENT.sub(argument, re.escape(self.path))

    @cached_property
    def operation(self) -> Operation:
        """What L{Approvals} are given for."""
        return Operation(self.name, self.method, "" if self.access is Access.READ else self.access.value)

    @property
    def changes_by_operator(self) -> bool:
        """Whether an operator changes something here."""
        return self.access.operator and self.method != "GET"

    @cached_property
    def votable(self) -> bool:
        """Whether C{approvals.json} may name it; taking one's own proposal back is nobody else's matter."""
        return self.changes_by_operator and not self.path.startswith("/admin/approvals/")

    @property
    def statuses(self) -> frozenset[int]:
        """Every status it can answer with, but for those of a broken authority."""
        found = {*self.answers, 429, 503}
        if self.query or "<" in self.path:
            found.add(400)
        if self.body is not None:
            found |= {400, 413, 415}
        if self.access is not Access.PUBLIC:  # a signature may be bad wherever one may stand
            found |= {400, 401, 403, 409}
        if self.votable:
            found.add(202)
        return frozenset(found)


class RouteTable:
    """The rows of one domain."""

    def __init__(self) -> None:
        self.rows: list[Route] = []

    def add(
        self,
        method: str,
        path: str,
        access: Access,
        body: type[msgspec.Struct] | None = None,
        answers: tuple[int, ...] = (200,),
        query: tuple[str, ...] = (),
        shape: type[msgspec.Struct] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Decorate the function that serves this method and path."""

        def register(handler: Handler) -> Handler:
            self.rows.append(Route(method, path, access, handler, body, answers, query, shape))
            return handler

        return register
