# SPDX-License-Identifier: MIT
"""What anybody may fetch; a member who signs is served though strangers ask too much."""

from __future__ import annotations

from gmesh.authority import limits
from gmesh.authority.published import Published
from gmesh.authority.route import Access, Call, Response, RouteTable
from gmesh.errors import RequestRefused

__all__ = ["table"]

table = RouteTable()


def _document(published: Published, max_age: int = 0) -> Response:
    headers = {"Cache-Control": f"max-age={max_age}" if max_age else "no-cache"}
    return Response(published.body, headers=headers, etag=published.digest)


@table.add("GET", "/genesis", Access.PUBLISHED, answers=(200, 304))
async def newest_genesis(call: Call) -> Response:
    """The newest genesis."""
    await call.authority.look()
    return _document(call.authority.publisher.newest_genesis)


@table.add("GET", "/genesis/<int(max=9007199254740991):version>", Access.PUBLISHED, answers=(200, 304, 404))
async def genesis(call: Call) -> Response:
    """One version of the genesis."""
    held, version = call.authority.publisher.genesis, call.path["version"]
    if version not in held:
        await call.authority.look()
    found = held.get(version)
    if found is None:
        raise RequestRefused("not-found", "there is no genesis of this version")
    return _document(found)


@table.add("GET", "/policy", Access.PUBLISHED, answers=(200, 304))
async def policy(call: Call) -> Response:
    """The policy in force."""
    await call.authority.look()
    return _document(call.authority.publisher.policy)


@table.add("GET", "/crl", Access.PUBLISHED, answers=(200, 304), query=("since",))
async def crl(call: Call) -> Response:
    """The CRL in force; with C{?since=NUMBER} what to add to that one, where a delta can be made."""
    since = call.number("since", 0)
    await call.authority.look()
    if since:
        delta = await call.authority.publisher.crl_delta(since)
        if delta is not None:
            return _document(delta)
    return _document(call.authority.publisher.crl)


@table.add("GET", "/status", Access.PUBLISHED, answers=(200, 304), query=("after",))
async def status(call: Call) -> Response:
    """
    The status in force; with C{?after=DIGEST}, once another one names something else, or after 25 s.

    Members who sign have room of their own to wait in, and are answered first.
    """
    publisher = call.authority.publisher
    after = call.text("after")
    if not publisher.knows(after):
        await call.authority.look()
    if after:
        await publisher.wait(after, call.judged.key_id if call.judged else "", call.address)
    left = publisher.status_document.body.expires_at - call.authority.clock.now()
    return _document(publisher.status, max(0, min(limits.STATUS_MAX_AGE_SECONDS, left)))
