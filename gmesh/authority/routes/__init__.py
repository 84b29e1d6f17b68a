# SPDX-License-Identifier: MIT
"""One module a domain: who may call what; each handler calls one use case."""

from __future__ import annotations

from gmesh.authority.routes import admin, control, enrolment, governance, health, public
from gmesh.authority.routes.table import Route

__all__ = ["ROUTES"]

ROUTES: tuple[Route, ...] = tuple(
    row for domain in (public, enrolment, control, admin, governance, health) for row in domain.table.rows
)
