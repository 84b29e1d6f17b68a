# SPDX-License-Identifier: MIT
"""
Errors as RFC 9457 problem documents: the one place where a reason becomes an HTTP status.

Tests: C{tests/authority/test_http.py}, C{tests/authority/test_openapi.py}.
"""

from __future__ import annotations

from http import HTTPStatus

from gmesh.daemon import web
from gmesh.errors import GmeshError, RequestRefused, StoreError

__all__ = ["STATUSES", "ProblemWithMembers", "problem_body", "status_of", "public_detail"]

STATUSES = {
    "bad-request": 400,
    "invalid-json": 400,
    "invalid-field": 400,
    "bad-audience": 401,
    "bad-signature": 401,
    "replayed": 409,
    "stale": 401,
    "unknown-key": 401,
    "unsigned": 401,
    "cert-expired": 403,
    "cert-revoked": 403,
    "enrolment-pending": 403,
    "enrolment-refused": 403,
    "forbidden-role": 403,
    "not-admitted": 403,
    "unknown-certificate": 403,
    "wrong-network": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "conflict": 409,
    "key-taken": 409,
    "last-administrator": 409,
    "name-taken": 409,
    "network-full": 409,
    "too-large": 413,
    "unsupported-type": 415,
    "rate-limited": 429,
    "internal": 500,
    "another-history": 503,
    "older-database": 503,
    "clock-suspect": 503,
    "read-only": 503,
    "corrupt": 503,
    "unavailable": 503,
}

_NO_FILES = frozenset({"another-history", "older-database", "conflict", "internal", "clock-suspect"})
_SAY_LESS = {
    "read-only": "nothing can be written now, and the log of the authority says why: ask again later",
    "corrupt": "the database is damaged, and the log of the authority says what to do",
}
_SAY_LITTLE = "this cannot be done now, and the log of the authority says why: ask again soon"


class ProblemWithMembers(RequestRefused):
    """A refusal that says more: each of C{members} becomes a member of the problem document."""

    def __init__(self, reason: str, detail: str, **members: int) -> None:
        super().__init__(reason, detail)
        self.members = members


def status_of(error: GmeshError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, StoreError):
        return STATUSES.get(error.reason, 503)
    return STATUSES.get(error.reason, 400)


def public_detail(error: GmeshError, operator: bool) -> str:
    """The detail of an error; for strangers without what durable state says of files and the disk."""
    if operator or not isinstance(error, StoreError) or error.reason in _NO_FILES:
        return error.detail
    return _SAY_LESS.get(error.reason, _SAY_LITTLE)


def problem_body(slug: str, status: int, detail: str, request_id: str, **more: object) -> bytes:
    """The JSON of a problem document of the authority, which names the request."""
    title = HTTPStatus(status).phrase
    return web.problem_body(slug, title, status, detail, request_id=request_id, **more)
