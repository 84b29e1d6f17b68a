# SPDX-License-Identifier: MIT
"""A member is revoked as fast, and as surely, as any other, whatever number of certificates it has."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from authority.network import Member, Network
from authority.test_revoked_model import certificate_of

from gmesh.authority import limits
from gmesh.errors import StoreError
from gmesh.trust.documents import Certificate, parse_document
from gmesh.trust.encoding import b64url_encode

DAY = 86_400


LAST_SERIAL = "SELECT n FROM counter WHERE name = 'serial'"


def flood(network: Network, serial: int, count: int) -> None:
    """So many more certificates for the node of this one, with the next serials."""
    ((last,),) = network.rows(LAST_SERIAL)
    network.change(*flooding_statements(last, serial, count))


def flooding_statements(last: int, serial: int, count: int) -> tuple[str, ...]:
    """What makes them, where C{last} is the newest serial."""
    return (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <= {count})"
        " INSERT INTO certificate (serial, name, node_id, noise_key, document, not_before, not_after)"
        f" SELECT {last} + i, name, node_id, noise_key, document, not_before, not_after + mod(i, 1000)"
        f" FROM certificate, n WHERE serial = {serial} AND i <= {count}",
        f"UPDATE counter SET n = n + {count} WHERE name = 'serial'",
        f"UPDATE node SET serial = {last + count if count else serial} WHERE serial = {serial}",
    )


def flooding(network: Network, name: str, count: int) -> Member:
    """A member with so many certificates."""
    member = network.joined(name)
    assert member.certificate is not None
    flood(network, member.certificate.body.serial, count - 1)
    return member


def crl(network: Network) -> dict[str, Any]:
    """As it is served."""
    signed: dict[str, Any] = network.ask("GET", "/crl").json["signed"]
    return signed


def revoke(network: Network, name: str) -> Any:
    """By its name."""
    return network.admin("POST", "/admin/revocations", {"node": name})


@pytest.mark.parametrize("count", [1, 2, 5000])
def test_a4_a_node_is_one_entry(network: Network, count: int) -> None:
    """It names the node, the next serial, and the last end of all; each certificate counts as revoked."""
    member = flooding(network, "pump-1", count)
    network.joined("pump-2")
    answer = revoke(network, "pump-1")
    key, certificate = member.node.key_id, member.certificate
    assert certificate is not None
    assert (answer.status, answer.json["serials"], answer.json["keys"]) == (201, [], [])
    assert answer.json["nodes"] == [key]
    listed = crl(network)
    assert listed["number"] == answer.json["crl_number"]
    last = certificate.body.not_after + min(count - 1, 999)
    assert listed["revoked_nodes"] == [[key, count + 2, last, 0]]
    assert (listed["revoked"], listed["revoked_keys"]) == ([], [])
    assert network.renew(member).slug == network.heartbeat(member).slug == "cert-revoked"
    rows = network.admin("GET", f"/admin/certificates?after={max(0, count - 400)}&limit=500").json[
        "certificates"
    ]
    assert {row["name"] for row in rows if row["revoked_at"] is None} == {"pump-2"}
    assert revoke(network, "pump-1").slug == "conflict"
    assert revoke(network, "pump-2").status == 201


def test_a4_a_node_that_is_admitted_again_gets_serials_above_the_bound(network: Network) -> None:
    """Its new certificate is good, its old ones stay revoked; revoked again it is one entry still."""
    member = flooding(network, "pump-1", 3)
    old = member.certificate
    assert revoke(network, "pump-1").status == 201
    ((_, bound, _, _),) = crl(network)["revoked_nodes"]
    again = network.invite("pump-1")
    again.node, again.noise = member.node, member.noise
    assert network.join(again).status == 201
    assert again.certificate is not None and again.certificate.body.serial >= bound
    assert network.heartbeat(again).status == 200
    network.clock.advance(DAY / 2)
    assert network.renew(again).status == 201
    again.certificate = old
    assert network.heartbeat(again).slug == network.renew(again).slug == "cert-revoked"
    assert revoke(network, "pump-1").status == 201
    ((node_id, higher, _, _),) = crl(network)["revoked_nodes"]
    assert (node_id, higher) == (member.node.key_id, bound + 2)


def work(network: Network, name: str) -> tuple[int, int]:
    """Statements, and hundreds of steps of SQLite's machine, that revoking it takes."""
    statements: list[str] = []
    steps: list[None] = []
    network.clock.advance(1)  # so that a status is signed each time
    writer: Any = network.authority.store._writer
    connection = writer.connect()
    connection.set_trace_callback(statements.append)
    connection.set_progress_handler(lambda: steps.append(None), 100)
    try:
        assert revoke(network, name).status == 201
    finally:
        connection.set_trace_callback(None)
        connection.set_progress_handler(None, 0)
    return len(statements), len(steps)


@pytest.mark.sqlite("counts the steps of its machine")
def test_a4_the_cost_of_a_revocation_does_not_grow_with_what_its_node_made(network: Network) -> None:
    """As many statements and as much work for 20,000 certificates as for one."""
    flooding(network, "pump-1", 1)
    first = work(network, "pump-1")
    flooding(network, "pump-2", 20_000)
    second = work(network, "pump-2")
    assert second[0] == first[0]
    assert second[1] - first[1] < 20  # one step for each certificate would be 200; releases of SQLite differ


