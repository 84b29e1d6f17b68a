# SPDX-License-Identifier: MIT
"""What the authority says of itself: its API description and its reference, held against the routes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gmesh.authority.openapi import describe
from gmesh.authority.problems import STATUSES
from gmesh.authority.route import Access
from gmesh.authority.routes import ROUTES


def test_every_route_is_described(network: Any) -> None:
    """The document and the routes tell of the same methods, paths, bodies and arguments."""
    served = network.ask("GET", "/openapi.json").json
    assert served == json.loads(json.dumps(describe(ROUTES)))
    told = {
        (method.upper(), path): operation
        for path, operations in served["paths"].items()
        for method, operation in operations.items()
    }
    assert len(told) == len(ROUTES)
    for route in ROUTES:
        path = re.sub(r"<[^>]*:(\w+)>", r"{\1}", route.path)
        operation = told[route.method, path]
        assert ("requestBody" in operation) == (route.body is not None)
        assert ("security" in operation) == (route.access is not Access.PUBLIC)
        inside = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert inside >= set(route.query)
        assert operation["summary"]
    assert "\\A" not in json.dumps(served) and "C{" not in json.dumps(served)


REFERENCE = (Path(__file__).resolve().parents[2] / "docs/http-api.rst").read_text()


def test_the_reference_names_every_route_and_every_reason() -> None:
    """docs/http-api.rst: each method with its path, each slug under its status."""
    for route in ROUTES:
        path = re.sub(r"<[^>]*:(\w+)>", "<", route.path)
        assert f"{route.method} {path}" in REFERENCE, route.name
    rows: dict[int, set[str]] = {}
    for line in re.search(r"status slugs\n=.*?\n(.*?)\n=", REFERENCE, re.DOTALL)[1].splitlines():  # type: ignore[index]  # there
        status = int(line[:3]) if line[:3].strip() else max(rows)
        rows.setdefault(status, set()).update(re.findall(r"``([a-z0-9-]+)``", line))
    for slug, status in STATUSES.items():
        assert slug in rows.get(status, ()), (status, slug)
