# SPDX-License-Identifier: MIT
"""
C{/openapi.json}: made from the rows the server is made from, so it cannot describe another API.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from inspect import getdoc
from typing import Any

import msgspec

from gmesh import __version__
from gmesh.authority.route import Access, Route
from gmesh.daemon.web import PROBLEM_TYPE
from gmesh.trust.limits import MAX_INTEGER
from gmesh.trust.signed_requests import JSON_TYPE

__all__ = ["describe"]

Json = dict[str, Any]
_PARAMETER = re.compile(r"<(\w+)[^:>]*:(\w+)>")
_WHOLE = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
_TYPES: dict[str, Json] = {
    "int": _WHOLE,
    "string": {"type": "string", "minLength": 32, "maxLength": 32},
}
_NUMBERS = frozenset({"limit", "since"})
_REFERENCE = "#/components/schemas/{name}"
_MARKUP = re.compile(r"[CL]\{([^}]*)\}")
_PROBLEM: Json = {
    "type": "object",
    "description": "RFC 9457; programs compare the last part of type.",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:gmesh:problem:[a-z0-9-]+$"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
    },
}


def describe(routes: Iterable[Route]) -> Json:
    """The OpenAPI 3.1 document of these routes."""
    rows = list(routes)
    bodies = [route.body for route in rows if route.body is not None]
    _, schemas = msgspec.json.schema_components(bodies, ref_template=_REFERENCE)
    paths: dict[str, Json] = {}
    for route in rows:
        path = _PARAMETER.sub(r"{\2}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gmesh authority",
            "version": __version__,
            "description": "Admits, renews, revokes, publishes and records.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM, **_portable(schemas)},
            "securitySchemes": {
                "signature": {
                    "type": "http",
                    "scheme": "signature",
                    "description": "RFC 9421, label gmesh, Ed25519; see the HTTP API reference.",
                }
            },
        },
    }


def _operation(route: Route) -> Json:
    operation: Json = {
        "operationId": route.handler.__name__,
        "summary": _MARKUP.sub(r"\1", getdoc(route.handler) or ""),
        "x-gmesh-access": route.access.value,
        "responses": {str(status): _response(status) for status in sorted(route.statuses)},
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TYPES[kind]}
        for kind, name in _PARAMETER.findall(route.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": _argument(name)} for name in route.query]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        schema = {"$ref": _REFERENCE.format(name=route.body.__name__)}
        operation["x-gmesh-body-limit"] = route.body_limit
        operation["requestBody"] = {"required": True, "content": {JSON_TYPE: {"schema": schema}}}
    if route.access is not Access.PUBLIC:
        operation["security"] = [{"signature": []}] if route.access.signed else [{}, {"signature": []}]
    return operation


def _argument(name: str) -> Json:
    return _WHOLE if name in _NUMBERS else {"type": "string"}


def _response(status: int) -> Json:
    response: Json = {"description": HTTPStatus(status).phrase}
    if status >= 400:
        response["content"] = {PROBLEM_TYPE: {"schema": {"$ref": _REFERENCE.format(name="Problem")}}}
    elif status not in (204, 304):
        response["content"] = {JSON_TYPE: {"schema": {"type": "object"}}}
    return response


def _portable(value: Any, name: str = "") -> Any:
    """Patterns without the anchors of Python, which JSON Schema lacks; texts without markup."""
    if isinstance(value, dict):
        return {key: _portable(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    if name == "pattern" and isinstance(value, str):
        return value.replace("\\A", "^").replace("\\Z", "$")
    return _MARKUP.sub(r"\1", value) if name == "description" else value
