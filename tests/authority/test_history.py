# SPDX-License-Identifier: MIT
"""An older copy of the state put back, and a second authority with the same key: told, and stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert

from gmesh.authority import limits
from gmesh.trust.documents import Certificate, Crl, Document, Status, parse_document, sign_document
from gmesh.trust.encoding import b64url_encode


def status_of(network: Any) -> Document[Status]:
    return parse_document(network.ask("GET", "/status").body, Status)


def shows(network: Any, member: Any, status: Document[Status] | None, **more: Any) -> Any:
    """A heartbeat that carries a status, and the answer."""
    network.clock.advance(0.01)
    value = {
        "certificate": member.certificate.as_dict(),
        "sent_ms": int(network.wall() * 1000),
        "numbers": {"genesis": 1, "policy": 1, "crl": 1, "status": 1},
        **({} if status is None else {"status": status.as_dict()}),
        **more,
    }
    return network.node(member, "/heartbeat", value)


class Drill:
    """An authority whose state directory of an hour ago is put back, or runs on beside it."""

    def __init__(self, network: Any, place: Path) -> None:
        self.network = network
        self.place = place
        self.member = network.joined("pump-1")
        network.stop()
        network.keep(place / "yesterday")
        network.clock.advance(1)
        network.start()

    def put_back(self) -> None:
        """The whole state directory, as a snapshot of the machine does."""
        self.network.stop()
        self.network.put_back(self.place / "yesterday")
        self.network.clock.advance(1)
        self.network.start()

    def refused(self) -> list[tuple[int, str]]:
        """What becomes of each request that would have something issued."""
        network = self.network
        answers = [
            network.admin("POST", "/admin/revocations", {"node": "pump-1"}),
            network.admin(
                "POST", "/admin/operators", {"key": b64url_encode(bytes([9] * 32)), "role": "read"}
            ),
            network.renew(self.member, network.keys.noise()),
            network.ask("GET", "/readyz"),
        ]
        return [(answer.status, answer.slug) for answer in answers]


@pytest.fixture
def drill(network: Any, tmp_path: Path) -> Drill:
    return Drill(network, tmp_path)


NOTHING = [(503, "another-history")] * 4


def test_a5_a_copy_of_yesterday_stops_when_a_node_shows_what_it_never_published(
    drill: Drill, logged: list[str]
) -> None:
    network = drill.network
    network.joined("traitor")
    network.admin("POST", "/admin/revocations", {"node": "traitor", "reason": "key-compromise"})
    network.clock.advance(2)
    held = status_of(network)
    drill.put_back()
    before = status_of(network)
    assert before.body.number < held.body.number
    assert network.ask("GET", "/readyz").status == 200
    assert shows(network, drill.member, held).status == 200
    assert drill.refused() == NOTHING
    lines = len(logged)
    for _ in range(100):
        network.clock.advance(2 * limits.STATUS_SECONDS / 100)
        shows(network, drill.member, held)
    assert [line for line in logged[lines:] if not line.startswith("POST /heartbeat 200")] == []
    assert status_of(network).digest == before.digest
    assert len([line for line in logged if line.startswith("ALARM")]) == 1
    network.restart()
    assert drill.refused() == NOTHING
    assert status_of(network).digest == before.digest
    detail = network.ask("GET", "/readyz").json["detail"]
    assert f"status {held.body.number}" in detail or "what nodes hold" in detail
    assert "gmesh restore" in detail


def test_a5_d1_a_certificate_above_all_serials_is_noticed_without_a_status(drill: Drill) -> None:
    network = drill.network
    young = network.joined("pump-2")
    drill.put_back()
    assert network.renew(young).slug == "unknown-certificate"
    assert drill.refused() == NOTHING


def test_a6_two_authorities_with_one_key_stop_when_one_serial_is_shown_twice(drill: Drill) -> None:
    network = drill.network
    young = network.joined("pump-2")
    drill.put_back()
    other = network.joined("pump-3")
    assert young.certificate.body.serial == other.certificate.body.serial
    assert shows(network, young, None).slug == "unknown-certificate"
    assert drill.refused() == NOTHING


def test_a6_two_statuses_of_one_number_are_noticed(drill: Drill) -> None:
    network = drill.network
    network.clock.advance(2 * limits.STATUS_SECONDS)
    theirs = status_of(network)
    drill.put_back()
    while status_of(network).body.number < theirs.body.number:
        network.clock.advance(limits.STATUS_SECONDS)
    ours = status_of(network)
    assert (ours.body.number, ours.body.instance) == (theirs.body.number, theirs.body.instance)
    assert ours.digest != theirs.digest
    shows(network, drill.member, theirs)
    assert drill.refused() == NOTHING


def test_a5_evidence_lasts_when_the_numbers_have_caught_up(drill: Drill) -> None:
    """The copy has published as many statuses by now: its audit did not go through what was shown."""
    network = drill.network
    network.joined("pump-2")
    network.clock.advance(2 * limits.STATUS_SECONDS)
    held = status_of(network)
    drill.put_back()
    network.joined("pump-3")
    while status_of(network).body.number <= held.body.number:
        network.clock.advance(limits.STATUS_SECONDS)
    assert status_of(network).body.instance == held.body.instance
    assert shows(network, drill.member, held).status == 200
    assert drill.refused() == NOTHING


def test_a_status_of_our_own_past_is_no_evidence(drill: Drill) -> None:
    network = drill.network
    network.joined("pump-2")
    held = status_of(network)
    network.clock.advance(3 * limits.STATUS_SECONDS)
    assert held.body.number < status_of(network).body.number
    assert shows(network, drill.member, held).status == 200
    assert network.ask("GET", "/readyz").status == 200


def test_a5_a_stopped_authority_ends_without_a_traceback(drill: Drill) -> None:
    """Who was heard of, and whose requests were refused, cannot be written down any more."""
    network = drill.network
    network.joined("traitor")
    network.clock.advance(2 * limits.STATUS_SECONDS)
    held = status_of(network)
    drill.put_back()
    for _ in range(3):
        body = {"key": b64url_encode(bytes([9] * 32)), "role": "read"}
        assert network.admin("POST", "/admin/operators", body, network.keys.reader).slug == "forbidden-role"
    shows(network, drill.member, held)
    assert drill.refused() == NOTHING
    network.stop()
    network.clock.advance(1)
    network.start()


def test_a6_two_restores_of_one_day_are_two_authorities(network: Any, tmp_path: Path) -> None:
    member = network.joined("pump-1")
    network.stop()
    network.keep(tmp_path / "before")
    for place in ("one", "two"):
        network.put_back(tmp_path / "before")
        network.restore(accept_lost_revocations=True)
        network.keep(tmp_path / place)
    held = []
    for place in ("one", "two"):
        network.put_back(tmp_path / place)
        network.clock.advance(1)
        network.start()
        held.append(status_of(network))
        if place == "one":
            network.stop()
    assert held[0].body.instance != held[1].body.instance
    shows(network, member, held[0])
    assert network.ask("GET", "/readyz").slug == "another-history"


def forged(held: Document[Status], network: Any) -> Document[Status]:
    """Above everything, but signed by the member."""
    return sign_document(raised(held), [network.keys.signing()])


def raised(held: Document[Status], **more: Any) -> Status:
    signed = {**held.signed, "number": held.body.number + 1000, **more}
    return convert(signed, Status)


def replayed(held: Document[Status], network: Any) -> Document[Status]:
    """What this authority published, long ago."""
    return held


def elsewhere(held: Document[Status], network: Any) -> Document[Status]:
    """Signed with the authority's key for another network that it serves, too."""
    return sign_document(raised(held, network_id="ab" * 16), [network.keys.authority])


