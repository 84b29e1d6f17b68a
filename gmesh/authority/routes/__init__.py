# SPDX-License-Identifier: MIT
"""One module per subject: who may ask what; each handler calls one use case."""

from __future__ import annotations

from gmesh.authority.route import Route
from gmesh.authority.routes import (
    admissions,
    approvals,
    audit,
    backups,
    commands,
    enrolment,
    health,
    invites,
    members,
    operators,
    policies,
    published,
    replicas,
    revocations,
)

__all__ = ["ROUTES"]

ROUTES: tuple[Route, ...] = tuple(
    row
    for subject in (
        published,
        enrolment,
        admissions,
        members,
        invites,
        revocations,
        policies,
        operators,
        approvals,
        commands,
        audit,
        backups,
        replicas,
        health,
    )
    for row in subject.table.rows
)
