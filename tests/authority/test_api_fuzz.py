# SPDX-License-Identifier: MIT
"""Schemathesis against the API description: no 500, and no answer that is not declared."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from gmesh.authority.openapi import describe
from gmesh.authority.rate_limit import RateLimits, RequestRate
from gmesh.authority.route import Access, Route
from gmesh.authority.routes import ROUTES
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.signed_requests import ADMIN_TAG, JOIN_TAG, NODE_TAG

requests = pytest.importorskip("requests", reason="Schemathesis sends with it")
schemathesis = pytest.importorskip("schemathesis", reason="Schemathesis is on PyPI only")
conformance = pytest.importorskip("schemathesis.specs.openapi.checks")

CHECKS: list[Any] = [
    pytest.importorskip("schemathesis.checks").not_a_server_error,
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_schema_conformance,
]
SCHEMA = schemathesis.openapi.from_dict(describe(ROUTES))
EXAMPLES = 15


@pytest.fixture
def rates() -> RateLimits:
    """No bucket ends the fuzzing."""
    many = RequestRate(10**8, 1e8)
    return RateLimits(many, many, many)


def genuine(network: Any, name: str, value: Any) -> Any:
    """In the place of what looks like a key or a certificate, one that is good."""
    if name == "certificate":
        return network.fuzzed.certificate.as_dict()
    is_key = isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{43}", value)
    return b64url_encode(network.keys.signing().public) if is_key else value


def sent(network: Any, route: Route, case: Any) -> Any:
    """Send a generated case, signed by somebody who may, and give the answer to Schemathesis."""
    target = case.formatted_path + (f"?{urlencode(case.query, doseq=True)}" if case.query else "")
    value = case.body
    if isinstance(value, dict):
        value = {name: genuine(network, name, item) for name, item in value.items()}
    body = b"" if route.body is None else json.dumps(value, default=str).encode()
    headers = {"Content-Type": "application/json"}
    key, tag = network.keys.admin, ADMIN_TAG
    if route.access in (Access.JOIN, Access.NODE):
        key, tag = network.fuzzed.node, JOIN_TAG if route.access is Access.JOIN else NODE_TAG
    if route.access is not Access.PUBLIC:
        headers = network.signed(key, route.method, target, body, tag)
    network.clock.advance(0.01)
    got: list[Any] = []
    network.begin(route.method, target, headers, body).addBoth(got.append)
    network.treq.flush()
    if not got:
        network.clock.advance(26)
        network.treq.flush()
    asked = requests.Request(route.method, f"http://authority.example{target}", headers, data=body).prepare()
    raw = {
        name.decode(): [value.decode() for value in values]
        for name, values in got[0].headers.getAllRawHeaders()
    }
    return schemathesis.Response(got[0].status, raw, got[0].body, asked, 0.01, False)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_fuzzing_finds_no_500_and_no_undeclared_answer(network: Any, route: Route) -> None:
    """Whatever fits the description, or nearly does, is answered as the description says."""
    network.fuzzed = network.joined("pump-1")
    path = re.sub(r"<[^>]*:(\w+)>", r"{\1}", route.path)
    operation = SCHEMA[path][route.method]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    )
    def fuzz(case: Any) -> None:
        case.validate_response(sent(network, route, case), checks=CHECKS)

    fuzz()