@pytest.mark.parametrize("make", [forged, replayed, elsewhere])
def test_a5_no_member_can_fake_the_evidence(network: Any, make: Callable[..., Document[Status]]) -> None:
    member = network.joined("pump-1")
    shown = make(status_of(network), network)
    network.clock.advance(2 * limits.STATUS_SECONDS)
    assert shows(network, member, shown).status == 200
    assert network.ask("GET", "/readyz").status == 200
    network.joined("pump-2")


def test_a5_a_restore_is_the_way_out(drill: Drill) -> None:
    network = drill.network
    young = network.joined("pump-2")
    network.clock.advance(2)
    held = status_of(network)
    (drill.place / "crl.json").write_bytes(network.ask("GET", "/crl").body)
    (drill.place / "policy.json").write_bytes(network.ask("GET", "/policy").body)
    drill.put_back()
    shows(network, young, held)
    assert network.ask("GET", "/readyz").slug == "another-history"
    network.stop()
    network.restore(
        None,
        [drill.place / "crl.json"],
        [drill.place / "policy.json"],
    )
    network.clock.advance(1)
    network.start()
    assert network.ask("GET", "/readyz").status == 200
    status = status_of(network)
    assert status.body.number > held.body.number and status.body.instance != held.body.instance
    shows(network, young, held)
    assert network.ask("GET", "/readyz").status == 200, "what was held before the restore is no alarm"
    serials = [network.joined(name).certificate.body.serial for name in ("pump-3", "pump-4")]
    assert young.certificate.body.serial not in serials


