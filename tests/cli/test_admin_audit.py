# SPDX-License-Identifier: MIT
"""gmesh admin audit: a chain that was changed or made anew passes no check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.admin_rig import show_documents
from trust.network import NOW, Network

from gmesh.authority.audit import chain_hash
from gmesh.cli import admin_audit
from gmesh.cli.http import Unreachable
from gmesh.trust.canonical import canonical
from gmesh.trust.documents import AuditHead
from gmesh.trust.floors import Floors


def _chain(count: int, changed: int = 0) -> list[dict[str, Any]]:
    entries, head = [], bytes(32)
    for seq in range(1, count + 1):
        target = "thief" if seq == changed else f"n-{seq}"
        row = {"at": NOW, "actor": "authority", "action": "invite", "target": target}
        head = chain_hash(seq, head, canonical(row))
        entries.append({"seq": seq, "hash": head.hex(), "row": row})
    return entries


def _serve_chain(end: Any, entries: list[dict[str, Any]]) -> None:
    size = len(entries)
    for after in range(size + 1):
        page = {"entries": entries[after:], "size": size, "head": "", "next": None}
        end.json(f"GET /admin/audit?after={after}&limit=500", page)
    end.json("GET /admin/audit?after=0&limit=1", {"entries": entries[:1], "size": size, "next": 1})


def _head(entries: list[dict[str, Any]], epoch: int = 0) -> AuditHead:
    return AuditHead(epoch=epoch, size=len(entries), head=entries[-1]["hash"])


def test_audit_verifies(admin: Callable[..., Any], http_end: Any, network: Network, tmp_path: Path) -> None:
    """A whole chain is good, and its head is remembered for the next check."""
    entries = _chain(5)
    _serve_chain(http_end, entries)
    show_documents(http_end, network, _head(entries[:4]))
    ended = admin("audit", "--verify", "--json")
    found = json.loads(ended.out)
    assert (ended.status, found["size"], found["head"], found["good"]) == (0, 5, entries[-1]["hash"], True)
    again = json.loads(admin("audit", "--verify", "--json").out)
    assert "the last check" in again["compared"]
    node = tmp_path / "status.json"
    node.write_bytes(network.status(audit=_head(entries[:2])).encode())
    assert str(node) in json.loads(admin("audit", "--verify", "--status", node, "--json").out)["compared"]


@pytest.mark.parametrize("harm", ["edit", "delete", "reorder"])
def test_changed_row_is_named(admin: Callable[..., Any], http_end: Any, network: Network, harm: str) -> None:
    """A row that was edited, deleted or moved is named."""
    entries = _chain(5)
    show_documents(http_end, network, _head(entries))
    if harm == "edit":
        entries[2]["row"] |= {"target": "somebody else"}
    elif harm == "delete":
        del entries[2]
    else:
        entries[2], entries[3] = entries[3], entries[2]
    _serve_chain(http_end, entries)
    ended = admin("audit", "--verify")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "audit row 3 " in ended.err


@pytest.mark.parametrize("where", ["status", "node"])
def test_rewritten_history_fits_no_earlier_head(
    admin: Callable[..., Any], http_end: Any, network: Network, tmp_path: Path, where: str
) -> None:
    """A chain cut short, or made anew from some row on, disagrees with a head that was seen before."""
    true = _chain(5)
    node = tmp_path / "status.json"
    node.write_bytes(network.status(audit=_head(true)).encode())
    show_documents(http_end, network, _head(true if where == "status" else true[:3]))
    _serve_chain(http_end, true[:3])
    ended = admin("audit", "--verify", *(["--status", node] if where == "node" else []))
    assert (ended.status, "rows are gone" in ended.err) == (1, True)
    forged = _chain(4)
    forged.append({"seq": 5, "row": {"forged": 1}, "hash": ""})
    forged[4]["hash"] = chain_hash(5, bytes.fromhex(forged[3]["hash"]), canonical({"forged": 1})).hex()
    _serve_chain(http_end, forged)
    ended = admin("audit", "--verify", "--status", node)
    assert (ended.status, "another one than" in ended.err) == (1, True)


@pytest.mark.parametrize(
    "text", ["x", '{"epoch": "a", "size": "5", "head": 7}', '{"epoch": 0, "size": 1}', "[]"]
)
def test_a_damaged_memory_of_the_last_check_is_told(
    admin: Callable[..., Any], http_end: Any, network: Network, tmp_path: Path, text: str
) -> None:
    """What is no head is not taken for one of another epoch: it would switch the comparison off."""
    _serve_chain(http_end, entries := _chain(3))
    show_documents(http_end, network, _head(entries))
    (tmp_path / "operator/audit-head.json").write_text(text)
    ended = admin("audit", "--verify")
    assert (ended.status, "audit-head.json is damaged" in ended.err) == (1, True)


def test_a14_heads_that_a_node_kept_are_compared(
    admin: Callable[..., Any], http_end: Any, network: Network, tmp_path: Path
) -> None:
    """The chain was rewritten, went on, and its newest head is signed: one that a node kept tells."""
    true, forged = _chain(6), _chain(8)
    floors = Floors()
    for size in range(1, 7):
        floors.see_audit(_head(true[:size]))
    node = tmp_path / "floors.json"
    node.write_text(json.dumps(floors.to_dict()))
    _serve_chain(http_end, forged)
    show_documents(http_end, network, _head(forged))
    assert str(node) in json.loads(admin("audit", "--verify", "--floors", node, "--json").out)["compared"]
    (tmp_path / "operator/audit-head.json").unlink()
    forged = _chain(8, changed=2)
    _serve_chain(http_end, forged)
    show_documents(http_end, network, _head(forged))
    assert admin("audit", "--verify").status == 0
    ended = admin("audit", "--verify", "--floors", node)
    assert (ended.status, f"audit row 2 is another one than {node} names" in ended.err) == (1, True)
    node.write_text("[]")
    ended = admin("audit", "--verify", "--floors", node)
    assert (ended.status, f"{node} is not floors.json" in ended.err) == (1, True)


def test_rows_of_one_action(admin: Callable[..., Any], http_end: Any) -> None:
    """--action looks through the whole chain, and shows the last of what it finds."""
    entries = _chain(5)
    entries[1]["row"]["action"] = entries[3]["row"]["action"] = "join"
    _serve_chain(http_end, entries)
    ended = admin("audit", "--action", "join", "--json")
    assert [entry["seq"] for entry in json.loads(ended.out)] == [2, 4]
    ended = admin("audit", "--action", "join", "--last", "1", "--json")
    assert [entry["seq"] for entry in json.loads(ended.out)] == [4]
    assert admin("audit", "--action", "join", "--verify").status == 2


def test_audit_export(admin: Callable[..., Any], http_end: Any, tmp_path: Path) -> None:
    """An export holds every row, one a line, and writes over nothing; one that fails leaves nothing."""
    entries = _chain(3)
    http_end.problem("GET /admin/audit?after=0", "forbidden-role", 403, "may not read")
    assert admin("audit", "export", tmp_path / "audit.jsonl").status == 1
    assert not list(tmp_path.glob("audit.jsonl*"))
    _serve_chain(http_end, entries)
    assert admin("audit", "export", tmp_path / "audit.jsonl").status == 0
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == entries
    assert admin("audit", "export", tmp_path / "audit.jsonl").status == 1


def test_audit_follows(admin: Callable[..., Any], http_end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """--follow prints what there is, then each new row once as it comes, until it is interrupted."""
    entries = _chain(4)
    _serve_chain(http_end, entries[:2])
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt
        _serve_chain(http_end, entries[: 2 + len(pauses)])

    monkeypatch.setattr(admin_audit.time, "sleep", pause)
    ended = admin("audit", "--follow", "--json", "--last", "1")
    assert [json.loads(line) for line in ended.out.splitlines()] == entries[1:]
    assert (ended.status, ended.err.strip()) == (130, "")
    pauses.clear()
    _serve_chain(http_end, entries[:2])
    lines = admin("audit", "--follow", "--after", "0").out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4"]


def test_following_outlives_a_restart(
    admin: Callable[..., Any], http_end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nobody answers it is asked again, told once, and no row is printed twice or lost."""
    entries = _chain(4)
    _serve_chain(http_end, entries[:2])
    pauses: list[float] = []
    asking = admin_audit._page

    def page(*arguments: Any) -> dict[str, Any]:
        if len(pauses) in (1, 2):
            raise Unreachable("unreachable", "nothing listens there")
        return asking(*arguments)

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise KeyboardInterrupt
        _serve_chain(http_end, entries)

    monkeypatch.setattr(admin_audit, "_page", page)
    monkeypatch.setattr(admin_audit.time, "sleep", pause)
    ended = admin("audit", "--follow", "--json")
    assert [json.loads(line) for line in ended.out.splitlines()] == entries
    assert ended.err.split("\n")[0] == "gmesh: nothing listens there: asking again"
    assert ended.err.count("asking again") == 1