def test_a4_the_bar_stands_when_no_crl_can_be_made(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert crl(network)["revoked_nodes"] == []
    network.restart()
    assert [entry[0] for entry in crl(network)["revoked_nodes"]] == [first.node.key_id]
    with monkeypatch.context() as patch:
        patch.setattr(network.authority.issuer, "crl", cannot)
        assert revoke(network, "pump-1").status == 503
    assert revoke(network, "pump-2").status == 201
    assert [entry[0] for entry in crl(network)["revoked_nodes"]] == sorted(
        member.node.key_id for member in (first, second, third)
    )
    rows = network.admin("GET", "/admin/audit?limit=500").json["entries"]
    assert [row["row"]["target"] for row in rows if row["row"]["action"] == "revoke"] == [
        "pump-0",
        "pump-1",
        "pump-2",
    ]


def stored(network: Network) -> list[int]:
    """The serials of the certificates that are kept."""
    found: list[int] = []
    network.authority.store.read(
        lambda reader: [row[0] for row in reader.all("SELECT serial FROM certificate ORDER BY serial")]
    ).addCallback(found.extend)
    return found


def test_a4_certificates_past_their_end_and_grace_go(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for a member's newest and those revoked alone; a few at a time; the audit of all of them stays."""
    monkeypatch.setattr(limits, "PRUNE_ROWS", 4)
    member, other = flooding(network, "pump-1", 10), network.joined("pump-2")
    newest = stored(network)[-2:]
    assert network.admin("POST", "/admin/revocations", {"serial": 3}).status == 201
    network.clock.advance(31 * DAY)
    network.clock.advance(limits.PRUNE_SECONDS)
    assert len(stored(network)) == 11, "in grace they can be renewed"
    network.clock.advance(DAY)
    for _ in range(4):
        network.clock.advance(limits.PRUNE_SECONDS)
    assert stored(network) == [3, *newest]
    assert network.renew(member).slug == "unknown-certificate"
    assert network.renew(other).slug == "cert-expired"
    rows = network.admin("GET", "/admin/audit?limit=500").json["entries"]
    assert [row["row"]["target"] for row in rows if row["row"]["action"] == "join"] == ["pump-1", "pump-2"]


def test_a4_noise_keys_go_with_the_last_certificate_that_names_them(network: Network) -> None:
    """A member that takes a new one each time leaves none behind, though certificates come all the while."""
    changing, faithful = network.joined("pump-1"), network.joined("pump-2")
    for _ in range(55):
        network.clock.advance(15 * 3600)
        changing.noise = network.keys.noise()
        for member in (changing, faithful):
            answer = network.renew(member)
            assert answer.status == 201, answer.body
            member.certificate = certificate_of(answer.json["certificate"])
    tied = tied_noise_keys(network)
    certified = named_noise_keys(network)
    assert tied == certified and len(tied) < 57
    network.clock.advance(33 * DAY)
    for _ in range(3):
        network.clock.advance(limits.PRUNE_SECONDS)
    newest = {b64url_encode(member.noise.public) for member in (changing, faithful)}
    assert tied_noise_keys(network) == newest
    thief = network.invite("pump-3")
    thief.noise = faithful.noise
    assert network.join(thief).slug == "key-taken"


def tied_noise_keys(network: Network) -> set[str]:
    """Those that no other node may have."""
    return column(network, "SELECT noise_key FROM noise_key")


def named_noise_keys(network: Network) -> set[str]:
    """Those of the certificates that are kept."""
    return column(network, "SELECT noise_key FROM certificate")


def column(network: Network, asked: str) -> set[str]:
    found: set[str] = set()
    network.authority.store.read(lambda reader: {row[0] for row in reader.all(asked)}).addCallback(
        found.update
    )
    return found


def test_a4_pruning_looks_at_a_few_at_a_time(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round goes on where the one before ended, and begins again at the end."""
    monkeypatch.setattr(limits, "PRUNE_ROWS", 100)
    member = flooding(network, "pump-1", 250)
    assert member.certificate is not None
    network.clock.advance(33 * DAY)
    left = [len(stored(network))]
    for _ in range(3):
        network.clock.advance(limits.PRUNE_SECONDS)
        left.append(len(stored(network)))
    assert left == [150, 50, 1, 1]


@pytest.mark.sqlite("migrates a file of an older release")
def test_a4_a_file_of_the_format_before_is_replaced_at_the_next_start(network: Network) -> None:
    """Nodes that an older release revoked by their serials are on the CRL after the migration, by those."""
    member = network.joined("pump-1")
    assert member.certificate is not None
    body = parse_document(member.certificate.encode(), Certificate).body
    network.stop()
    database = sqlite3.connect(network.path / "authority.sqlite")
    database.execute("DROP TABLE revoked_node")
    database.execute("DROP INDEX revoked_key_crl_number")
    database.execute("DELETE FROM migration WHERE name = 'revoked_nodes'")
    database.execute(
        "UPDATE crl SET document = CAST(replace(CAST(document AS TEXT), '\"revoked_nodes\":[],', '') AS BLOB)"
    )
    database.execute("UPDATE certificate SET revoked_at = 1, reason = 0")
    database.execute("UPDATE node SET barred_at = 1")
    database.execute(
        "INSERT INTO revoked_certificate (serial, not_after, reason, crl_number)"
        " SELECT serial, not_after, reason, 1 FROM certificate"
    )
    database.commit()
    database.close()
    network.clock.advance(1)
    network.start()
    listed = crl(network)
    assert listed["revoked"] == [[body.serial, body.not_after, 0]]
    assert (listed["number"], listed["revoked_nodes"]) == (2, [])
    assert network.renew(member).slug == "cert-revoked"