def test_c16_d8_the_authority_names_the_addresses_of_two_hosts_with_one_key(
    network: Any, logged: list[str]
) -> None:
    member = network.joined("pump-1")
    shows(network, member, None, boot_id="11" * 8)
    shows(network, member, None, boot_id="22" * 8)

    def row() -> Any:
        (found,) = network.admin("GET", "/admin/nodes").json["nodes"]
        return found

    assert row()["hosts"] == [], "a restart"
    for _ in range(20):
        shows(network, member, None, boot_id="11" * 8)
        shows(network, member, None, boot_id="22" * 8, faults=["twin:pump-1"])
    assert row()["hosts"] and row()["faults"] == ["twin:pump-1"]
    assert len([line for line in logged if "two hosts" in line]) == 1
    network.clock.advance(limits.TWIN_SECONDS + 1)
    shows(network, member, None, boot_id="22" * 8)
    assert row()["hosts"] == [], "the other one was stopped"


def test_a5_an_operator_hears_which_crl_nodes_must_name(network: Any) -> None:
    network.joined("traitor")
    member = network.joined("pump-1")
    answer = network.admin("POST", "/admin/revocations", {"node": "traitor"}).json
    crl = parse_document(network.ask("GET", "/crl").body, Crl)
    assert (answer["crl_number"], answer["crl_digest"]) == (crl.body.number, crl.digest)
    said = {"genesis": 1, "policy": 1, "crl": crl.body.number, "crl_digest": crl.digest, "status": 1}
    shows(network, member, None, numbers=said)
    for _ in range(2):
        rows = {row["name"]: row for row in network.admin("GET", "/admin/nodes").json["nodes"]}
        assert rows["pump-1"]["numbers"] == said
        network.clock.advance(limits.PRESENCE_FLUSH_SECONDS)


def test_a_certificate_of_nobody_is_no_evidence(network: Any) -> None:
    member = network.joined("pump-1")
    body = {**member.certificate.signed, "serial": member.certificate.body.serial + 5}
    member.certificate = sign_document(convert(body, Certificate), [network.keys.signing()])
    assert json.loads(shows(network, member, None).body)["type"].endswith("unknown-certificate")
    assert network.ask("GET", "/readyz").status == 200


def test_a_member_is_heard_with_all_it_reports_after_a_restart(network: Any) -> None:
    member = network.joined("pump-1")
    status = status_of(network)
    network.restart()
    network.clock.advance(2)
    answer = shows(network, member, status, boot_id="11" * 8, faults=["twin:pump-1"])
    assert answer.status == 200, answer.body


def test_whatever_number_a_database_draws_its_status_is_read(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.randbits", lambda bits: 2**bits - 1)
    fresh = type(network)(tmp_path / "fresh", network.rates)
    status = status_of(fresh)
    fresh.restart()
    assert status_of(fresh).body.instance == status.body.instance
    fresh.stop()
