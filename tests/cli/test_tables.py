# SPDX-License-Identifier: MIT
"""Tables: whole in a pipe, one line a row on a terminal, and what is shown in short can be typed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trust.network import NOW

from gmesh.cli import output

IDS = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"]
KEY = "k" * 43
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
NODES = {
    "nodes": [
        {
            "name": name,
            "node_id": node_id,
            "roles": roles,
            "serial": serial,
            "not_after": NOW,
            "last_seen": NOW,
            "revoked": False,
        }
        for name, node_id, roles, serial in (
            ("pump-07", IDS[0], ["client"], 7),
            ("a-pump-with-a-name-that-is-as-long-as-names-may-be-which-is-sixty", IDS[1], ["anchor"], 2**52),
        )
    ]
}
COMMANDS = {
    "commands": [
        {
            "number": 1,
            "id": IDS[0],
            "command": "update-bootstrap",
            "target": {"node": "pump-07"},
            "created_by": IDS[1],
            "issued_at": NOW,
            "expires_at": NOW,
        }
    ]
}
CERTIFICATES = {
    "certificates": [
        {
            "serial": 2**52,
            "name": "pump-07",
            "node_id": IDS[0],
            "not_before": NOW,
            "not_after": NOW,
            "revoked_at": NOW,
            "reason": "cessation-of-operation",
        }
    ]
}
APPROVALS = {
    "approvals": [
        {
            "id": IDS[0] * 2,
            "method": "DELETE",
            "target": f"/admin/operators/{IDS[1]}",
            "votes": [1],
            "expires_at": NOW,
        }
    ]
}
INVITES = {
    "invites": [
        {
            "id": IDS[0],
            "name": "pump-07",
            "roles": ["client", "service:thermostat"],
            "state": "open",
            "expires_at": NOW,
        }
    ]
}
ENROLMENTS = {
    "enrolments": [
        {
            "id": IDS[0],
            "name": "pump-07",
            "roles": ["client"],
            "node_id": IDS[1],
            "node_key": KEY,
            "state": "pending",
            "requested_at": NOW,
        }
    ]
}
OPERATORS = {
    "operators": [
        {
            "key_id": IDS[0],
            "role": "administer",
            "name": "Ada Lovelace",
            "added_at": NOW,
            "added_by": IDS[1],
        }
    ]
}
AUDIT = {
    "size": 1,
    "entries": [
        {
            "seq": 1,
            "row": {
                "at": NOW,
                "actor": IDS[0],
                "action": "node-revoked",
                "target": IDS[1],
                "outcome": "done",
                "more": KEY,
            },
        }
    ],
}
LISTS = [
    (["nodes"], "GET /admin/nodes", NODES, 2),
    (["commands"], "GET /admin/commands", COMMANDS, 1),
    (["certificates"], "GET /admin/certificates", CERTIFICATES, 1),
    (["approvals"], "GET /admin/approvals", APPROVALS, 1),
    (["invites"], "GET /admin/invites", INVITES, 1),
    (["enrolments"], "GET /admin/enrolments", ENROLMENTS, 1),
    (["operators"], "GET /admin/operators", OPERATORS, 1),
]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes standard output a terminal of so many columns."""

    def become(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", "24")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    return become


def _lines(ended: Any) -> list[str]:
    assert (ended.status, ended.err) == (0, "")
    return [line.rstrip() for line in ESCAPES.sub("", ended.out).splitlines()]


@pytest.mark.parametrize(("command", "request_line", "answer", "rows"), LISTS)
def test_b17_a_row_is_one_line_of_80_columns(
    admin: Callable[..., Any],
    http_end: Any,
    terminal: Callable[[int], None],
    command: list[str],
    request_line: str,
    answer: Any,
    rows: int,
) -> None:
    """With the beginnings of ids; C{--wide} and C{--json} show them whole."""
    http_end.json(request_line, answer)
    terminal(80)
    lines = _lines(admin(*command))
    assert len(lines) == 1 + rows
    assert max(map(len, lines)) <= 80
    assert IDS[0][:8] in lines[1] and IDS[0] not in lines[1]
    assert IDS[0] in _lines(admin(*command, "--wide"))[1]
    assert len(_lines(admin(*command, "--wide"))) == 1 + rows
    assert IDS[0] in admin(*command, "--json").out


def test_b17_the_audit_too(admin: Callable[..., Any], http_end: Any, terminal: Callable[[int], None]) -> None:
    """Its long texts are cut."""
    http_end.json("GET /admin/audit?after=0&limit=1", AUDIT)
    http_end.json("GET /admin/audit?after=0&limit=500", AUDIT)
    http_end.json("GET /admin/audit?after=1&limit=500", {"size": 1, "entries": []})
    terminal(80)
    lines = _lines(admin("audit"))
    assert len(lines) == 2 and max(map(len, lines)) <= 80


def test_b17_a_terminal_with_room_and_a_pipe_get_all(
    admin: Callable[..., Any], http_end: Any, terminal: Callable[[int], None]
) -> None:
    """Nothing is shortened for nothing, and nothing at all for a program."""
    http_end.json("GET /admin/commands", COMMANDS)
    assert IDS[0] in _lines(admin("commands"))[1]
    terminal(200)
    assert IDS[0] in _lines(admin("commands"))[1]


@pytest.mark.parametrize(
    ("arguments", "listed", "answer", "request_line"),
    [
        (["invites", "withdraw"], "GET /admin/invites", INVITES, f"DELETE /admin/invites/{IDS[0]}"),
        (
            ["enrolments", "approve"],
            "GET /admin/enrolments",
            ENROLMENTS,
            f"POST /admin/enrolments/{IDS[0]}",
        ),
        (["operators", "remove"], "GET /admin/operators", OPERATORS, f"DELETE /admin/operators/{IDS[0]}"),
        (["commands", "show"], "GET /admin/commands", COMMANDS, f"GET /admin/commands/{IDS[0]}"),
    ],
)
def test_b17_what_is_shown_of_an_id_can_be_typed(
    admin: Callable[..., Any],
    http_end: Any,
    arguments: list[str],
    listed: str,
    answer: dict[str, Any],
    request_line: str,
) -> None:
    """Its rest is looked up; where two begin so, or none, nothing is done."""
    http_end.json(listed, answer)
    http_end.json(request_line, {})
    assert admin(*arguments, IDS[0][:8]).status == 0
    done = [f"{method} {target}" for method, target, _, _ in http_end.requests].count(request_line)
    assert done == 1
    ((member, rows),) = answer.items()
    http_end.json(listed, {member: rows * 2})
    for beginning in (IDS[0][:8], "00000000"):
        ended = admin(*arguments, beginning)
        assert (ended.status, ended.err.count("\n")) == (1, 1)
    asked = [f"{method} {target}" for method, target, _, _ in http_end.requests].count(request_line)
    assert asked == done


def test_b17_an_approval_is_found_by_the_beginning_of_its_id(
    admin: Callable[..., Any], http_end: Any
) -> None:
    """As the list shows it."""
    http_end.json("GET /admin/approvals", APPROVALS)
    http_end.json(f"GET /admin/approvals/{IDS[0] * 2}", APPROVALS["approvals"][0])
    http_end.json(f"DELETE /admin/operators/{IDS[1]}", {})
    assert admin("approvals", "approve", IDS[0][:8], "--yes").status == 0


LONG = "a-pump-with-a-name-that-is-as-long-as-names-may-be-which-is-sixty"
PATH = [LONG, "b", LONG]
ADDRESS = "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535"
LOCAL = [
    (
        ["peers"],
        [{"name": LONG, "node_id": IDS[0], "address": ADDRESS, "rtt_ms": 12345.678, "roles": ["anchor"]}],
    ),
    (["routes"], [{"name": LONG, "path": PATH, "cost": 65_535_000}]),
    (["nodes"], [{"name": LONG, "node_id": IDS[0], "roles": ["client", "service:log"], "reachable": True}]),
    (["transits"], [{"path": PATH, "kind": "E2E_INIT", "bytes": 65_535, "frames": 2**40, "first": NOW}]),
]


@pytest.mark.parametrize(("command", "answer"), LOCAL)
def test_b17_what_the_node_of_this_host_lists_too(
    run: Callable[..., Any],
    node_end: Any,
    terminal: Callable[[int], None],
    command: list[str],
    answer: Any,
) -> None:
    """The longest names, paths and addresses."""
    node_end.json(f"GET /v1/{command[0]}", answer)
    terminal(80)
    lines = _lines(run(*command, "--control", node_end.where))
    assert len(lines) == 2 and max(map(len, lines)) <= 80
    assert len(_lines(run(*command, "--control", node_end.where, "--wide"))) == 2


def test_b17_whoever_prints_a_table_takes_wide() -> None:
    """No module with a table has a command that lists and cannot be told to show all."""
    printing = {
        file.stem
        for file in Path(output.__file__).parent.glob("*.py")
        if re.search(r"^    +(?:table|listing)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    asked = {
        file.stem
        for file in Path(output.__file__).parent.glob("*.py")
        if "wide_option" in file.read_text(encoding="utf-8")
    }
    assert printing - asked == {"recovery"}  # its one table is shown before a question, for it alone
    assert not [
        file.name
        for file in Path(output.__file__).parent.glob("*.py")
        if "rich.table" in file.read_text(encoding="utf-8") and file.stem not in ("output", "watch")
    ]
