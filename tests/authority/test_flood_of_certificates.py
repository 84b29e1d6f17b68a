# SPDX-License-Identifier: MIT
"""A member with more certificates than a CRL has room for is revoked as fast, and as surely, as any other."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gmesh.authority import limits
from gmesh.errors import StoreError

FEW = limits.CRL_ENTRIES_A_NODE


def flood(path: Path, serial: int, count: int) -> None:
    """So many more certificates for the node of this one, as a release without bounds gave out."""
    database = sqlite3.connect(path)
    try:
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO certificate (serial, name, node_id, noise_key, document, not_before, not_after)"
            " SELECT ? * 1000000 + i, name, node_id, noise_key, document, not_before, not_after"
            " FROM certificate, n WHERE serial = ?",
            (count, serial, serial),
        )
        database.commit()
    finally:
        database.close()


def flooding(network: Any, name: str, count: int) -> Any:
    """A member with so many certificates."""
    member = network.joined(name)
    flood(network.authority.store.path, member.certificate.body.serial, count - 1)
    return member


def crl(network: Any) -> dict[str, Any]:
    """As it is served."""
    signed: dict[str, Any] = network.ask("GET", "/crl").json["signed"]
    return signed


def revoke(network: Any, name: str) -> Any:
    """By its name."""
    return network.admin("POST", "/admin/revocations", {"node": name})


@pytest.mark.parametrize("count", [FEW, FEW + 1])
def test_a4_too_many_certificates_are_cut_by_their_key(network: Any, count: int) -> None:
    """Up to the bound the CRL names each serial; beyond, one entry for the key stands for them all."""
    member = flooding(network, "pump-1", count)
    network.joined("pump-2")
    answer = revoke(network, "pump-1")
    assert answer.status == 201
    key = member.node.key_id
    by_key = count > FEW
    assert (len(answer.json["serials"]), answer.json["keys"]) == ((0, [key]) if by_key else (FEW, []))
    listed = crl(network)
    assert listed["number"] == answer.json["crl_number"]
    assert len(listed["revoked"]) == len(answer.json["serials"])
    assert [name for name, _ in listed["revoked_keys"]] == answer.json["keys"]
    assert network.renew(member).slug == network.heartbeat(member).slug == "cert-revoked"
    rows = network.admin("GET", "/admin/certificates?limit=500").json["certificates"]
    assert {row["name"] for row in rows if row["revoked_at"] is None} == {"pump-2"}
    assert revoke(network, "pump-1").slug == "conflict"
    assert revoke(network, "pump-2").status == 201


def work(network: Any, name: str) -> tuple[int, int]:
    """Statements, and hundreds of steps of SQLite's machine, that revoking it takes."""
    statements: list[str] = []
    steps: list[None] = []
    network.clock.advance(1)  # so that a status is signed each time
    connection = network.authority.store._writer.connect()
    connection.set_trace_callback(statements.append)
    connection.set_progress_handler(lambda: steps.append(None), 100)
    try:
        assert revoke(network, name).status == 201
    finally:
        connection.set_trace_callback(None)
        connection.set_progress_handler(None, 0)
    return len(statements), len(steps)


def test_a4_the_cost_of_a_revocation_does_not_grow_with_what_its_node_made(network: Any) -> None:
    """As many statements and as much work for 20,000 certificates as for one over the bound."""
    flooding(network, "pump-1", FEW + 1)
    first = work(network, "pump-1")
    flooding(network, "pump-2", 20_000)
    second = work(network, "pump-2")
    assert second[0] == first[0]
    assert second[1] <= first[1] + 1


def test_a4_serials_are_revoked_by_one_statement(network: Any) -> None:
    """A hundred take as many statements as two."""
    flooding(network, "pump-1", 2)
    few = work(network, "pump-1")[0]
    flooding(network, "pump-2", 100)
    assert work(network, "pump-2")[0] == few


def test_a4_the_bar_stands_when_no_crl_can_be_made(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 says whom it bars; the next start makes the CRL that was owed, and so does the next revocation."""
    first, second, third = (network.joined(f"pump-{number}") for number in range(3))

    def cannot(tx: Any) -> Any:
        raise StoreError("unavailable", "no key held here may sign")

    with monkeypatch.context() as patch:
        patch.setattr(network.authority.issuer, "crl", cannot)
        refused = revoke(network, "pump-0")
        assert (refused.status, refused.slug) == (503, "unavailable")
        assert "pump-0 is revoked and barred here" in refused.json["detail"]
        assert network.renew(first).slug == "cert-revoked"
        assert network.renew(second).status == 200
    assert crl(network)["revoked"] == []
    network.restart()
    assert [entry[0] for entry in crl(network)["revoked"]] == [first.certificate.body.serial]
    with monkeypatch.context() as patch:
        patch.setattr(network.authority.issuer, "crl", cannot)
        assert revoke(network, "pump-1").status == 503
    assert revoke(network, "pump-2").status == 201
    assert [entry[0] for entry in crl(network)["revoked"]] == [
        member.certificate.body.serial for member in (first, second, third)
    ]
    rows = network.admin("GET", "/admin/audit?limit=500").json["entries"]
    assert [row["row"]["target"] for row in rows if row["row"]["action"] == "revoke"] == [
        "pump-0",
        "pump-1",
        "pump-2",
    ]
